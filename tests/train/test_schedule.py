import math
from itertools import pairwise

import pytest
import torch

from fasttail.config import OptimConfig
from fasttail.errors import UserError
from fasttail.train.schedule import check_rates, learning_rate

STEPS = 7


def rates(optim: OptimConfig) -> list[float]:
    return [learning_rate(s, STEPS, optim) for s in range(optim.epochs * STEPS)]


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


def test_a_cosine_per_epoch_is_at_the_rate_of_its_end_and_zero_in_the_last() -> None:
    got = rates(OptimConfig(epochs=4, lr=0.2, lr_per="epoch"))
    assert len(set(got[:STEPS])) == 1
    assert got[0] == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)))
    assert got[-STEPS:] == pytest.approx([0.0] * STEPS)


def test_of_its_beginning_it_is_the_authors_rates_in_torch_1_0() -> None:
    got = rates(OptimConfig(epochs=90, lr=0.2, lr_per="epoch-start"))
    assert got[0] == pytest.approx(0.2)
    assert got[-1] == got[-STEPS] == pytest.approx(6.1e-5, rel=1e-2)
    ends = rates(OptimConfig(epochs=90, lr=0.2, lr_per="epoch"))
    assert got[STEPS:] == pytest.approx(ends[:-STEPS])


def test_a_training_whose_every_rate_is_zero_is_refused() -> None:
    optim = OptimConfig(epochs=1, lr_per="epoch")
    assert not any(rates(optim))
    with pytest.raises(UserError, match=r"classify\.crt\.epochs is 1, .* nothing would be trained"):
        check_rates(optim, "classify.crt")
    for changes in (
        {"epochs": 2},
        {"warmup_epochs": 1},
        {"lr_per": "step"},
        {"lr_per": "epoch-start"},
        {"schedule": "steps"},
    ):
        changed = optim.model_copy(update=changes)
        check_rates(changed, "optim")
        assert any(rates(changed))


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
    assert learning_rate(0, STEPS, small) == pytest.approx(0.1)
