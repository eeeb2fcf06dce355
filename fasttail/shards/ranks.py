"""The processes that convert together: one, or as many as torchrun started, on any nodes."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from fasttail.world import World

_PATIENCE = timedelta(days=2)  # the others may have a part of terabytes to write


class Ranks:
    """Waits and small values between the processes. On its own it does nothing.

    A context manager. All ranks must call the same methods in the same order; if one fails,
    torchrun ends the others.
    """

    def __init__(self) -> None:
        self.world = World.from_env()
        if self.world.size > 1:
            from torch import distributed

            distributed.init_process_group("gloo", timeout=_PATIENCE)

    @property
    def is_main(self) -> bool:
        return self.world.is_main

    def mine(self, items: Iterable[Any]) -> Iterable[Any]:
        """This rank's share: every size-th item."""
        return (x for i, x in enumerate(items) if i % self.world.size == self.world.rank)

    def barrier(self) -> None:
        if self.world.size > 1:
            from torch import distributed

            distributed.barrier()

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of ranks, on every rank."""
        if self.world.size == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.world.size
        distributed.all_gather_object(values, value)
        return values

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *_: object) -> None:
        if self.world.size > 1:
            from torch import distributed

            distributed.destroy_process_group()
