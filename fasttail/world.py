"""Which process this is among how many: the only reader of what torchrun and Slurm set."""

import os
from dataclasses import dataclass

from fasttail.errors import UserError

PLACES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")


@dataclass(frozen=True)
class World:
    """One process's place in the job. `rank` counts over all nodes, `local_rank` within a node;
    `restarts` is how often torchrun has started the processes again, or Slurm the job."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    local_size: int = 1
    restarts: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.size and 0 <= self.local_rank < self.local_size):
            raise UserError(
                f"RANK={self.rank} LOCAL_RANK={self.local_rank} WORLD_SIZE={self.size} "
                f"LOCAL_WORLD_SIZE={self.local_size} do not fit together: start with torchrun"
            )

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and talks to the screen."""
        return self.rank == 0

    @staticmethod
    def from_env() -> "World":
        """What torchrun has set, or a world of one.

        Raises `UserError` if a variable is no whole number or they contradict each other.
        """
        try:
            return World(
                rank=int(os.environ.get("RANK", "0")),
                local_rank=int(os.environ.get("LOCAL_RANK", "0")),
                size=int(os.environ.get("WORLD_SIZE", "1")),
                local_size=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
                restarts=sum(int(os.environ.get(name, "0")) for name in RESTARTS),
            )
        except ValueError as error:
            raise UserError(
                f"{', '.join((*PLACES, *RESTARTS))}: {error}: start with torchrun"
            ) from None


def place(rank: int | None = None, world_size: int | None = None) -> tuple[int, int]:
    """Rank and number of ranks: those given, or else torch.distributed's, or else 0 of 1.

    Raises `UserError` if half of it is given, or if torchrun has started several processes that are
    not connected yet: each would take itself for the only one, and all would train on the same.
    """
    if rank is not None and world_size is not None:
        return rank, world_size
    if rank is not None or world_size is not None:
        raise UserError("rank and world_size go together: give both, or neither")
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    started = World.from_env().size
    if started > 1:
        raise UserError(
            f"WORLD_SIZE is {started}, but torch.distributed is not initialised: call "
            "init_process_group before, or give rank and world_size"
        )
    return 0, 1
