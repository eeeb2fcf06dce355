"""Are a sample's bytes still those that were written? Checked when it is first read.

Decoders notice some damage and pass over some: a flipped bit in a JPEG may decode to other pixels,
and in raw pixels nothing can be noticed. Checked once, this costs nothing from the second epoch on.
"""

import zlib

import numpy as np

from fasttail.engines.source import Source
from fasttail.errors import CorruptSample


class Checksums:
    """Which samples of a split have been checked in this process."""

    def __init__(self, split: Source) -> None:
        self._split = split
        self._checked = np.zeros(-(-len(split) // 8), np.uint8)  # a bit each: of 10^9, 125 MB

    def unchecked(self, ids_B: np.ndarray) -> np.ndarray:
        """bool [B]: which of these have not been checked yet."""
        return self._checked[ids_B >> 3] & _bits(ids_B) == 0

    def mark(self, ids_B: np.ndarray) -> None:
        """These have been checked."""
        np.bitwise_or.at(self._checked, ids_B >> 3, _bits(ids_B))

    def check(self, ids_B: np.ndarray) -> None:
        """Checks those that have not been. Raises `CorruptSample` for the first that is damaged."""
        for b in np.flatnonzero(self.unchecked(ids_B)):
            verify(self._split, int(ids_B[b]))
            self.mark(ids_B[b : b + 1])


def _bits(ids_B: np.ndarray) -> np.ndarray:
    return np.uint8(1) << (ids_B & 7).astype(np.uint8)


def verify(split: Source, i: int) -> None:
    """Raises `CorruptSample` if sample i's bytes differ from those that were written."""
    stored = split.bytes(i)
    if stored.size != int(split.sizes_N[i]):
        raise CorruptSample(f"{split.where(i)}: its bytes lie past the end of the file")
    if zlib.crc32(stored.data) != int(split.crc32_N[i]):
        raise CorruptSample(f"{split.where(i)}: the checksum of its bytes differs from the index")
