"""An order for sets larger than memory: the same draws, but page by page of the shards.

The epoch's draws are exactly those of `QuotaOrder`, image by image; only when they come differs.
A page is a run of neighbouring samples in a shard. Pages come in chunks, in an order that is new
every epoch, and a window of `SLIDES` chunks slides over them: a chunk's draws are dealt evenly to
the `SLIDES` stretches of the epoch during which it is in the window. So a page is read once for the
window, what is in memory at any time is one window, and reading goes on steadily.

By itself that would be bad for the tail: an image that is drawn thirty times would have all thirty
within one window. But images drawn often are few, and all in small classes. So those classes stay
in memory for the whole epoch (`resident_C`: half of the memory, classes with the most draws a byte
first) and their draws are spread over the whole epoch, as in the plain order. What is left to the
window are images that are drawn about once or less. A reader should keep the resident images it has
read: a cache of the least recently used alone lets go of some (`tools/simulate_locality.py`).

Random access as everywhere: a batch needs the lists of draws of the chunks in its window, which are
made from the labels of the chunks' samples (a class's ring run backwards tells how often a sample
is drawn) and kept while they are needed. Making the epoch costs one pass over labels and sizes.
Memory: O(C + pages + draws in a window).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from fasttail.errors import UserError
from fasttail.plan.compiled import inline, kernel
from fasttail.plan.orders import ClassDraws, ClassTable, Epoch, plain
from fasttail.plan.permute import cut, permutation, permute_run, subkey, unpermute
from fasttail.plan.quotas import Probabilities, quotas
from fasttail.plan.random import key

SLIDES = 16  # chunks in a window
LARGEST = 1 << 31  # bytes of an image: so much that sums of 2^32 images do not overflow
_STRETCHES_KEPT = 2  # a batch may lie across two

Draws = tuple[np.ndarray, np.ndarray]  # sample ids and classes, int64 [B] each


class Layout(ClassTable, Protocol):
    """A class-index table that also tells how samples lie in the shards: in the order of ids, and
    with a class's samples ascending in the table."""

    @property
    def labels_N(self) -> np.ndarray: ...

    @property
    def sizes_N(self) -> np.ndarray: ...  # int64 [N], bytes


@dataclass(frozen=True)
class Pages:
    """How much is read together, and how much memory the images of a plan may take, in bytes."""

    page_bytes: int
    window_bytes: int

    def __post_init__(self) -> None:
        if self.page_bytes < 1 or self.page_bytes > self.window_bytes // (3 * SLIDES):
            raise UserError(
                f"pages of {self.page_bytes} bytes in a window of {self.window_bytes} bytes: "
                f"a window must hold {3 * SLIDES} pages or more"
            )

    @property
    def resident_bytes(self) -> int:
        return self.window_bytes // 2

    @property
    def chunk_bytes(self) -> int:
        # A third is left free: a cache keeps an image for some time after its last use.
        return (self.window_bytes - self.resident_bytes) * 2 // (3 * SLIDES)


class PagedOrder:
    """The draws of `QuotaOrder`, page by page. See the top of this file."""

    def __init__(self, split: Layout, p: Probabilities, epoch: Epoch, pages: Pages) -> None:
        self._labels_N, self._sizes_N = plain(split.labels_N), plain(split.sizes_N)
        self._table = plain(split.indptr_C1), plain(split.samples_N)
        self._at = at = (epoch.seed, epoch.number)
        ring_key = key("ring", epoch.seed)
        drawn_C, quota_C = quotas(p, epoch.total, epoch.number)

        bytes_C = np.zeros(len(quota_C), dtype=np.int64)
        if not class_bytes(self._labels_N, self._sizes_N, bytes_C):
            raise _damaged()
        self.resident_C = _residents(quota_C, np.diff(split.indptr_C1), bytes_C, pages)
        hot_C = np.where(self.resident_C, quota_C, 0)
        self._hot = ClassDraws(split, drawn_C, hot_C, key("hot", *at), ring_key)
        self._cold = plain(drawn_C), plain(quota_C - hot_C), ring_key

        starts = np.empty(int(bytes_C.sum()) // pages.page_bytes + 2, dtype=np.int64)
        count = page_starts(self._sizes_N, pages.page_bytes, starts)
        self.page_starts_P1 = starts[: count + 1]
        draws_P = np.zeros(count, dtype=np.int64)
        if not count_cold(self.page_starts_P1, self._labels_N, *self._table, *self._cold, draws_P):
            raise _damaged()
        self._pages_P = np.empty(count, dtype=np.int64)
        permutation(count, key("pages", *at), self._pages_P)

        each = max(1, pages.chunk_bytes // pages.page_bytes)
        self._chunks = [self._pages_P[i : i + each] for i in range(0, count, each)]
        self._draws_K = [int(draws_P[chunk].sum()) for chunk in self._chunks]
        self._hot_S1, self._starts_S1 = self._stretch(int(hot_C.sum()))
        self._chunk = lru_cache(SLIDES + 1)(self._list_chunk)
        self._content = lru_cache(_STRETCHES_KEPT)(self._list_stretch)

    def draw(self, first: int, count: int) -> Draws:
        ids, classes = [], []
        position, end = first, first + count
        while position < end:
            s = int(np.searchsorted(self._starts_S1, position, side="right")) - 1
            start, stop = int(self._starts_S1[s]), min(end, int(self._starts_S1[s + 1]))
            content = self._content(s)
            slots = np.empty(stop - position, dtype=np.uint64)
            slots_run(position - start, len(content[0]), key("stretch", *self._at, s), slots)
            ids.append(content[0][slots])
            classes.append(content[1][slots])
            position = stop
        return np.concatenate(ids), np.concatenate(classes)

    def _stretch(self, hot_total: int) -> tuple[np.ndarray, np.ndarray]:
        """Where stretches begin among the resident classes' draws and in the epoch, int64 [S+1]."""
        cold_S = np.zeros(len(self._chunks) + SLIDES - 1, dtype=np.int64)
        for i, draws in enumerate(self._draws_K):
            cold_S[i : i + SLIDES] += np.diff(_cuts(draws))
        cold_S1 = np.concatenate([[0], np.cumsum(cold_S)])
        cold_total = int(cold_S1[-1])
        if cold_total:  # in whole numbers of any length: the product may pass 2^63
            hot_S1 = np.array([hot_total * int(cold) // cold_total for cold in cold_S1])
        else:
            hot_S1 = np.array([0, *[hot_total] * len(cold_S)])
        return hot_S1, cold_S1 + hot_S1

    def _list_chunk(self, i: int) -> Draws:
        """All draws of a chunk, in an order of its own."""
        ids_D, classes_D = (np.empty(self._draws_K[i], dtype=np.int64) for _ in range(2))
        list_cold(
            self._chunks[i], self.page_starts_P1, self._labels_N, *self._table, *self._cold, ids_D,
            classes_D,
        )  # fmt: skip
        slots = np.empty(len(ids_D), dtype=np.uint64)
        slots_run(0, len(ids_D), key("chunk", *self._at, i), slots)
        return ids_D[slots], classes_D[slots]

    def _list_stretch(self, s: int) -> Draws:
        """All draws of a stretch: resident classes' first, then a part of each chunk's."""
        begin, end = int(self._hot_S1[s]), int(self._hot_S1[s + 1])
        parts = [self._hot.draw(begin, end - begin)] if end > begin else []
        for i in range(max(0, s - SLIDES + 1), min(s + 1, len(self._chunks))):
            lo, hi = _cuts(self._draws_K[i])[s - i : s - i + 2]
            ids_D, classes_D = self._chunk(i)
            parts.append((ids_D[lo:hi], classes_D[lo:hi]))
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _damaged() -> UserError:
    return UserError(
        "the class-index table is damaged: its labels, sizes and samples do not fit together, or a "
        'class\'s samples do not ascend: run "fasttail verify" on the shards'
    )


def _cuts(draws: int) -> np.ndarray:
    """Where a chunk's draws are cut for the stretches they are dealt to, int64 [SLIDES+1]."""
    return draws * np.arange(SLIDES + 1, dtype=np.int64) // SLIDES


def _residents(
    quota_C: np.ndarray, counts_C: np.ndarray, bytes_C: np.ndarray, pages: Pages
) -> np.ndarray:
    """Which classes stay in memory, bool [C]: those with most draws a byte, as many as fit, and
    none whose images are drawn once or less."""
    order_C = np.argsort(-quota_C / np.maximum(bytes_C, 1), kind="stable")
    order_C = order_C[quota_C[order_C] > counts_C[order_C]]
    fit = order_C[np.cumsum(bytes_C[order_C]) <= pages.resident_bytes]
    resident_C = np.zeros(len(quota_C), dtype=np.bool_)
    resident_C[fit] = True
    return resident_C


@kernel
def class_bytes(labels_N, sizes_N, bytes_C):
    """Adds up each class's bytes; False if a label or a size can't be."""
    for i in range(len(labels_N)):
        c = labels_N[i]
        if not 0 <= c < len(bytes_C) or not 0 <= sizes_N[i] < LARGEST:
            return False
        bytes_C[c] += sizes_N[i]
    return True


@kernel
def page_starts(sizes_N, page_bytes, starts_P1):
    """Fills in the first sample of every page, and N after the last; returns how many pages."""
    pages = 0
    held = page_bytes
    for i in range(len(sizes_N)):
        if held >= page_bytes:
            starts_P1[pages] = i
            pages += 1
            held = 0
        held += sizes_N[i]
    starts_P1[pages] = len(sizes_N)
    return pages


@inline
def times_drawn(i, c, indptr_C1, samples_N, drawn_C, quota_C, ring_key):
    """How often sample i, of class c, is drawn in the epoch; -1 if the table doesn't have it where
    it should."""
    low, high = indptr_C1[c], indptr_C1[c + 1] - 1
    size = high - low + 1
    while low < high:
        middle = (low + high) >> 1
        if samples_N[middle] < i:
            low = middle + 1
        else:
            high = middle
    if samples_N[low] != i:
        return -1
    bits, rows = cut(size)
    rank = np.uint64(low - indptr_C1[c])
    place = np.int64(unpermute(rank, np.uint64(size), bits, rows, subkey(ring_key, c)))
    ahead = (place - drawn_C[c]) % size  # places from where the class's walk takes up
    return quota_C[c] // size + (1 if ahead < quota_C[c] % size else 0)


@kernel
def count_cold(
    starts_P1, labels_N, indptr_C1, samples_N, drawn_C, quota_C, ring_key, draws_P
):  # fmt: skip
    """Fills in the draws of every page; False if the class-index table is out of order."""
    for page in range(len(draws_P)):
        for i in range(starts_P1[page], starts_P1[page + 1]):
            c = labels_N[i]
            if quota_C[c] > 0:
                times = times_drawn(i, c, indptr_C1, samples_N, drawn_C, quota_C, ring_key)
                if times < 0:
                    return False
                draws_P[page] += times
    return True


@kernel
def list_cold(
    pages, starts_P1, labels_N, indptr_C1, samples_N, drawn_C, quota_C, ring_key, ids_D, classes_D
):  # fmt: skip
    """Fills in the draws of these pages, page by page."""
    d = 0
    for page in pages:
        for i in range(starts_P1[page], starts_P1[page + 1]):
            c = labels_N[i]
            if quota_C[c] > 0:
                times = times_drawn(i, c, indptr_C1, samples_N, drawn_C, quota_C, ring_key)
                for _ in range(times):
                    ids_D[d] = i
                    classes_D[d] = c
                    d += 1


@kernel
def slots_run(first, n, slots_key, out_B):
    """Where first, first + 1, ... go in a permutation of 0..n-1, uint64 [B]."""
    bits, rows = cut(n)
    permute_run(np.uint64(first), np.uint64(n), bits, rows, slots_key, out_B)
