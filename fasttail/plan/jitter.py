"""Colour jitter in the distribution of torchvision's ColorJitter: drawn here, applied later."""

import numpy as np

from fasttail.plan.compiled import kernel
from fasttail.plan.random import below, unit, words


@kernel
def jitters(first, key, low_4, high_4, factors_B4, order_B4):
    """For positions first, first + 1, ...: factors uniform in [low, high], float32, and a uniform
    permutation of 0..3, uint8."""
    for b in range(len(factors_B4)):
        w0, w1, w2, w3 = words(key, first + b, 0)
        factors_B4[b, 0] = low_4[0] + (high_4[0] - low_4[0]) * unit(w0)
        factors_B4[b, 1] = low_4[1] + (high_4[1] - low_4[1]) * unit(w1)
        factors_B4[b, 2] = low_4[2] + (high_4[2] - low_4[2]) * unit(w2)
        factors_B4[b, 3] = low_4[3] + (high_4[3] - low_4[3]) * unit(w3)
        # Fisher and Yates, from the back.
        w0, w1, w2, _ = words(key, first + b, 1)
        for i in range(4):
            order_B4[b, i] = i
        for i, word in ((3, w0), (2, w1), (1, w2)):
            j = below(word, i + 1)
            held = order_B4[b, i]
            order_B4[b, i] = order_B4[b, j]
            order_B4[b, j] = held


def ranges(strengths: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest factor, float64 [4] each, of (brightness, contrast, saturation, hue):
    max(0, 1 - b) .. 1 + b, and -h .. h for hue."""
    strengths_4 = np.array(strengths, dtype=np.float64)
    middle_4 = np.array([1.0, 1.0, 1.0, 0.0])
    floor_4 = np.array([0.0, 0.0, 0.0, -0.5])
    return np.maximum(floor_4, middle_4 - strengths_4), middle_4 + strengths_4
