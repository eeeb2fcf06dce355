"""One step on images that a test makes, compared with plain torch."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import plain
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fasttail.compute import Compute
from fasttail.config import ComputeConfig, LossConfig, OptimConfig
from fasttail.errors import UserError
from fasttail.models import Recognizer
from fasttail.train.losses import BatchLoss, cross_entropy_of_batch, loss_for_epoch
from fasttail.train.step import Step
from fasttail.world import World

CPU = Compute(torch.device("cpu"), torch.float32, channels_last=True)
OPTIM = OptimConfig(batch_size=12, lr=0.1, lr_batch_size=12, momentum=0.9, weight_decay=0.01)


def batches(n: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(5)
    return [(torch.randn(12, 3, 16, 16), torch.randint(0, 4, (12,))) for _ in range(n)]


def recognizer(wrap: Callable[[nn.Module], nn.Module] = lambda module: module) -> Recognizer:
    torch.manual_seed(1)
    return Recognizer(wrap(plain.Plain()), nn.Linear(16, 4))


def make(model: Recognizer, optim: OptimConfig = OPTIM, **config: object) -> Step:
    return Step(
        model,
        optim=optim,
        config=ComputeConfig(**config),  # type: ignore[arg-type]
        compute=CPU,
        world=World(),
        seed=0,
    )


CROSS_ENTROPY = cross_entropy_of_batch()


def weighted() -> BatchLoss:
    """LDAM with its classes re-weighted, of which one has many times the weight of another."""
    loss_at = loss_for_epoch(
        LossConfig(name="ldam-drw", drw_from=0.0),
        np.array([5000, 500, 50, 5]),
        device=CPU.device,
        logit_scale=1.0,
        label_smoothing=0.1,
    )
    return loss_at(0.0)


def trained(
    model: Recognizer, optim: OptimConfig = OPTIM, loss: BatchLoss = CROSS_ENTROPY
) -> list[torch.Tensor]:
    step = make(model, optim)
    for number, (images, labels) in enumerate(batches(3)):
        step(images, labels, loss, lr=0.1, step=number)
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_three_steps_are_those_of_plain_sgd() -> None:
    model = recognizer()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    losses = []
    for images, labels in batches(3):
        loss = F.cross_entropy(model(images), labels)
        losses.append(loss.item())
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    ours = recognizer()
    step = make(ours)
    got = [
        step(images, labels, CROSS_ENTROPY, lr=0.1, step=number).item()
        for number, (images, labels) in enumerate(batches(3))
    ]
    assert got == pytest.approx(losses, rel=1e-5)
    for expected, value in zip(model.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


@pytest.fixture
def fresh_memory_is_nan() -> Iterator[None]:
    """What torch.empty gives is not a number, so that nobody can take it for zeros."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("fresh_memory_is_nan")
def test_a_first_step_that_overflows_under_a_loss_scaler_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    monkeypatch.setattr(Compute, "grad_scaler", lambda self: scaler)

    model = recognizer()
    step = make(model)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    images, labels = batches(1)[0]
    step(images * torch.inf, labels, CROSS_ENTROPY, lr=0.1, step=0)
    assert scaler.get_scale() == 2.0**9, "the step was skipped"
    for expected, value in zip(before, model.parameters(), strict=True):
        assert torch.equal(value, expected)
    for number, (images, labels) in enumerate(batches(3), start=1):
        step(images, labels, CROSS_ENTROPY, lr=0.1, step=number)
    for expected, value in zip(trained(recognizer()), model.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("parts", [2, 5, 12])
@pytest.mark.parametrize("loss", [CROSS_ENTROPY, weighted()], ids=["cross-entropy", "weighted"])
def test_a_batch_taken_in_parts_trains_the_same(parts: int, loss: BatchLoss) -> None:
    whole = trained(recognizer(), loss=loss)
    in_parts = trained(recognizer(), OPTIM.model_copy(update={"accumulate": parts}), loss)
    for expected, value in zip(whole, in_parts, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    assert not torch.equal(whole[0], recognizer().backbone.conv1.weight)


def test_what_dropout_drops_is_a_function_of_the_step() -> None:
    class Dropped(nn.Module):
        features_dim = 16

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.dropout(self.inner(x), 0.5)

    images, labels = batches(1)[0]

    def loss(number: int, drawn_before: int) -> float:
        step = make(recognizer(Dropped))
        torch.rand(drawn_before)
        return step(images, labels, CROSS_ENTROPY, lr=0.1, step=number).item()

    assert loss(7, drawn_before=0) == loss(7, drawn_before=100)
    assert loss(7, drawn_before=0) != loss(8, drawn_before=0)


def test_measuring_the_network_leaves_it_as_it_was() -> None:
    def wrap(module: nn.Module) -> nn.Module:
        module.norm = nn.BatchNorm2d(3)  # type: ignore[assignment]
        forward = module.forward
        module.forward = lambda images: forward(module.norm(images))  # type: ignore[operator]
        return module

    model = recognizer(wrap)
    step = make(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = SimpleNamespace(max_batch=12, out_hw=(16, 16))
    assert step.images_per_s(plan, CROSS_ENTROPY) > 1  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    images, labels = batches(1)[0]
    step(images, labels, CROSS_ENTROPY, lr=0.1, step=0)
    assert not torch.equal(model.state_dict()["backbone.norm.running_mean"], torch.zeros(3))


def test_the_network_is_measured_on_as_many_images_as_it_takes_at_once() -> None:
    taken: list[int] = []
    model = recognizer()
    model.register_forward_pre_hook(lambda _, images: taken.append(len(images[0])))
    plan = SimpleNamespace(max_batch=12, out_hw=(16, 16))
    step = make(model, OPTIM.model_copy(update={"accumulate": 3}))
    step.images_per_s(plan, CROSS_ENTROPY)  # type: ignore[arg-type]
    assert set(taken) == {4}


@pytest.mark.parametrize(
    ("accumulate", "compile", "message"),
    [
        (2, True, r"compute.cuda_graphs .* optim.accumulate"),
        (1, False, r"compute.cuda_graphs .* compute.compile"),
    ],
)
def test_cuda_graphs_are_refused_where_they_do_not_work(
    accumulate: int, compile: bool, message: str
) -> None:
    optim = OPTIM.model_copy(update={"accumulate": accumulate})
    with pytest.raises(UserError, match=message):
        make(recognizer(), optim, cuda_graphs=True, compile=compile)


@pytest.mark.parametrize("what", ["cuda_graphs", "sync_batchnorm"])
def test_what_only_a_gpu_has_is_refused_on_the_cpu(what: str) -> None:
    with pytest.raises(UserError, match=f"compute.{what} needs"):
        make(recognizer(), compile=True, **{what: True})


def test_the_backbones_learning_rate_is_its_share() -> None:
    before = recognizer().backbone.conv1.weight
    full = recognizer()
    trained(full)
    slow = recognizer()
    trained(slow, OPTIM.model_copy(update={"backbone_lr_scale": 0.01}))
    moved = [(model.backbone.conv1.weight - before).norm() for model in (full, slow)]
    assert 0 < moved[1] < moved[0] / 20


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_norms_are_those_of_the_batchs_gradient_and_of_what_it_changed(accumulate: int) -> None:
    optim = OPTIM.model_copy(update={"accumulate": accumulate, "momentum": 0.0})
    model, plain_model = recognizer(), recognizer()
    step = make(model, optim)
    images, labels = batches(1)[0]
    step(images, labels, CROSS_ENTROPY, lr=0.1, step=0, measure=True)
    F.cross_entropy(plain_model(images), labels).backward()
    weights = [p.detach().numpy().astype(np.float64) for p in plain_model.parameters()]
    gradients = [p.grad.numpy().astype(np.float64) for p in plain_model.parameters()]
    moves = [0.1 * (g + 0.01 * w) for g, w in zip(gradients, weights, strict=True)]
    expected = [np.sqrt(sum((x**2).sum() for x in of)) for of in (gradients, moves)]
    found = step.norms.read()
    assert list(found) == ["gradient_norm", "update_norm"]
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-4)


def test_a_measured_step_is_the_same_step() -> None:
    results = []
    for measure in (False, True):
        model = recognizer()
        step = make(model)
        for number, (images, labels) in enumerate(batches(3)):
            step(images, labels, CROSS_ENTROPY, lr=0.1, step=number, measure=measure)
        results.append([p.detach().clone() for p in model.parameters()])
    assert all(map(torch.equal, *results))
