"""What an engine reads: the part of a split that says where each sample's bytes are.

`fasttail.shards` gives it; anything with these members will do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

JPEG = 0  # the bytes of a JPEG file
RAW = 1  # pixels, RGB, row by row


class Source(Protocol):
    """N samples in some container files ("parts"). Arrays may be memory-mapped."""

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
    def part_paths(self) -> Sequence[Path]: ...

    def __len__(self) -> int: ...

    def part_bytes(self, part: int) -> np.ndarray:
        """A whole part, uint8, memory-mapped; the same mapping at every call."""
        ...

    def bytes(self, i: int) -> np.ndarray:
        """Sample i's bytes, uint8, not copied."""
        ...

    def where(self, i: int) -> str:
        """For messages: `train-00000.beton: sample 812 (class 40 'apple')`."""
        ...
