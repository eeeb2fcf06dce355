"""Arrays of millions of values in little memory: what is large lies in an unnamed file, of which
the process sees what it reads. `TMPDIR` says where the file is.
"""

import mmap
import tempfile
from array import array
from collections.abc import Iterable

import numpy as np

BLOCK = 1 << 20  # values that are in memory at a time


class Spool:
    """Values of one type that come one after the other, in any number."""

    def __init__(self, dtype: type[np.generic], values: Iterable[int] = ()) -> None:
        self._dtype = np.dtype(dtype)
        self._block = array(self._dtype.char, values)
        self._file = None

    def append(self, value: int) -> None:
        self._block.append(value)
        if len(self._block) >= BLOCK:
            self._spill()

    def extend(self, values: bytes) -> None:
        self._block.frombytes(values)
        if len(self._block) >= BLOCK:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - the array keeps it
        self._file.write(self._block)
        del self._block[:]

    def array(self) -> np.ndarray:
        """All of them. Nothing can be added then."""
        if self._file is None:
            return np.frombuffer(self._block, self._dtype)
        self._spill()
        self._file.flush()
        with self._file as file:
            return np.asarray(np.memmap(file, self._dtype, "r"))


def scratch(length: int, dtype: type[np.generic], value: int = 0) -> np.ndarray:
    """An array to be filled, all of it `value` to begin with."""
    if length <= BLOCK:
        return np.full(length, value, dtype)
    with tempfile.TemporaryFile() as file:
        made = np.asarray(np.memmap(file, dtype, "w+", shape=length))
    for a in range(0, length if value else 0, BLOCK):
        made[a : a + BLOCK] = value
        forget(made)
    return made


def forget(*arrays: object) -> None:
    """What was read of arrays that lie in files no longer counts as this process's memory."""
    for found in arrays:
        while isinstance(found, np.ndarray):
            found = found.base
        if isinstance(found, mmap.mmap):
            found.madvise(mmap.MADV_DONTNEED)
