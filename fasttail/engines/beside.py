"""What lies beside a split's JPEGs and makes them faster to read: their seek index, and images that
are kept decoded. Either tells the kernel where to look, or leaves a batch's items as they are.

Neither is believed: places are looked at before anybody computes an address with them, and the
kernel compares what it finds there with the JPEG, or with a checksum.
"""

import numpy as np

from fasttail import kernels
from fasttail.engines.source import Source
from fasttail.errors import CorruptSample
from fasttail.plan.orders import plain, scattered

MAX_WORDS = np.iinfo(np.int32).max


class Seek:
    """The JPEGs' seek index."""

    def __init__(self, split: Source) -> None:
        self._split = split
        words, starts = split.seek or (np.empty(0, np.uint64), None)
        self._words_W = scattered(words)
        self._starts_N1 = None if starts is None else scattered(starts)

    def fill(self, items_B: np.ndarray, ids_B: np.ndarray) -> None:
        """Raises `CorruptSample` if a sample's index can't lie where it is said to."""
        if self._starts_N1 is None:
            return
        starts_B, ends_B = self._starts_N1[ids_B], self._starts_N1[ids_B + 1]
        inside_B = (starts_B >= 0) & (starts_B <= ends_B) & (ends_B <= len(self._words_W))
        inside_B &= ends_B - starts_B <= MAX_WORDS
        if not inside_B.all():
            where = self._split.where(int(ids_B[np.argmin(inside_B)]))
            raise CorruptSample(f"{where}: its seek index lies past the end of the file")
        first = np.uint64(self._words_W.ctypes.data)
        items_B["seek"] = first + 8 * starts_B.astype(np.uint64)
        items_B["seek_count"] = ends_B - starts_B


class Cached:
    """The images that are kept decoded."""

    def __init__(self, split: Source) -> None:
        self._split = split
        self._cache = split.cache
        if self._cache is not None:
            self._ids_K = plain(self._cache.ids_K)
            self._planes = plain(self._cache.planes)

    def note(self, i: int) -> str:
        """What is to be said besides, if sample i fails."""
        if self._cache is None or i not in self._ids_K:
            return ""
        return ", in the cache: remove that by fasttail cache --remove"

    def fill(self, items_B: np.ndarray, ids_B: np.ndarray) -> None:
        """Raises `CorruptSample` if a sample can't lie where it is said to."""
        if self._cache is None:
            return
        place_B = np.minimum(np.searchsorted(self._ids_K, ids_B), len(self._ids_K) - 1)
        there_B = self._ids_K[place_B] == ids_B
        place_B, ids_B = place_B[there_B], ids_B[there_B]
        offsets_B, sizes_B = self._cache.offsets_K[place_B], self._cache.sizes_K[place_B]
        inside_B = (offsets_B >= 0) & (sizes_B > 0) & (sizes_B <= len(self._planes) - offsets_B)
        if not inside_B.all():
            i = int(ids_B[np.argmin(inside_B)])
            raise CorruptSample(
                f"{self._split.where(i)}: its samples lie past the end{self.note(i)}"
            )
        first = np.uint64(self._planes.ctypes.data)
        items_B["src"][there_B] = first + offsets_B.astype(np.uint64)
        items_B["size"][there_B] = sizes_B
        items_B["crc32"][there_B] = self._cache.crc32_K[place_B]
        items_B["mode"][there_B] = kernels.PLANES
