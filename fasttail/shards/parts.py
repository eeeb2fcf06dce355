"""Dividing a split into parts and chunks, before an image is read: a pure function of its facts.

Every process that takes part in a conversion computes the same plan, so the bytes that come out do
not depend on how many there are. A part is a file; a chunk is what a worker does at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fasttail.datasets.base import Facts
from fasttail.shards.columns import JPG, RAW
from fasttail.shards.containers import Container

CHUNK_IMAGES = 128
CHUNK_BYTES = 32 << 20


@dataclass(frozen=True)
class Part:
    """Images `start`..`stop` of a split, in one file. K images; `chunks` are places among them.

    slots_K, rooms_K: where the image's framing begins in the file and how many bytes there are; a
    slot of -1 has no room: the image is put behind all slots once its size is known. `end` is where
    the slots end.
    """

    split: str
    number: int
    start: int
    stop: int
    chunks: tuple[tuple[int, int], ...]
    slots_K: np.ndarray
    rooms_K: np.ndarray
    end: int


def divide(facts: Facts, part_bytes: int) -> list[tuple[int, int]]:
    """(start, stop) of every part: the images in order, `part_bytes` of source files in each."""
    total = np.concatenate([[0], np.cumsum(facts.bytes_N)])
    bounds = [0]
    while bounds[-1] < len(facts.bytes_N):
        full = total[bounds[-1]] + part_bytes
        bounds.append(max(bounds[-1] + 1, int(np.searchsorted(total, full, side="right")) - 1))
    return list(pairwise(bounds))


def plan(
    split: str,
    number: int,
    bounds: tuple[int, int],
    facts: Facts,
    container: Container,
    *,
    pixels: bool,
) -> Part:
    """Lays out one part. `pixels`: its images are stored as pixels."""
    start, stop = bounds
    plain_K = facts.plain_N[start:stop]
    sizes_K = facts.bytes_N[start:stop]
    slots_K = np.full(stop - start, -1, np.int64)
    rooms_K = np.zeros(stop - start, np.int64)
    cursor = container.start(stop - start)
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
    return Part(split, number, start, stop, chunks, slots_K, rooms_K, cursor)


def _chunks(sizes_K: np.ndarray) -> Iterator[tuple[int, int]]:
    start, held = 0, 0
    for k, size in enumerate(sizes_K.tolist()):
        if k > start and (k - start >= CHUNK_IMAGES or held + size > CHUNK_BYTES):
            yield start, k
            start, held = k, 0
        held += size
    if start < len(sizes_K):
        yield start, len(sizes_K)
