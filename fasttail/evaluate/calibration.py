"""Expected calibration error: how far a classifier's confidence is from its accuracy (Guo et al.,
"On Calibration of Modern Neural Networks", ICML 2017, section 2, equations 2 to 5)."""

import numpy as np

from fasttail.config import ShotsConfig
from fasttail.evaluate.shots import group_masks

BINS = 15  # as in that paper's tables


def expected_calibration_error(confidence_N: np.ndarray, right_N: np.ndarray) -> float:
    """sum_m |B_m| / N |acc(B_m) - conf(B_m)| over 15 bins (m - 1) / 15 < confidence <= m / 15.

    Confidence in 0..1 and bool [N]; N must be above 0. The result is in 0..1.
    """
    confidence_N = np.asarray(confidence_N, np.float64)
    bins_N = np.clip(np.ceil(confidence_N * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gap_M = np.bincount(bins_N, right_N - confidence_N, minlength=BINS)
    return float(np.abs(gap_M).sum() / len(confidence_N))


def calibration(
    confidence_N: np.ndarray | None,
    predicted_N: np.ndarray,
    labels_N: np.ndarray,
    train_counts_C: np.ndarray,
    shots: ShotsConfig,
) -> dict[str, float | None]:
    """`ece` over all images and `ece_many`, `ece_medium`, `ece_few` over the images whose right
    class is of that group, in percent. None for a group without images, and everywhere where there
    is no confidence.
    """
    row: dict[str, float | None] = {}
    everything = {"": np.ones(len(train_counts_C), bool), **group_masks(train_counts_C, shots)}
    for group, members_C in everything.items():
        these_N = members_C[labels_N]
        name = f"ece_{group}" if group else "ece"
        if confidence_N is None or not these_N.any():
            row[name] = None
            continue
        right_N = (predicted_N == labels_N)[these_N]
        row[name] = 100 * expected_calibration_error(confidence_N[these_N], right_N)
    return row
