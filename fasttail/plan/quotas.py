"""How often each class is drawn in an epoch: whole numbers that add up, and make up over epochs.

An epoch of T draws owes class j the real number T p_j, its share. Its quota is that number rounded
up or down, and the quotas add up to T: largest remainder, but with the remainders carried along.
Those rounded up are the ones that are owed most, counting what rounding gave or took in all epochs
before. So, for any prefix of a run, whatever the number of epochs and however p changes between
them, a class has been drawn as often as the sum of its shares says, within one draw
(`tests/plan/test_quotas.py` holds this on long tails, and two draws on anything).

What is owed is not state that has to be kept: it follows from p, T and the number of the epoch, at
a cost of O(C) for each epoch before this one (about 40 us for 8,142 classes).

Shares are whole multiples of 2^-20 of a draw, so all of this is exact integer arithmetic: nothing
hangs on how a floating-point sum was rounded.

C classes, T draws an epoch; arrays named C1 have C + 1 entries.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fasttail.plan.compiled import kernel, stage

FRACTION_BITS = 20  # a draw is 2^20 units
MAX_TOTAL = 1 << 40  # draws an epoch: beyond, a float64 no longer tells units apart
_UNIT = 1 << FRACTION_BITS
_FAR = 1 << 40  # units; nobody is owed as much

Probabilities = np.ndarray | Callable[[int], np.ndarray]  # of every epoch, or epoch -> its own


class Quotas(NamedTuple):
    """One epoch's draws by class, both int64 [C]."""

    drawn_C: np.ndarray  # in all epochs before
    quota_C: np.ndarray  # in this epoch


def shares(p_C: np.ndarray, total: int) -> np.ndarray:
    """Running sums of the classes' shares of `total` draws, int64 [C+1], in units of 2^-20 draws.

    `p_C` are finite, not negative and not all zero; they need not sum to 1. Raises `ValueError`
    if they are anything else, or `total` is not in 1..2^40.
    """
    p_C = np.asarray(p_C, dtype=np.float64)
    if p_C.ndim != 1 or not np.isfinite(p_C).all() or (p_C < 0).any() or not p_C.sum() > 0:
        raise ValueError(f"class probabilities must be finite, >= 0 and not all 0: {p_C}")
    if not 1 <= total <= MAX_TOTAL:
        raise ValueError(f"{total} draws an epoch: must be 1 to {MAX_TOTAL}")
    sums_C = np.cumsum(p_C)
    sums_C1 = np.zeros(len(p_C) + 1, dtype=np.int64)
    sums_C1[1:] = np.rint(sums_C / sums_C[-1] * total * _UNIT).astype(np.int64)
    return sums_C1


def quotas(p: Probabilities, total: int, epoch: int) -> Quotas:
    """The draws of epoch `epoch` (from 0) of a run that draws `total` an epoch.

    `p` holds the class probabilities, float64 [C], or is a function from an epoch to them.
    Errors as in `shares`.
    """
    p_of = p if callable(p) else lambda _: p
    floor_C, fraction_C = _parts(p_of(0), total)
    drawn_C, owed_C, quota_C = (np.zeros_like(floor_C) for _ in range(3))
    if callable(p):
        for past in range(epoch):
            carry(floor_C, fraction_C, 1, drawn_C, owed_C, quota_C)
            floor_C, fraction_C = _parts(p(past + 1), total)
    else:
        carry(floor_C, fraction_C, epoch, drawn_C, owed_C, quota_C)
    round_shares(floor_C, fraction_C, owed_C, quota_C)
    return Quotas(drawn_C, quota_C)


def _parts(p_C: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    share_C = np.diff(shares(p_C, total))
    return share_C >> FRACTION_BITS, share_C & (_UNIT - 1)


@kernel
def carry(floor_C, fraction_C, epochs, drawn_C, owed_C, quota_C):
    """Goes through epochs of these shares: adds up what is drawn, and what stays owed."""
    for _ in range(epochs):
        round_shares(floor_C, fraction_C, owed_C, quota_C)
        for c in range(len(quota_C)):
            drawn_C[c] += quota_C[c]
            owed_C[c] += fraction_C[c] - ((quota_C[c] - floor_C[c]) << FRACTION_BITS)


@kernel
def round_shares(floor_C, fraction_C, owed_C, quota_C):
    """Fills in the quotas: shares rounded up for those that are owed most, and down for the rest.
    Among equals the earlier class comes first. A share that is whole stays as it is."""
    low, high, fractions = _FAR, -_FAR, 0
    for c in range(len(quota_C)):
        fractions += fraction_C[c]
        due = owed_C[c] + fraction_C[c]
        if fraction_C[c] > 0:
            low, high = min(low, due), max(high, due)
    ups = fractions >> FRACTION_BITS
    # The highest bar that `ups` classes pass, by halving: a sort would be slower, and among equals
    # would leave open who comes first.
    while low < high:
        bar = low + (high - low + 1) // 2
        if count_due(fraction_C, owed_C, bar) >= ups:
            low = bar
        else:
            high = bar - 1
    level = ups - count_due(fraction_C, owed_C, low + 1)
    for c in range(len(quota_C)):
        due = owed_C[c] + fraction_C[c]
        up = ups > 0 and fraction_C[c] > 0 and due >= low
        if up and due == low:
            up = level > 0
            level -= 1
        quota_C[c] = floor_C[c] + (1 if up else 0)


@stage
def count_due(fraction_C, owed_C, bar):
    """How many classes whose share is not whole are owed `bar` or more."""
    count = 0
    for c in range(len(owed_C)):
        count += (fraction_C[c] > 0) & (owed_C[c] + fraction_C[c] >= bar)
    return count
