"""What an engine reads: the part of a split that says where each sample's bytes are.

`fasttail.shards` gives it; anything with these members will do.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

JPEG = 0  # the bytes of a JPEG file
RAW = 1  # pixels, RGB, row by row


class Decoded(Protocol):
    """K samples of a source that are kept decoded, by id: each as kernels/planes.c has it."""

    @property
    def ids_K(self) -> np.ndarray: ...

    @property
    def offsets_K(self) -> np.ndarray:
        """int64 [K], bytes from the beginning of `planes`."""
        ...

    @property
    def sizes_K(self) -> np.ndarray:
        """int64 [K], bytes."""
        ...

    @property
    def crc32_K(self) -> np.ndarray:
        """uint32 [K], of those bytes."""
        ...

    @property
    def planes(self) -> np.ndarray:
        """All of them, uint8, memory-mapped."""
        ...


class Source(Protocol):
    """N samples in some container files ("parts"). Arrays may be memory-mapped."""

    @property
    def labels_N(self) -> np.ndarray:
        """The classes' numbers [N]."""
        ...

    @property
    def heights_N(self) -> np.ndarray:
        """int32 [N], pixels."""
        ...

    @property
    def widths_N(self) -> np.ndarray:
        """int32 [N], pixels."""
        ...

    @property
    def modes_N(self) -> np.ndarray:
        """uint8 [N]: JPEG or RAW."""
        ...

    @property
    def parts_N(self) -> np.ndarray:
        """The part that holds the sample."""
        ...

    @property
    def offsets_N(self) -> np.ndarray:
        """int64 [N], bytes from the part's beginning."""
        ...

    @property
    def sizes_N(self) -> np.ndarray:
        """int64 [N], bytes."""
        ...

    @property
    def crc32_N(self) -> np.ndarray:
        """uint32 [N], of the sample's bytes."""
        ...

    @property
    def seek(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The seek index of the JPEGs, if there is one: words uint64 [W] as kernels/seek.h has
        them, and where each sample's begin, int64 [N + 1]."""
        ...

    @property
    def cache(self) -> Decoded | None:
        """The samples that are kept decoded, if there are any."""
        ...

    @property
    def part_paths(self) -> Sequence[Path]: ...

    def __len__(self) -> int: ...

    def part_size(self, part: int) -> int:
        """A part's bytes, known before it is there."""
        ...

    def part_bytes(self, part: int) -> np.ndarray:
        """A whole part, uint8, memory-mapped; the same mapping at every call."""
        ...

    def bytes(self, i: int) -> np.ndarray:
        """Sample i's bytes, uint8, not copied."""
        ...

    def where(self, i: int) -> str:
        """For messages: `train-00000.beton: sample 812 (class 40 'apple')`."""
        ...


class InMemory:
    """A `Source` of images in memory, each a part of its own under its name; all labels are 0."""

    def __init__(
        self,
        names: Sequence[str],
        images: Sequence[bytes],
        modes: Sequence[int],
        sizes_hw: Sequence[tuple[int, int]],
    ) -> None:
        self._data = [np.frombuffer(image, np.uint8) for image in images]
        self.part_paths = [Path(name) for name in names]
        self.heights_N, self.widths_N = np.array(sizes_hw, np.int32).reshape(-1, 2).T
        self.modes_N = np.array(modes, np.uint8)
        self.parts_N = np.arange(len(images), dtype=np.int32)
        self.offsets_N = np.zeros(len(images), np.int64)
        self.sizes_N = np.array([len(image) for image in images], np.int64)
        self.crc32_N = np.array([zlib.crc32(image) for image in images], np.uint32)
        self.labels_N = np.zeros(len(images), np.int64)
        self.seek = self.cache = None

    def __len__(self) -> int:
        return len(self._data)

    def part_size(self, part: int) -> int:
        return self._data[part].size

    def part_bytes(self, part: int) -> np.ndarray:
        return self._data[part]

    def bytes(self, i: int) -> np.ndarray:
        return self._data[i]

    def where(self, i: int) -> str:
        return str(self.part_paths[i])
