"""Class probabilities: what a sampler is. `sampler(counts_C, t)` -> float64 [C] that sums to 1.

Kang et al. (ICLR 2020), section 3: class j is drawn with probability n_j^q / sum_i n_i^q, where
q is 1 (instance-balanced), 1/2 (square-root) or 0 (class-balanced), and progressively-balanced
sampling goes from the first to the last: (1 - t) p_instance + t p_class, t running 0 -> 1 over the
epochs.

`counts_C` are the classes' training images, all above zero; t is in 0..1 and matters to samplers
that change. Roots, quotients and exact sums only: the same bits on every machine, but for `power:q`
with a q other than 0, 1/2 and 1.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from fasttail.errors import UserError, unknown

Sampler = Callable[[np.ndarray, float], np.ndarray]


def power(counts_C: np.ndarray, t: float, q: float) -> np.ndarray:
    """p_j in proportion to n_j^q."""
    counts_C = np.asarray(counts_C, dtype=np.float64)
    if q == 0.0:
        return np.full(len(counts_C), 1.0 / len(counts_C))
    if q == 1.0:
        return counts_C / counts_C.sum()  # whole numbers below 2^53: exact in any order
    weights_C = np.sqrt(counts_C) if q == 0.5 else np.power(counts_C / counts_C.max(), q)
    return weights_C / math.fsum(weights_C)


def instance(counts_C: np.ndarray, t: float) -> np.ndarray:
    """Every image as often as every other."""
    return power(counts_C, t, q=1.0)


def class_balanced(counts_C: np.ndarray, t: float) -> np.ndarray:
    """Every class as often as every other."""
    return power(counts_C, t, q=0.0)


def sqrt(counts_C: np.ndarray, t: float) -> np.ndarray:
    """In proportion to the square root of a class's images."""
    return power(counts_C, t, q=0.5)


def progressive(counts_C: np.ndarray, t: float) -> np.ndarray:
    """From instance-balanced at t = 0 to class-balanced at t = 1, in a straight line."""
    return (1.0 - t) * instance(counts_C, t) + t * class_balanced(counts_C, t)


def deferred(counts_C: np.ndarray, t: float, start: float) -> np.ndarray:
    """Instance-balanced while t < start, class-balanced from there on (the deferred re-balancing
    of Cao et al., NeurIPS 2019, done by sampling)."""
    return instance(counts_C, t) if t < start else class_balanced(counts_C, t)


SAMPLERS: dict[str, Sampler] = {
    "instance": instance,
    "class": class_balanced,
    "sqrt": sqrt,
    "progressive": progressive,
}
FAMILIES = ("power:Q", "deferred:EPOCH")  # named with a number: `parse` reads them


def progress(epoch: int, epochs: int) -> float:
    """t of an epoch: 0 in the first, 1 in the last (epoch / (epochs - 1), as in the authors' code)
    and in those after it. A run of a single epoch is at 0."""
    return min(epoch / (epochs - 1), 1.0) if epochs > 1 else 0.0


def parse(name: str, epochs: int) -> Sampler:
    """The sampler of a name: one of `SAMPLERS`, `power:0.3` for any exponent, or `deferred:160` for
    class-balanced sampling from epoch 160 on.

    Raises `UserError` for any other name, and for a number that makes no sense.
    """
    if name in SAMPLERS:
        return SAMPLERS[name]
    family, colon, number = name.partition(":")
    if not colon or family not in ("power", "deferred"):
        raise unknown("sampler", name, [*SAMPLERS, *FAMILIES])
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if family == "power":
        if not -8.0 <= value <= 8.0:
            raise UserError(
                f"sampler {name!r}: after the colon goes an exponent from -8 to 8, as in power:0.3"
            )
        return partial(power, q=value)
    if not (value == math.floor(value) and 0 <= value <= epochs):
        raise UserError(
            f"sampler {name!r}: after the colon goes the epoch from which classes are balanced, "
            f"0 to {epochs}, as in deferred:{epochs * 4 // 5}"
        )
    start = progress(int(value), epochs) if value < epochs else math.inf
    return partial(deferred, start=start)


def schedule(name: str, counts_C: np.ndarray, epochs: int) -> Callable[[int], np.ndarray]:
    """Epoch -> class probabilities over a run of `epochs`, as `TrainEpoch` takes them. `UserError`
    for an unknown sampler, and for epochs that are no number of epochs."""
    if not isinstance(epochs, int | np.integer) or epochs < 1:
        raise UserError(f"epochs {epochs!r}: give the length of the training, a whole number")
    return partial(_in_epoch, parse(name, epochs), counts_C, epochs)


def _in_epoch(sampler: Sampler, counts_C: np.ndarray, epochs: int, epoch: int) -> np.ndarray:
    return sampler(counts_C, progress(epoch, epochs))
