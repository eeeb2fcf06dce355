"""Every loss against its paper's formula in NumPy float64."""

import numpy as np
import pytest
import torch

from fasttail.config import LossConfig
from fasttail.errors import UserError
from fasttail.train.losses import LOSSES, loss_for_epoch

COUNTS_C = np.array([500, 120, 30, 7, 1])
CPU = torch.device("cpu")


@pytest.fixture
def logits_BC() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(16, 5)) * 3


LABELS_B = np.arange(16) % 5


def ours(name: str, logits_BC: np.ndarray, t: float = 0.0, scale: float = 1.0, **how) -> float:
    loss_at = loss_for_epoch(
        LossConfig(name=name, **how), COUNTS_C, device=CPU, logit_scale=scale, label_smoothing=0.0
    )
    logits = torch.from_numpy(logits_BC).float()
    return loss_at(t)(logits, torch.from_numpy(LABELS_B)).item()


def test_cross_entropy_is_minus_the_log_of_the_softmax(logits_BC: np.ndarray) -> None:
    p_BC = np.exp(logits_BC) / np.exp(logits_BC).sum(1, keepdims=True)
    expected = -np.log(p_BC[np.arange(16), LABELS_B]).mean()
    assert ours("cross-entropy", logits_BC) == pytest.approx(expected, rel=1e-6)


def test_balanced_softmax_weighs_every_exponential_by_its_classes_images(
    logits_BC: np.ndarray,
) -> None:
    weighted_BC = COUNTS_C * np.exp(logits_BC)
    right_B = weighted_BC[np.arange(16), LABELS_B]
    expected = -np.log(right_B / weighted_BC.sum(1)).mean()
    assert ours("balanced-softmax", logits_BC) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_logit_adjustment_is_equation_10s(logits_BC: np.ndarray, tau: float) -> None:
    prior_C = COUNTS_C / COUNTS_C.sum()
    ratio_BC = (prior_C / prior_C[LABELS_B][:, None]) ** tau
    margin_BC = np.exp(logits_BC - logits_BC[np.arange(16), LABELS_B][:, None])
    expected = np.log((ratio_BC * margin_BC).sum(1)).mean()
    got = ours("logit-adjustment", logits_BC, adjustment_tau=tau)
    assert got == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("how", "weight_C"),
    [
        ({"weights": "inverse"}, 1 / COUNTS_C),
        ({"weights": "effective", "weights_beta": 0.99}, (1 - 0.99) / (1 - 0.99**COUNTS_C)),
    ],
    ids=["inverse", "effective"],
)
def test_weighted_is_the_mean_of_cross_entropies_weighted_by_class(
    logits_BC: np.ndarray, how: dict, weight_C: np.ndarray
) -> None:
    p_BC = np.exp(logits_BC) / np.exp(logits_BC).sum(1, keepdims=True)
    losses_B = -np.log(p_BC[np.arange(16), LABELS_B])
    expected = np.average(losses_B, weights=weight_C[LABELS_B])
    assert ours("weighted", logits_BC, **how) == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(losses_B.mean(), rel=0.05)


def ldam(cosine_BC: np.ndarray, scale: float, weight_C: np.ndarray) -> float:
    margin_C = 1 / np.sqrt(np.sqrt(COUNTS_C))
    margin_C = margin_C * (0.5 / margin_C.max())
    losses, weights = [], []
    for cosine_C, label in zip(cosine_BC, LABELS_B, strict=True):
        z_C = cosine_C.copy()
        z_C[label] -= margin_C[label]
        z_C *= scale
        losses.append(-(z_C[label] - np.log(np.exp(z_C).sum())) * weight_C[label])
        weights.append(weight_C[label])
    return sum(losses) / sum(weights)


def test_ldam_lowers_the_right_cosine_by_a_margin_and_reweights_late() -> None:
    cosine_BC = np.random.default_rng(1).uniform(-1, 1, (16, 5))
    even_C = np.ones(5)
    effective_C = (1 - 0.9999**COUNTS_C) / (1 - 0.9999)
    late_C = 1 / effective_C / (1 / effective_C).sum() * 5
    early = ours("ldam-drw", 30 * cosine_BC, t=0.79, scale=30)
    late = ours("ldam-drw", 30 * cosine_BC, t=0.8, scale=30)
    assert early == pytest.approx(ldam(cosine_BC, 30, even_C), rel=1e-5)
    assert late == pytest.approx(ldam(cosine_BC, 30, late_C), rel=1e-5)
    assert early != pytest.approx(late, rel=0.05)


def test_a_loss_that_needs_a_prior_refuses_a_class_without_images() -> None:
    def make(name: str) -> None:
        counts_C = np.array([5, 0])
        loss_for_epoch(
            LossConfig(name=name), counts_C, device=CPU, logit_scale=1.0, label_smoothing=0.0
        )

    make("cross-entropy")
    for name in set(LOSSES) - {"cross-entropy"}:
        with pytest.raises(UserError, match="1 classes have no training image"):
            make(name)
    with pytest.raises(UserError, match="did you mean 'ldam-drw'"):
        make("ldam-dwr")
