"""What updates the weights: each optimizer is a function of what it trains and `OptimConfig`.

What it trains are modules with their learning rates' shares of the training's, kept in the groups
as `lr_scale`.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from fasttail.config import OptimConfig

Trained = Sequence[tuple[nn.Module, float]]


def sgd(trained: Trained, optim: OptimConfig) -> Optimizer:
    """SGD with momentum, and weight decay on all weights: the paper's."""
    optimizer = SGD(
        [{"params": _weights(module), "lr_scale": lr_scale} for module, lr_scale in trained],
        lr=optim.scaled_lr,
        momentum=optim.momentum,
        nesterov=optim.nesterov,
        weight_decay=optim.weight_decay,
        fused=True,
    )
    # The fused kernel makes the buffers with its first step and leaves in them whatever lay there
    # where a loss scaler skips that step; the next one would take it for momentum.
    for group in optimizer.param_groups:
        for weight in group["params"]:
            optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return optimizer


def adamw(trained: Trained, optim: OptimConfig) -> Optimizer:
    """AdamW (Loshchilov and Hutter, ICLR 2019); as is usual with it, norms' weights and biases,
    which have one dimension, do not decay."""
    return AdamW(
        [
            {"params": weights, "lr_scale": lr_scale, "weight_decay": weight_decay}
            for module, lr_scale in trained
            for weights, weight_decay in _by_decay(module, optim.weight_decay)
        ],
        lr=optim.scaled_lr,
        betas=(optim.momentum, optim.beta2),
        fused=True,
    )


OPTIMIZERS: dict[str, Callable[[Trained, OptimConfig], Optimizer]] = {"sgd": sgd, "adamw": adamw}


def make(trained: Trained, optim: OptimConfig) -> Optimizer:
    """The optimizer as configured, of the modules' parameters that have gradients."""
    return OPTIMIZERS[optim.optimizer](trained, optim)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Sets the training's learning rate; each group's is its share."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def _weights(module: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in module.parameters() if weight.requires_grad]


def _by_decay(module: nn.Module, decay: float) -> Iterator[tuple[list[nn.Parameter], float]]:
    weights = _weights(module)
    yield [weight for weight in weights if weight.ndim > 1], decay
    yield [weight for weight in weights if weight.ndim <= 1], 0.0
