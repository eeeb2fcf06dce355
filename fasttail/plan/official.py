"""The orders of the authors' code (facebookresearch/classifier-balancing), for its numbers' sake.

    instance      the images shuffled, what is left over of the last batch not seen
    class         classes cycle without replacement, and so do the images in each class; a class
                  gives four images in a row, and each batch is shuffled before it is used
    sqrt          images independently, with replacement, each with weight sqrt(n_j) / n_j
    progressive   classes independently, the images in each class cycle

The cycles go on from one epoch to the next, and all of it has random access, as everything here:
the class at a position follows from the number of its cycle. For "progressive" the epoch's class
counts are those of independent draws, and given the counts all orders are equally likely; but two
draws of one image may come closer together than the authors' cycles allow.

In the authors' code, batches that a loader's workers had fetched ahead when the epoch ended are
lost to the cycles; here none are.
"""

import numpy as np

from fasttail.errors import unknown
from fasttail.plan.compiled import inline, kernel
from fasttail.plan.orders import (
    IID_TOTAL,
    ClassDraws,
    ClassTable,
    Epoch,
    Lookup,
    find,
    plain,
    scattered,
)
from fasttail.plan.permute import cut, permute, subkey
from fasttail.plan.quotas import Probabilities, shares
from fasttail.plan.random import below64, key, words

IN_A_ROW = 4  # images of a class, `num_samples_cls` in the authors' configurations

OFFICIAL = {
    "instance": "shuffled",
    "class": "cycled",
    "sqrt": "iid",
    "progressive": "multinomial",
}


def draws(sampler: str) -> str:
    """The kind of draws, as `TrainEpoch` takes it, with which the authors' code does a sampler.

    Raises `UserError` for a sampler that it doesn't have.
    """
    if sampler not in OFFICIAL:
        raise unknown("sampler of the official protocol", sampler, OFFICIAL)
    return OFFICIAL[sampler]


@inline
def _permuted(x, n, permutation_key):
    bits, rows = cut(n)
    return np.int64(permute(np.uint64(x), np.uint64(n), bits, rows, permutation_key))


class ShuffledOrder:
    """The first steps * batch_size images of a shuffle of all. Class probabilities don't matter."""

    def __init__(self, table: ClassTable, p: Probabilities, epoch: Epoch) -> None:
        self._samples_N = scattered(table.samples_N)
        self._lookup = Lookup(table.indptr_C1)
        self._key = key("shuffle", epoch.seed, epoch.number)

    def draw(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        ids_B, classes_B = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        look = self._lookup
        shuffled_draws(
            first, self._key, look.sums_C1, look.guide_G, look.shift, self._samples_N, ids_B,
            classes_B,
        )  # fmt: skip
        return ids_B, classes_B


@kernel
def shuffled_draws(first, shuffle_key, indptr_C1, guide_G, shift, samples_N, ids_B, classes_B):
    for b in range(len(ids_B)):
        at = _permuted(first + b, indptr_C1[-1], shuffle_key)
        ids_B[b] = samples_N[at]
        classes_B[b] = find(at, indptr_C1, guide_G, shift)


class CycledOrder:
    """Classes in cycles, four images of a class in a row, batches shuffled. All classes are alike:
    the class probabilities don't matter."""

    def __init__(self, table: ClassTable, p: Probabilities, epoch: Epoch) -> None:
        self._indptr_C1, self._samples_N = plain(table.indptr_C1), scattered(table.samples_N)
        self._batch_size = epoch.batch_size
        self._first_row = epoch.number * -(-epoch.total // IN_A_ROW)
        self._keys = (
            key("batch", epoch.seed, epoch.number),
            key("classes", epoch.seed),
            key("images", epoch.seed),
        )

    def draw(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        ids_B, classes_B = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        cycled_draws(
            first, self._first_row, self._batch_size, *self._keys, self._indptr_C1,
            self._samples_N, ids_B, classes_B,
        )  # fmt: skip
        return ids_B, classes_B


@kernel
def cycled_draws(
    first, first_row, batch_size, batch_key, class_key, image_key, indptr_C1, samples_N, ids_B,
    classes_B,
):  # fmt: skip
    classes = len(indptr_C1) - 1
    for b in range(len(ids_B)):
        batch, place = divmod(first + b, batch_size)
        before = batch * batch_size + _permuted(place, batch_size, subkey(batch_key, batch))
        row = first_row + before // IN_A_ROW
        cycle = row // classes
        c = _permuted(row % classes, classes, subkey(class_key, cycle))
        # A cycle has each class once, so this is the class's draw number:
        number = cycle * IN_A_ROW + before % IN_A_ROW
        size = indptr_C1[c + 1] - indptr_C1[c]
        image_cycle_key = subkey(subkey(image_key, c), number // size)
        ids_B[b] = samples_N[indptr_C1[c] + _permuted(number % size, size, image_cycle_key)]
        classes_B[b] = c


class MultinomialOrder(ClassDraws):
    """As many draws of each class as independent draws gave, images cycling within the epoch.

    Making it counts the epoch's draws one by one: about 20 ns each, no memory.
    """

    def __init__(self, table: ClassTable, p: Probabilities, epoch: Epoch) -> None:
        p_C = p(epoch.number) if callable(p) else p
        lookup = Lookup(shares(p_C, IID_TOTAL))
        quota_C = np.zeros(len(p_C), dtype=np.int64)
        at = (epoch.seed, epoch.number)
        count_classes(
            epoch.total, key("iid", *at), lookup.sums_C1, lookup.guide_G, lookup.shift, quota_C
        )
        super().__init__(
            table, np.zeros_like(quota_C), quota_C, key("order", *at), key("ring", *at)
        )


@kernel
def count_classes(total, stream, sums_C1, guide_G, shift, quota_C):
    for position in range(total):
        w0, w1, _, _ = words(stream, position, 0)
        quota_C[find(below64(w0, w1, sums_C1[-1]), sums_C1, guide_G, shift)] += 1
