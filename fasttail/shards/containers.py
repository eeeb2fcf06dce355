"""The containers by name, and what each must do."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from fasttail.errors import unknown
from fasttail.shards.beton import Beton
from fasttail.shards.tar import Tar


class Container(Protocol):
    """How samples are laid into a file. Bytes are counted from the file's beginning."""

    @property
    def suffix(self) -> str: ...

    def start(self, num_samples: int) -> int:
        """Where the first sample may lie, for a file of up to so many."""
        ...

    def room(self, size: int, mode: int) -> int:
        """Bytes that an image of `size` bytes takes with its framing; 0 if not known yet."""
        ...

    def begin_chunk(self, cursor: int) -> int:
        """Where a chunk of samples may begin, behind `cursor`."""
        ...

    def place(self, cursor: int, room: int) -> int:
        """Where a sample may begin, behind `cursor`."""
        ...

    def frame(
        self, key: int, size: int, mode: int, height: int, width: int, label: int
    ) -> tuple[bytes, bytes]:
        """What goes right before and right after an image's bytes."""
        ...

    def fill(self, room: int) -> bytes:
        """What begins a gap of `room` bytes that was kept for an image."""
        ...

    def finish(self, fd: int, end: int, columns: dict[str, np.ndarray]) -> int:
        """Writes what surrounds the samples, which reach up to `end`; returns the file's size."""
        ...

    def companion(
        self, columns: dict[str, np.ndarray], keys_N: np.ndarray
    ) -> tuple[str, bytes] | None:
        """(suffix, content) of a file to lie beside the part, if there is one. `keys_N`: see
        `frame`."""
        ...


def container(name: str) -> Container:
    """The container of that name, as in `--format`."""
    makers: dict[str, Callable[[], Container]] = {"beton": Beton, "tar": Tar}
    if name not in makers:
        raise unknown("format", name, makers)
    return makers[name]()
