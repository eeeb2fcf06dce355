"""Which images are kept as raw pixels: those of the smallest classes, as far as a budget reaches.

An image of a class of n images is drawn in proportion to n^(q - 1), q = 1 for instance-balanced,
1/2 for square-root, 0 for class-balanced sampling. For every q < 1 that falls with n: so the images
of the smallest classes are the ones that are decoded most often.
"""

from collections.abc import Callable

import numpy as np

from fasttail.shards.image import MAX_RAW_BYTES

_BATCH = 4096  # images whose dimensions are looked up at a time


def order(labels_N: np.ndarray) -> np.ndarray:
    """Sample ids, those of the smallest class first (ties by class), ascending within a class."""
    counts_C = np.bincount(labels_N)
    rank_C = np.empty(len(counts_C), np.int64)
    rank_C[np.argsort(counts_C, kind="stable")] = np.arange(len(counts_C))
    return np.argsort(rank_C[labels_N], kind="stable")


def choose(
    labels_N: np.ndarray, budget: int | str, dimensions: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """bool [N]: the images to keep as pixels.

    `budget`: bytes of pixels, or "10%" of the images. `dimensions(ids)` gives int64 [n, 2] heights
    and widths, 0 for a bad image. Images of more than `MAX_RAW_BYTES` are passed over.
    """
    chosen_N = np.zeros(len(labels_N), bool)
    ids_N = order(labels_N)
    if isinstance(budget, str):
        chosen_N[ids_N[: int(len(ids_N) * float(budget.rstrip("%")) / 100)]] = True
        return chosen_N
    left = budget
    for start in range(0, len(ids_N), _BATCH):
        ids = ids_N[start : start + _BATCH]
        size = dimensions(ids).prod(axis=1) * 3
        size[size > MAX_RAW_BYTES] = 0
        fits = np.cumsum(size) <= left
        chosen_N[ids[fits & (size > 0)]] = True
        if not fits.all():
            break
        left -= int(size.sum())
    return chosen_N


def share_of_draws(labels_N: np.ndarray, raw_N: np.ndarray, q: float) -> float:
    """What share of an epoch's draws falls on the raw images, with p_j proportional to n_j^q."""
    counts_C = np.bincount(labels_N).astype(np.float64)
    raw_C = np.bincount(labels_N[raw_N], minlength=len(counts_C))
    there_C = counts_C > 0
    p_C = np.where(there_C, counts_C**q * there_C, 0)
    return float((p_C[there_C] * raw_C[there_C] / counts_C[there_C]).sum() / p_C.sum())
