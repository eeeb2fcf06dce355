"""Rows of a split's table, read for a batch at a time, and whether they can be true.

Large tables are not compared with their digests before training: what a row says is looked at
before anybody computes an address with it.
"""

from dataclasses import dataclass

import numpy as np

from fasttail.engines.source import JPEG, RAW, Source
from fasttail.errors import CorruptSample
from fasttail.plan.orders import scattered


@dataclass(frozen=True, slots=True)
class Rows:
    """What the table says of a batch's samples: see `Source`, whose words these are."""

    parts_B: np.ndarray
    offsets_B: np.ndarray
    sizes_B: np.ndarray
    modes_B: np.ndarray
    crc32_B: np.ndarray
    heights_B: np.ndarray
    widths_B: np.ndarray


class Table:
    """A split's table, for reading rows here and there."""

    def __init__(self, split: Source) -> None:
        self._split = split
        columns = (
            *(split.parts_N, split.offsets_N, split.sizes_N, split.modes_N),
            *(split.crc32_N, split.heights_N, split.widths_N),
        )
        self._columns = [scattered(column) for column in columns]
        parts = range(len(split.part_paths))
        self._lengths_P = np.array([split.part_size(part) for part in parts], np.int64)

    def rows(self, ids_B: np.ndarray) -> Rows:
        """Raises `CorruptSample` if there is one whose bytes can't be what its row says."""
        rows = Rows(*(column[ids_B] for column in self._columns))
        part_known_B = (rows.parts_B >= 0) & (rows.parts_B < len(self._lengths_P))
        lengths_B = self._lengths_P[np.where(part_known_B, rows.parts_B, 0)]
        # Not by a sum of the two, which may overflow.
        inside_B = part_known_B & (rows.offsets_B >= 0) & (rows.sizes_B > 0)
        inside_B &= rows.sizes_B <= lengths_B - rows.offsets_B
        pixels_B = 3 * rows.heights_B.astype(np.int64) * rows.widths_B
        fits_B = (rows.modes_B == JPEG) | ((rows.modes_B == RAW) & (rows.sizes_B == pixels_B))
        if not inside_B.all():
            where = self._split.where(int(ids_B[np.argmin(inside_B)]))
            raise CorruptSample(f"{where}: its bytes lie past the end of the file")
        if not fits_B.all():
            where = self._split.where(int(ids_B[np.argmin(fits_B)]))
            raise CorruptSample(f"{where}: its bytes are not the pixels that the index says")
        return rows
