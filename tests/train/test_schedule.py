import math
from itertools import pairwise

import pytest
import torch

from fasttail.config import OptimConfig
from fasttail.train.schedule import learning_rate

STEPS = 7


def rates(optim: OptimConfig, protocol: str = "clean") -> list[float]:
    return [learning_rate(s, STEPS, optim, protocol) for s in range(optim.epochs * STEPS)]


def test_clean_cosine_is_torchs_cosine_per_step() -> None:
    optim = OptimConfig(epochs=5, lr=0.2)
    parameter = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([parameter], lr=0.2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 5 * STEPS)
    expected = []
    for _ in range(5 * STEPS):
        expected.append(sgd.param_groups[0]["lr"])
        sgd.step()
        schedule.step()
    assert rates(optim) == pytest.approx(expected)


def test_official_cosine_is_constant_in_an_epoch_and_zero_in_the_last() -> None:
    optim = OptimConfig(epochs=4, lr=0.2)
    got = rates(optim, "official")
    assert len(set(got[:STEPS])) == 1
    assert got[0] == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)))
    assert got[-STEPS:] == pytest.approx([0.0] * STEPS)


def test_steps_and_warm_up_are_the_cifar_recipes() -> None:
    optim = OptimConfig(
        epochs=200,
        lr=0.1,
        batch_size=128,
        lr_batch_size=128,
        schedule="steps",
        steps=(0.8, 0.9),
        gamma=0.01,
        warmup_epochs=5,
    )
    got = rates(optim)
    assert got[0] == pytest.approx(0.1 / (5 * STEPS))
    assert got[5 * STEPS - 1] == pytest.approx(0.1)
    assert all(a < b for a, b in pairwise(got[: 5 * STEPS]))
    assert [got[epoch * STEPS] for epoch in (5, 159, 160, 180)] == pytest.approx(
        [0.1, 0.1, 1e-3, 1e-5]
    )
    assert got[160 * STEPS - 1] == pytest.approx(0.1)


def test_the_rate_is_in_proportion_to_the_batch() -> None:
    small = OptimConfig(lr=0.2, lr_batch_size=512, batch_size=256)
    assert learning_rate(0, STEPS, small, "clean") == pytest.approx(0.1)
