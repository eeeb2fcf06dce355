"""Making a data set long-tailed, and holding a part of it out. Every choice is seeded.

Random generators are keyed by tuples (purpose, seed, class), never by sums, so that two purposes or
two classes can't share a stream.
"""

import numpy as np

from fasttail.datasets.base import SplitIndex
from fasttail.errors import UserError

# Purposes; the numbers are part of what a seed means. `splits.py` has 2 and 4.
_LONG_TAIL, _BALANCED = 1, 3


def tail_counts(n_max: int, imbalance: float, num_classes: int) -> np.ndarray:
    """Images per class, int64 [C]: n_j = int(n_max * IF^(-j / (C - 1))), so n_0 / n_{C-1} = IF.

    Source: Cao et al. 2019 (LDAM), which all CIFAR-LT results follow.
    """
    if num_classes == 1:
        return np.array([n_max], np.int64)
    return np.array(
        [int(n_max * imbalance ** (-j / (num_classes - 1.0))) for j in range(num_classes)], np.int64
    )


def make_long_tailed(
    split: SplitIndex, *, n_max: int, imbalance: float, class_names: tuple[str, ...], seed: int
) -> SplitIndex:
    """`tail_counts` images of each class, classes in label order, chosen by `seed`.

    The chosen images keep their order. Raises `UserError` if a class has too few images.
    """
    wanted_C = tail_counts(n_max, imbalance, len(class_names))
    if wanted_C[-1] < 1:
        raise UserError(
            f"imbalance {imbalance:g} leaves the last class no image ({n_max} / {imbalance:g} < "
            f"1): use at most {n_max}"
        )
    kept = []
    for c, wanted in enumerate(wanted_C):
        ids = np.flatnonzero(split.labels_N == c)
        if len(ids) < wanted:
            raise UserError(
                f"class {class_names[c]!r} has {len(ids)} images where an imbalance of "
                f"{imbalance:g} takes {wanted}: the source is no balanced data set; if it is "
                "long-tailed already, convert it with --dataset folder"
            )
        kept.append(np.random.default_rng((_LONG_TAIL, seed, c)).permutation(ids)[:wanted])
    return split.take(np.sort(np.concatenate(kept)))


def hold_out_balanced(split: SplitIndex, n: int, seed: int) -> tuple[SplitIndex, SplitIndex]:
    """(the rest, the held-out part): `n` images of every class."""
    held = [
        np.random.default_rng((_BALANCED, seed, int(c))).permutation(
            np.flatnonzero(split.labels_N == c)
        )[:n]
        for c in np.unique(split.labels_N)
    ]
    which = np.sort(np.concatenate(held))
    return split.take(np.setdiff1d(np.arange(len(split.labels_N)), which)), split.take(which)
