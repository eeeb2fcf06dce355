"""A source's parts, mapped where and when a batch first needs them: shards in a store come part by
part. What a batch will read, the system is told beforehand, image by image.

Without that the first touch of an image waits for the disk alone, and what the system reads around
each touch pushes out of a small memory what is needed more (docs/scaling.md has figures).
"""

import ctypes
import mmap

import numpy as np

from fasttail.engines.source import Source
from fasttail.engines.table import Rows
from fasttail.plan.orders import READ_AHEAD_FITS, scattered

_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Parts:
    """Where samples' bytes are in memory."""

    def __init__(self, split: Source) -> None:
        self._split = split
        self._maps: dict[int, np.ndarray] = {}
        count = len(split.part_paths)
        self._starts_P = np.zeros(count, np.uint64)
        sizes = [split.part_size(part) for part in range(count)]
        self._large_P = np.array(sizes, np.int64) > READ_AHEAD_FITS

    def addresses(self, rows: Rows) -> np.ndarray:
        """uint64 [B]: where a batch's samples begin. They are being read from then on."""
        for part in dict.fromkeys(rows.parts_B[self._starts_P[rows.parts_B] == 0].tolist()):
            self._maps[part] = scattered(self._split.part_bytes(part))
            self._starts_P[part] = self._maps[part].ctypes.data
        starts_B = self._starts_P[rows.parts_B] + rows.offsets_B.astype(np.uint64)
        large_B = self._large_P[rows.parts_B]
        if large_B.any():
            _read_ahead(starts_B[large_B], rows.sizes_B[large_B])
        return starts_B


def _read_ahead(starts_B: np.ndarray, sizes_B: np.ndarray) -> None:
    pages_B = starts_B & ~np.uint64(mmap.PAGESIZE - 1)
    lengths_B = starts_B - pages_B + sizes_B.astype(np.uint64)
    for page, length in zip(pages_B.tolist(), lengths_B.tolist(), strict=True):
        _madvise(page, length, mmap.MADV_WILLNEED)
