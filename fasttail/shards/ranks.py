"""The processes that convert together: one, or as many as torchrun started, on any nodes.

The first lists the source and writes the table. Parts are handed out one by one, to whoever asks
next: nobody waits for the slowest but at the end. What one process leaves undone, because it or its
node died, the first makes by itself.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from fasttail.world import World

_PATIENCE = timedelta(days=2)  # listing a source may take hours
_TICK_S = 0.1
_FAREWELL_S = 5.0  # where torchrun keeps no store of its own, it ends with the first process
T = TypeVar("T")


class Ranks:
    """This process among the others. On its own it does nothing."""

    def __init__(self) -> None:
        self.world = World.from_env()
        self._count = 0
        self._store = None
        if self.world.size > 1:
            from torch.distributed.rendezvous import rendezvous

            world = self.world
            self._store, _, _ = next(
                rendezvous("env://", world.rank, world.size, timeout=_PATIENCE)
            )

    @property
    def is_main(self) -> bool:
        return self.world.is_main

    def share(self, jobs: int) -> int:
        """Of so many worker processes on a node, this process's."""
        return max(1, jobs // self.world.local_size)

    @contextmanager
    def leading(self) -> Iterator[None]:
        """For the first process: however the block ends, the others learn of it."""
        end = "failed"
        try:
            yield
            end = "done"
        finally:
            if self._store is not None:
                self._store.set("end", end)
                deadline_s = time.monotonic() + _FAREWELL_S
                while self._store.add("left", 0) < self.world.size - 1:
                    if time.monotonic() > deadline_s:
                        break
                    time.sleep(_TICK_S)

    def announce(self, out: str, key: str) -> None:
        """The others may begin: the manifest with this key is written."""
        if self._store is not None:
            self._store.set("manifest", f"{key} {out}")

    def announced(self) -> tuple[str, str]:
        """(folder, key) of the manifest, once it is written. Exits if it never will be."""
        key, out = self._wait_for("manifest").split(" ", 1)
        return out, key

    def take(self, items: Sequence[T]) -> Iterator[T]:
        """The items, each for one of the processes, whichever is the next to ask."""
        if self._store is None:
            yield from items
            return
        while (k := self._store.add("taken", 1) - 1) < len(items):
            yield items[k]

    def count(self, more: int) -> int:
        """How many there are with these, of all processes."""
        if self._store is not None:
            return self._store.add("images", more)
        self._count += more
        return self._count

    def leave(self) -> None:
        """For the others: returns once the first process has ended well, and exits if not."""
        self._wait_for("end")
        assert self._store is not None
        self._store.add("left", 1)

    def _wait_for(self, key: str) -> str:
        store = self._store
        assert store is not None
        # By looking, not by store.wait: that would hear no signal.
        while not store.check([key]):
            if store.check(["end"]):
                break
            time.sleep(_TICK_S)
        if store.check(["end"]) and store.get("end") == b"failed":
            store.add("left", 1)
            raise SystemExit(2)  # the first process says why
        return store.get(key).decode("utf-8", "surrogateescape")
