"""`BalancedBatchSampler`: the plan's order for any map-style Dataset and any DataLoader."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import Sampler

from fasttail.config import DEFAULTS
from fasttail.plan import order
from fasttail.plan.cursor import Cursor
from fasttail.world import place


class BalancedBatchSampler(Sampler[list[int]]):
    """Lists of this rank's indices: `DataLoader(dataset, batch_sampler=BalancedBatchSampler(...))`.

    An epoch is floor(N / batch_size) global batches with exact class quotas, the same for any
    number of ranks; each list has `batch_size / world_size` indices. Each iteration begins the next
    epoch, or the one of `set_epoch`.

    `labels` are int [N], 0..C-1, in NumPy, torch or a list. `sampler` is "instance", "class",
    "sqrt", "progressive", "power:Q" or "deferred:EPOCH"; `epochs` the length of the training, for
    those that change in its course. `batch_size` counts the images of all ranks; `rank` and
    `world_size` are torch.distributed's where it is initialised, unless given. Raises `UserError`
    for labels that are no class numbers or leave a class out, an unknown sampler, and a batch that
    the ranks can't share or the labels can't fill.
    """

    drop_last = True

    def __init__(
        self,
        labels: Any,
        sampler: str,
        *,
        batch_size: int,
        epochs: int = DEFAULTS.optim.epochs,
        seed: int = DEFAULTS.seed,
        draws: str = DEFAULTS.draws,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        rank, world_size = place(rank, world_size)
        self._order = order(labels, sampler, batch_size, epochs, seed, rank, world_size, draws)
        self._cursor = Cursor(self._settings)

    @property
    def batch_size(self) -> int:
        """Indices in a list, as in torch's `BatchSampler`: this rank's share of a batch."""
        return self._order.share

    @property
    def sampler(self) -> "BalancedBatchSampler":
        """Itself: where Lightning and accelerate look for `set_epoch`."""
        return self

    @property
    def epoch(self) -> int:
        """The epoch under way, or after its last batch the next one."""
        return self._cursor.epoch

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._order.steps

    def __iter__(self) -> Iterator[list[int]]:
        # A generator, so that the epoch begins with the first list that is asked for: a DataLoader
        # with workers makes an iterator that it never uses.
        epoch, start = self._cursor.begin()
        plan = self._order(epoch)
        for step in range(start, plan.steps):
            ids_B, _ = plan.batch(step)
            self._cursor.step = step + 1
            yield ids_B.tolist()
        self._cursor.end()

    def set_epoch(self, epoch: int) -> None:
        """The next iteration begins this epoch; where a state of it was loaded, in its middle."""
        self._cursor.set_epoch(epoch)

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """Where the iteration stands; the same for any number of ranks.

        A DataLoader with workers asks for batches ahead of the training: give the number of
        `batches` of this epoch that the training has taken, or leave it to `StatefulDataLoader`,
        which counts them itself.
        """
        return self._cursor.state_dict(batches)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration goes on where `state_dict` was taken. `UserError` if the labels or the
        settings are others."""
        self._cursor.load_state_dict(state)

    def _settings(self) -> dict[str, Any]:
        plan = self._order
        return {
            "labels": plan.table.digest,
            "sampler": plan.sampler,
            "batch_size": plan.batch_size,
            "epochs": plan.epochs,
            "seed": plan.seed,
            "draws": plan.draws,
        }
