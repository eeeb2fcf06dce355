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
        self._checked_N = np.zeros(len(split), np.bool_)

    def unchecked(self, ids_B: np.ndarray) -> np.ndarray:
        """bool [B]: which of these have not been checked yet."""
        return ~self._checked_N[ids_B]

    def mark(self, ids_B: np.ndarray) -> None:
        """These have been checked."""
        self._checked_N[ids_B] = True

    def check(self, ids_B: np.ndarray) -> None:
        """Checks those that have not been. Raises `CorruptSample` for the first that is damaged."""
        for i in ids_B[self.unchecked(ids_B)]:
            verify(self._split, int(i))
            self._checked_N[i] = True


def verify(split: Source, i: int) -> None:
    """Raises `CorruptSample` if sample i's bytes differ from those that were written."""
    stored = split.bytes(i)
    if stored.size != int(split.sizes_N[i]):
        raise CorruptSample(f"{split.where(i)}: its bytes lie past the end of the file")
    if zlib.crc32(stored.data) != int(split.crc32_N[i]):
        raise CorruptSample(f"{split.where(i)}: the checksum of its bytes differs from the index")
