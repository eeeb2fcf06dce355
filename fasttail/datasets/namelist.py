"""Many file names in little memory: one block of bytes and where each name begins.

A Python string costs about 50 bytes more than its text; ten million paths are gigabytes as a list.
Here they are two arrays, and these lie in a file where they are large. The same two are what is
stored beside the shards.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np

from fasttail.datasets.spool import Spool, forget

_BLOCK = 1 << 16  # names that are picked at a time: it takes eight times their text


@dataclass(frozen=True, eq=False)
class Names(Sequence[str]):
    """`text` uint8 [bytes]; name i is `text[starts[i]:starts[i + 1]]`, `starts` int64 [N + 1].

    Bytes, since a Unix file name need not be valid UTF-8: `os.fsencode` and `os.fsdecode`.
    """

    text: np.ndarray
    starts: np.ndarray

    @staticmethod
    def of(names: Iterable[str]) -> "Names":
        text, starts, end = Spool(np.uint8), Spool(np.int64, [0]), 0
        for name in names:
            encoded = os.fsencode(name)
            text.extend(encoded)
            end += len(encoded)
            starts.append(end)
        return Names(text.array(), starts.array())

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __iter__(self) -> Iterator[str]:
        for a in range(0, len(self), _BLOCK):
            starts = self.starts[a : a + _BLOCK + 1]
            text = self.text[starts[0] : starts[-1]].tobytes()
            for start, end in pairwise((starts - starts[0]).tolist()):
                yield os.fsdecode(text[start:end])
            self.forget()

    def forget(self) -> None:
        """What was read of them no longer counts as this process's memory."""
        forget(self.text, self.starts)

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> "Names": ...
    def __getitem__(self, i: int | slice) -> "str | Names":
        if isinstance(i, slice):
            return self.pick(np.arange(len(self))[i])
        if not -len(self) <= i < len(self):
            raise IndexError(f"name {i} of {len(self)}")
        i %= len(self)
        return os.fsdecode(self.text[self.starts[i] : self.starts[i + 1]].tobytes())

    def pick(self, which_N: np.ndarray) -> "Names":
        """The names at these positions, in this order."""
        if len(which_N) and np.array_equal(which_N, np.arange(which_N[0], which_N[-1] + 1)):
            starts = self.starts[which_N[0] : which_N[-1] + 2]
            return Names(np.array(self.text[starts[0] : starts[-1]]), starts - starts[0])
        lengths_N = (self.starts[1:] - self.starts[:-1])[which_N]
        starts = np.zeros(len(which_N) + 1, np.int64)
        np.cumsum(lengths_N, out=starts[1:])
        text = np.empty(starts[-1], np.uint8)
        for a in range(0, len(which_N), _BLOCK):
            b = min(a + _BLOCK, len(which_N))
            # Where byte k of the new text comes from: its name's old start plus its place in it.
            shift = np.repeat(self.starts[:-1][which_N[a:b]] - starts[a:b], lengths_N[a:b])
            text[starts[a] : starts[b]] = self.text[shift + np.arange(starts[a], starts[b])]
        return Names(text, starts)
