"""Which image is drawn at which position of an epoch: positions in, sample ids and classes out.

An order is a function of the position alone; nothing is stored that grows with the data set.

    position --keyed permutation--> slot --running quotas--> class and the draw's number in it
             --the class's ring--> place --class-index table--> sample id

A class's ring is a keyed permutation of its images that stays for the whole run. Its draws walk
around it, on and on from epoch to epoch: epoch e takes up where epoch e - 1 stopped. So in any
stretch of the walk, an epoch or a run, every image of the class is drawn k or k + 1 times. (A new
shuffle for every cycle would not do: an epoch holds the end of one cycle and the start of another,
and an image late in the first and early in the second would be drawn k + 2 times.) When in the
epoch a draw comes is up to the permutation of positions, which is new for every epoch.
"""

import mmap
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fasttail.plan.compiled import inline, kernel
from fasttail.plan.permute import cut, permute_each, permute_run, subkey
from fasttail.plan.quotas import Probabilities, quotas, shares
from fasttail.plan.random import below64, key, words

IID_TOTAL = 1 << 32  # probabilities are kept to 2^-52
READ_AHEAD_FITS = 256 << 20  # bytes: a smaller file may as well be read in whole
CHUNK = 512  # positions that go through each stage together, within the first-level cache


class ClassTable(Protocol):
    """The class-index table of a split: C classes, N samples."""

    @property
    def indptr_C1(self) -> np.ndarray: ...  # int64 [C+1]: class c's samples are at indptr[c]..

    @property
    def samples_N(self) -> np.ndarray: ...  # int [N]: sample ids, grouped by class


class Order(Protocol):
    """What is drawn in an epoch of steps * batch_size positions."""

    def draw(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Sample ids and classes, int64 [B] each, at positions first .. first + count - 1."""
        ...


@dataclass(frozen=True)
class Epoch:
    """Which epoch of which run, and how long: what every order is made for."""

    seed: int
    number: int
    steps: int
    batch_size: int

    @property
    def total(self) -> int:
        """Positions, over all ranks."""
        return self.steps * self.batch_size


def plain(array: np.ndarray) -> np.ndarray:
    """The array itself as a read-only ndarray: one type for kernels, memory-mapped or not."""
    view = np.asarray(array).view(np.ndarray)
    view.flags.writeable = False
    return view


def scattered(array: np.ndarray) -> np.ndarray:
    """As `plain`, for an array that is read here and there. A large file is mapped once more, and
    the system told so: else the first touch of each page reads 128 KiB around it, seconds for a
    batch. Not the map that is there: who reads that from end to end needs what is read ahead."""
    if isinstance(array.base, np.memmap) and array.base.nbytes == array.nbytes:
        array = array.base  # of which `array` is a plain view
    if (
        isinstance(array, np.memmap)
        and isinstance(array.base, mmap.mmap)  # the whole of the file's values
        and array.filename is not None
        and array.nbytes > READ_AHEAD_FITS
    ):
        array = np.memmap(array.filename, array.dtype, "r", array.offset, array.shape)
        assert isinstance(array.base, mmap.mmap)
        array.base.madvise(mmap.MADV_RANDOM)
    return plain(array)


class Lookup:
    """Slot -> class: the class whose stretch of the running sums `sums_C1` (int64 [C+1], from 0)
    the slot is in. A guide over equal pieces of the line, 4 to 8 a class, says which class a piece
    begins in: from there it is less than half a step on average, and O(log C) at worst."""

    def __init__(self, sums_C1: np.ndarray) -> None:
        self.sums_C1 = plain(sums_C1)
        classes = len(sums_C1) - 1
        last = int(sums_C1[-1]) - 1
        self.shift = max(0, last.bit_length() - (4 * classes).bit_length())
        starts_G = np.arange((last >> self.shift) + 2, dtype=np.int64) << self.shift
        guide_G = np.searchsorted(sums_C1, np.minimum(starts_G, last), side="right") - 1
        self.guide_G = plain(guide_G.astype(np.int32))


@inline
def find(slot, sums_C1, guide_G, shift):
    """The class c with sums[c] <= slot < sums[c + 1]."""
    piece = slot >> shift
    low = np.int64(guide_G[piece])
    if sums_C1[low + 1] > slot:  # as a rule
        return low
    low += 1
    high = np.int64(guide_G[piece + 1])
    while low < high:
        middle = (low + high + 1) >> 1
        if sums_C1[middle] <= slot:
            low = middle
        else:
            high = middle - 1
    return low


class ClassDraws:
    """A fixed number of draws per class, in the order of `order_key`; a class's draws are those on
    its ring from number `drawn_C` on. int64 [C] both."""

    def __init__(
        self,
        table: ClassTable,
        drawn_C: np.ndarray,
        quota_C: np.ndarray,
        order_key: np.uint64,
        ring_key: np.uint64,
    ) -> None:
        self.quota_C = quota_C
        self._samples_N = scattered(table.samples_N)
        self._lookup = Lookup(np.concatenate([[0], np.cumsum(quota_C)]))
        self._key = order_key
        rows_C = aligned(len(quota_C), ROW)
        class_rows(self._lookup.sums_C1, drawn_C, plain(table.indptr_C1), ring_key, rows_C)
        self._rows_C = plain(rows_C)

    def draw(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        ids_B, classes_B = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        look = self._lookup
        quota_draws(
            first, self._key, look.sums_C1, look.guide_G, look.shift,
            self._rows_C, self._samples_N, ids_B, classes_B,
        )  # fmt: skip
        return ids_B, classes_B


class QuotaOrder(ClassDraws):
    """Exact quotas, and within a class every image k or k + 1 times. See the top of this file."""

    def __init__(self, table: ClassTable, p: Probabilities, epoch: Epoch) -> None:
        drawn_C, quota_C = quotas(p, epoch.total, epoch.number)
        order_key, ring_key = key("order", epoch.seed, epoch.number), key("ring", epoch.seed)
        super().__init__(table, drawn_C, quota_C, order_key, ring_key)


# What a draw has to know of its class lies together, in one cache line: uint64 [C, ROW].
ROW = 8
SLOT, NEXT, START, SIZE, FIRST, BITS, ROWS, KEY = range(ROW)


def aligned(rows: int, columns: int) -> np.ndarray:
    """An empty uint64 [rows, columns] that begins with a cache line of 64 bytes."""
    words = np.empty(rows * columns + 7, dtype=np.uint64)
    skip = -words.ctypes.data % 64 // 8
    return words[skip : skip + rows * columns].reshape(rows, columns)


@kernel
def class_rows(sums_C1, drawn_C, indptr_C1, ring_key, rows_C):
    """Fills the table: first slot, next class's, where on its ring the class starts, images, first
    place in the class-index table, and the ring's permutation."""
    for c in range(len(rows_C)):
        size = indptr_C1[c + 1] - indptr_C1[c]
        bits, rows = cut(size)
        rows_C[c, SLOT] = sums_C1[c]
        rows_C[c, NEXT] = sums_C1[c + 1]
        rows_C[c, START] = drawn_C[c] % size
        rows_C[c, SIZE] = size
        rows_C[c, FIRST] = indptr_C1[c]
        rows_C[c, BITS] = bits
        rows_C[c, ROWS] = rows
        rows_C[c, KEY] = subkey(ring_key, c)


@kernel
def quota_draws(first, order_key, sums_C1, guide_G, shift, rows_C, samples_N, ids_B, classes_B):
    total = np.uint64(sums_C1[-1])
    bits, rows = cut(total)
    chunk = min(CHUNK, len(ids_B))
    # An allocation each, not one of all: rows 4 KiB apart would fight for the same cache sets.
    slots, places = np.empty(chunk, dtype=np.uint64), np.empty(chunk, dtype=np.uint64)
    sizes, bits_ = np.empty(chunk, dtype=np.uint64), np.empty(chunk, dtype=np.uint64)
    rows_, keys = np.empty(chunk, dtype=np.uint64), np.empty(chunk, dtype=np.uint64)
    firsts = np.empty(chunk, dtype=np.uint64)
    for start in range(0, len(ids_B), CHUNK):
        count = min(CHUNK, len(ids_B) - start)
        permute_run(np.uint64(first + start), total, bits, rows, order_key, slots[:count])
        for b in range(count):
            slot = slots[b]
            c = np.int64(guide_G[slot >> np.uint64(shift)])
            if rows_C[c, NEXT] <= slot:  # seldom
                c = find(np.int64(slot), sums_C1, guide_G, shift)
            row = rows_C[c]
            place = row[START] + slot - row[SLOT]
            size = row[SIZE]
            places[b] = place if place < size else place % size
            sizes[b] = size
            bits_[b], rows_[b], keys[b] = row[BITS], row[ROWS], row[KEY]
            firsts[b] = row[FIRST]
            classes_B[start + b] = c
        permute_each(places, sizes, bits_, rows_, keys, slots[:count])
        for b in range(count):
            ids_B[start + b] = samples_N[firsts[b] + slots[b]]


class IidOrder:
    """As the paper words it: independent draws, with replacement. First a class by its
    probability, then one of its images, all equally likely."""

    def __init__(self, table: ClassTable, p: Probabilities, epoch: Epoch) -> None:
        p_C = p(epoch.number) if callable(p) else p
        self._indptr_C1, self._samples_N = plain(table.indptr_C1), scattered(table.samples_N)
        self._lookup = Lookup(shares(p_C, IID_TOTAL))
        self._key = key("iid", epoch.seed, epoch.number)

    def draw(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        ids_B, classes_B = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        look = self._lookup
        iid_draws(
            first, self._key, look.sums_C1, look.guide_G, look.shift,
            self._indptr_C1, self._samples_N, ids_B, classes_B,
        )  # fmt: skip
        return ids_B, classes_B


@kernel
def iid_draws(first, stream, sums_C1, guide_G, shift, indptr_C1, samples_N, ids_B, classes_B):
    for b in range(len(ids_B)):
        w0, w1, w2, w3 = words(stream, first + b, 0)
        c = find(below64(w0, w1, sums_C1[-1]), sums_C1, guide_G, shift)
        size = indptr_C1[c + 1] - indptr_C1[c]
        ids_B[b] = samples_N[indptr_C1[c] + below64(w2, w3, size)]
        classes_B[b] = c
