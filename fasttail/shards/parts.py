"""Dividing a split into parts and chunks, before an image is read: a pure function of its facts.

So the bytes that come out do not depend on who makes a part, or with how many workers. A part is a
file; a chunk is what a worker does at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fasttail.datasets.base import Facts
from fasttail.datasets.spool import BLOCK, forget
from fasttail.shards.columns import JPG, RAW
from fasttail.shards.containers import Container

PART_IMAGES = 1 << 20  # at most, so that what is known of a part's images fits in memory
CHUNK_IMAGES = 128
CHUNK_BYTES = 32 << 20


@dataclass(frozen=True)
class Part:
    """How K images lie in one file; `chunks` are places among them.

    slots_K, rooms_K: where the image's framing begins in the file and how many bytes there are; a
    slot of -1 has no room: the image is put behind all slots once its size is known. `end` is where
    the slots end.
    """

    chunks: tuple[tuple[int, int], ...]
    slots_K: np.ndarray
    rooms_K: np.ndarray
    end: int


def divide(bytes_N: np.ndarray, part_bytes: int) -> list[tuple[int, int]]:
    """(start, stop) of every part: the images in order, `part_bytes` of source files in each."""
    bounds, seen, total = [0], 0, 0  # bytes before the last bound's image, and before the block
    for a in range(0, len(bytes_N), BLOCK):
        ends = total + np.concatenate([[0], np.cumsum(bytes_N[a : a + BLOCK])])
        while True:
            full = a + int(np.searchsorted(ends, seen + part_bytes, side="right")) - 1
            stop = min(max(full, bounds[-1] + 1), bounds[-1] + PART_IMAGES)
            if stop >= a + len(ends) - 1:
                break  # the next block may have more for this part
            bounds.append(stop)
            seen = int(ends[stop - a])
        total = int(ends[-1])
        forget(bytes_N)
    return list(pairwise([*bounds, len(bytes_N)]))


def plan(facts: Facts, container: Container, *, pixels: bool) -> Part:
    """Lays out one part, of these images. `pixels`: they are stored as pixels."""
    plain_K, sizes_K = facts.plain_N, facts.bytes_N
    count = len(sizes_K)
    slots_K = np.full(count, -1, np.int64)
    rooms_K = np.zeros(count, np.int64)
    cursor = container.start(count)
    chunks = tuple(_chunks(sizes_K))
    mode = RAW if pixels else JPG
    for a, b in chunks:
        cursor = container.begin_chunk(cursor)
        for k in range(a, b):
            if plain_K[k] and sizes_K[k]:
                room = container.room(int(sizes_K[k]), mode)
                if room:
                    slots_K[k] = cursor = container.place(cursor, room)
                    rooms_K[k] = room
                    cursor += room
    return Part(chunks, slots_K, rooms_K, cursor)


def _chunks(sizes_K: np.ndarray) -> Iterator[tuple[int, int]]:
    start, held = 0, 0
    for k, size in enumerate(sizes_K.tolist()):
        if k > start and (k - start >= CHUNK_IMAGES or held + size > CHUNK_BYTES):
            yield start, k
            start, held = k, 0
        held += size
    if start < len(sizes_K):
        yield start, len(sizes_K)
