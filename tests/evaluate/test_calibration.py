import numpy as np
import pytest
from scipy import stats

from fasttail.config import ShotsConfig
from fasttail.evaluate.calibration import calibration, expected_calibration_error
from fasttail.evaluate.shots import Tally, summarize

SHOTS = ShotsConfig()


def naive(confidence_N: np.ndarray, right_N: np.ndarray) -> float:
    """Guo et al., equations 2 to 5, one bin after the other."""
    total = 0.0
    for m in range(1, 16):
        inside_N = (confidence_N > (m - 1) / 15) & (confidence_N <= m / 15)
        if inside_N.any():
            gap = abs(right_N[inside_N].mean() - confidence_N[inside_N].mean())
            total += inside_N.sum() / len(confidence_N) * gap
    return total


@pytest.mark.parametrize("seed", range(5))
def test_the_error_is_the_papers_bin_by_bin(seed: int) -> None:
    generator = np.random.default_rng(seed)
    confidence_N = generator.uniform(0.05, 1, 500)
    right_N = generator.random(500) < confidence_N**2
    error = expected_calibration_error(confidence_N, right_N)
    assert error == pytest.approx(naive(confidence_N, right_N), abs=1e-12)
    assert error > 0.05


def test_certain_and_right_is_calibrated_and_certain_and_wrong_is_not() -> None:
    assert expected_calibration_error(np.ones(4), np.ones(4, bool)) == 0
    assert expected_calibration_error(np.ones(4), np.zeros(4, bool)) == 1


def test_groups_are_by_the_right_class_and_none_without_images() -> None:
    counts_C = np.array([500, 50, 5])
    labels_N, predicted_N = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    confidence_N = np.array([0.9, 0.9, 0.6, 0.6])
    row = calibration(confidence_N, predicted_N, labels_N, counts_C, SHOTS)
    assert row["ece_many"] == pytest.approx(100 * abs(0.5 - 0.9))
    assert row["ece_medium"] == pytest.approx(100 * abs(1.0 - 0.6))
    assert row["ece_few"] is None
    assert row["ece"] == pytest.approx(100 * naive(confidence_N, predicted_N == labels_N))
    without = calibration(None, predicted_N, labels_N, counts_C, SHOTS)
    assert set(without) == set(row)
    assert set(without.values()) == {None}


def test_the_harmonic_mean_is_over_classes_and_zero_where_a_class_has_nothing_right() -> None:
    images_C, counts_C = np.array([10, 10, 20, 0]), np.array([500, 200, 50, 9])
    some = summarize(Tally(np.array([9, 5, 4, 0]), images_C), counts_C, SHOTS)
    assert some["harmonic"] == pytest.approx(100 * stats.hmean([0.9, 0.5, 0.2]))
    none = summarize(Tally(np.array([9, 0, 4, 0]), images_C), counts_C, SHOTS)
    assert none["harmonic"] == 0
