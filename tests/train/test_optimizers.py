"""AdamW against its paper's algorithm in NumPy float64."""

import numpy as np
import torch
from torch import nn

from fasttail.config import OptimConfig
from fasttail.train import optimizers

OPTIM = OptimConfig(
    optimizer="adamw", lr=0.05, lr_batch_size=512, momentum=0.8, beta2=0.95, weight_decay=0.1
)


def test_adamw_is_algorithm_2_and_leaves_norms_and_biases_undecayed() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn_like(weight))
    expected = {name: w.detach().double().numpy() for name, w in module.named_parameters()}
    m = {name: np.zeros_like(w) for name, w in expected.items()}
    v = {name: np.zeros_like(w) for name, w in expected.items()}
    optimizer = optimizers.make([(module, 0.5)], OPTIM)
    for t in range(1, 6):
        optimizers.set_lr(optimizer, 0.04)
        for name, weight in module.named_parameters():
            weight.grad = torch.randn_like(weight)
            g = weight.grad.double().numpy()
            m[name] = 0.8 * m[name] + 0.2 * g
            v[name] = 0.95 * v[name] + 0.05 * g**2
            decay = 0.1 if name in ("0.weight", "2.weight") else 0.0
            step = m[name] / (1 - 0.8**t) / (np.sqrt(v[name] / (1 - 0.95**t)) + 1e-8)
            expected[name] = expected[name] - 0.02 * (step + decay * expected[name])
        optimizer.step()
    for name, weight in module.named_parameters():
        np.testing.assert_allclose(weight.detach().numpy(), expected[name], rtol=1e-4, atol=1e-5)


def test_only_what_has_gradients_is_updated() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    module[0].requires_grad_(False)
    for name in optimizers.OPTIMIZERS:
        optim = OPTIM.model_copy(update={"optimizer": name})
        groups = optimizers.make([(module, 1.0)], optim).param_groups
        found = {weight for group in groups for weight in group["params"]}
        assert found == set(module[1].parameters())
