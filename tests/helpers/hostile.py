"""Images that kill or hold up whoever looks at their content, and the commands that meet them.

Worker processes import this module by name, so what is here is small.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import photos

from fasttail.datasets.base import Facts, Index, SplitIndex

GOOD = photos.encoded(1)


class Crashing(bytes):
    """Looking at its bytes kills the process, as a decoder's fault would."""

    number = signal.SIGSEGV

    def __getitem__(self, key: object) -> bytes:
        os.kill(os.getpid(), self.number)
        time.sleep(60)
        return b""


class Killed(Crashing):
    number = signal.SIGKILL


class CrashingOnce(bytes):
    """Kills the first process that looks at it."""

    mark: Path

    def __getitem__(self, key: object) -> bytes:
        try:
            self.mark.touch(exist_ok=False)
        except FileExistsError:
            return bytes(self)[key]  # type: ignore[index]
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)
        return b""


class Hanging(bytes):
    def __getitem__(self, key: object) -> bytes:
        time.sleep(600)
        return b""


class Exiting(bytes):
    def __getitem__(self, key: object) -> bytes:
        os._exit(1)


@dataclass(frozen=True)
class Hostile:
    """Image i is what `kinds[i]` says."""

    kinds: tuple[str, ...]
    mark: Path

    def __len__(self) -> int:
        return len(self.kinds)

    def name(self, i: int) -> str:
        return f"{i}-{self.kinds[i]}"

    def read(self, i: int) -> bytes:
        kind = self.kinds[i]
        if kind == "slow" and "SLOW_IMAGES" in os.environ:
            time.sleep(0.2)
        if kind == "crashing once":
            content = CrashingOnce(GOOD)
            content.mark = self.mark
            return content
        made = {"crashing": Crashing, "killed": Killed, "hanging": Hanging, "exiting": Exiting}
        return made.get(kind, bytes)(GOOD)

    def pick(self, which_N: np.ndarray) -> "Hostile":
        return Hostile(tuple(self.kinds[i] for i in which_N), self.mark)

    def facts(self) -> Facts:
        n = len(self)
        return Facts(np.full(n, len(GOOD)), np.ones(n, bool), np.zeros(n, np.int64))


@dataclass(frozen=True)
class KilledAtStart(Hostile):
    """A worker that is given them is killed before the first image. `mark` holds the number of the
    process that is spared: the conversion's own."""

    def pick(self, which_N: np.ndarray) -> "Hostile":
        return KilledAtStart(tuple(self.kinds[i] for i in which_N), self.mark)

    def __setstate__(self, state: dict[str, Any]) -> None:
        if int(state["mark"].read_text()) != os.getpid():
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        self.__dict__.update(state)


def index(kinds: list[str], mark: Path) -> Index:
    split = SplitIndex(Hostile(tuple(kinds), mark), np.arange(len(kinds)) % 2)
    return Index("hostile", ("a", "b"), {"train": split}, photos.HALF, photos.HALF)
