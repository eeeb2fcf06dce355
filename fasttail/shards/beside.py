"""For `verify`: do a split's seek index and cache hold of each sample what its bytes give?"""

from collections.abc import Callable, Iterator

import numpy as np

from fasttail import kernels
from fasttail.errors import UserError
from fasttail.shards.columns import JPG
from fasttail.shards.reader import Split


class Beside:
    """What lies beside a split's samples, which are shown to it one by one, by any thread.

    Raises `UserError` if something does and the kernel is missing.
    """

    def __init__(self, split: Split) -> None:
        self._split = split
        self._unread = ""
        self._cache = None
        try:
            self._cache = split.cache
        except UserError as error:
            self._unread = str(error)
        self._misfits: dict[str, list[int]] = {"index": [], "cache": []}
        if (split.seek or self._cache) and not kernels.available():
            raise UserError(
                "to verify a seek index or a cache needs fasttail's kernel: "
                + kernels.why_missing()
            )

    def look(self, i: int, data: np.ndarray) -> None:
        """`data`: the bytes of sample i, which are what was written."""
        split = self._split
        if split.seek is not None and split.meta.seek is not None:
            words_W, starts_N1 = split.seek
            here = words_W[starts_N1[i] : starts_N1[i + 1]]
            spacing = split.meta.seek.spacing
            if not self._is(here, i, lambda: kernels.jpeg_seek(data, spacing)):
                self._misfits["index"].append(i)
        cache = self._cache
        if cache is None:
            return
        k = int(np.searchsorted(cache.ids_K, i))
        if k < len(cache.ids_K) and cache.ids_K[k] == i:
            start, size = int(cache.offsets_K[k]), int(cache.sizes_K[k])
            here = cache.planes[max(start, 0) : max(start + size, 0)]
            if not self._is(here, i, lambda: kernels.jpeg_planes(data)):
                self._misfits["cache"].append(i)

    def problems(self) -> Iterator[tuple[str, np.ndarray]]:
        """What is wrong, and of which samples; of none in particular, if there are none."""
        if self._unread:
            yield self._unread, np.empty(0, np.int64)
        name = self._split.name
        for where, what in (("index", "seek indices"), ("cache", "decoded images")):
            if ids := sorted(self._misfits[where]):
                problem = f"{name}.{where}: {len(ids)} {what} are not what the JPEGs give"
                yield problem, np.array(ids)

    def _is(self, here: np.ndarray, i: int, make: Callable[[], np.ndarray]) -> bool:
        """Whether `here` is what is made of a JPEG; of pixels there is nothing."""
        if self._split.modes_N[i] != JPG:
            return not len(here)
        try:
            return np.array_equal(here, make())
        except ValueError:  # no good JPEG
            return False
