"""One epoch as one rank sees it: `batch(step)` is pure, and costs its own images only.

Global batch b of an epoch is positions b * batch_size .. (b + 1) * batch_size - 1, whatever the
number of ranks; rank r takes its slice of them, the r-th of world_size. A plan is therefore at any
step at once: `(seed, epoch, step)` is all there is to resume from.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from fasttail.errors import UserError, unknown
from fasttail.plan.compiled import kernel
from fasttail.plan.contract import BatchPlan
from fasttail.plan.official import CycledOrder, MultinomialOrder, ShuffledOrder
from fasttail.plan.orders import ClassTable, Epoch, IidOrder, Order, QuotaOrder, plain, scattered
from fasttail.plan.quotas import Probabilities
from fasttail.plan.view import View

DRAWS: dict[str, Callable[[ClassTable, Probabilities, Epoch], Order]] = {
    "quota": QuotaOrder,
    "iid": IidOrder,
    "shuffled": ShuffledOrder,
    "cycled": CycledOrder,
    "multinomial": MultinomialOrder,
}


class PlannedTable(ClassTable, Protocol):
    """What an order has to know: N samples of C classes."""

    @property
    def labels_N(self) -> np.ndarray: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...


class Images(Protocol):
    """What a view in order has to know: N labels, and stored heights and widths in pixels."""

    @property
    def labels_N(self) -> np.ndarray: ...

    @property
    def heights_N(self) -> np.ndarray: ...

    @property
    def widths_N(self) -> np.ndarray: ...


class PlannedSplit(PlannedTable, Images, Protocol):
    """What a plan has to know of a split."""


class OrderEpoch:
    """Which images an epoch of training draws: floor(N / batch_size) steps of exactly batch_size
    images over all ranks, for every sampler; class quotas are those of the images that are drawn.

    `p_C` are the class probabilities, float64 [C], or, where they change, a function from an epoch
    to them (`samplers.schedule`): then what rounding took in one epoch is given back in the next
    also while they change. `draws` is one of `DRAWS`: "quota", or "iid" as the paper words it, or
    what `official.draws` names.

    Raises `UserError` for a batch size that the ranks can't share or the split can't fill, and for
    a class without images, which it names.
    """

    def __init__(
        self,
        table: PlannedTable,
        *,
        p_C: Probabilities,
        seed: int,
        epoch: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        draws: str = "quota",
    ) -> None:
        if draws not in DRAWS:
            raise unknown("kind of draws", draws, DRAWS)
        size = len(table.samples_N)
        _check_batch(batch_size, size, rank, world_size)
        _check_classes(table, p_C(epoch) if callable(p_C) else p_C)
        self.steps = size // batch_size
        self.share = batch_size // world_size  # images of a batch that are this rank's
        self._batch_size, self._rank = batch_size, rank
        self._labels_N, self._class_names = scattered(table.labels_N), table.class_names
        at = Epoch(seed, epoch, self.steps, batch_size)
        self._order: Order = DRAWS[draws](table, p_C, at)

    def first(self, step: int) -> int:
        """The position in the epoch of this rank's first image of global batch `step`; `IndexError`
        if there is no such batch."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of an epoch of {self.steps} steps")
        return step * self._batch_size + self._rank * self.share

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """This rank's share of global batch `step`: sample ids and labels, int64 [B] each. Raises
        `UserError` if the table has a sample under another class than its own."""
        ids_B, labels_B = self._order.draw(self.first(step), self.share)
        # Nobody compares a large table's digest before training.
        b = first_wrong(ids_B, labels_B, self._labels_N)
        if b >= 0:
            raise UserError(
                f"the class-index table is damaged: sample {ids_B[b]} stands under class "
                f"{labels_B[b]} ({self._class_names[labels_B[b]]!r}) and is none of its: run "
                '"fasttail verify" on the shards'
            )
        return ids_B, labels_B


@kernel
def first_wrong(ids_B, labels_B, labels_N):
    """The first draw whose sample isn't there, or is of another class; -1 if there is none."""
    for b in range(len(ids_B)):
        if not 0 <= ids_B[b] < len(labels_N) or labels_N[ids_B[b]] != labels_B[b]:
            return b
    return -1


class TrainEpoch:
    """An epoch of training: the images of an `OrderEpoch`, which explains the arguments, and a view
    of each."""

    def __init__(
        self,
        split: PlannedSplit,
        *,
        p_C: Probabilities,
        view: View,
        seed: int,
        epoch: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        draws: str = "quota",
    ) -> None:
        self._order = OrderEpoch(
            split,
            p_C=p_C,
            seed=seed,
            epoch=epoch,
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
            draws=draws,
        )
        self.steps, self.max_batch = self._order.steps, self._order.share
        self._look = view.at(seed, epoch)
        self._heights_N, self._widths_N = scattered(split.heights_N), scattered(split.widths_N)

    @property
    def out_hw(self) -> tuple[int, int]:
        return self._look.view.out_hw

    def batch(self, step: int) -> BatchPlan:
        """This rank's share of global batch `step`; `IndexError` if there is no such batch."""
        first = self._order.first(step)
        ids_B, labels_B = self._order.batch(step)
        return BatchPlan(
            ids_B,
            labels_B,
            self._look.boxes(first, self._heights_N[ids_B], self._widths_N[ids_B]),
            self._look.flips(first, self.max_batch),
            self._look.jitters(first, self.max_batch),
        )


class EvalEpoch:
    """Every sample once, in stored order; the last batch may be smaller.

    A rank's slice of a batch that is smaller than the number of ranks may be empty: then that rank
    has one step less. Over all ranks each sample is there once.
    """

    def __init__(
        self,
        split: Images,
        *,
        view: View,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check_whole(batch_size)
        _check_rank(rank, world_size)
        self._size, self._batch_size = len(split.labels_N), batch_size
        self._rank, self._world_size = rank, world_size
        self._look = view.at(seed=0, epoch=0)
        self._labels_N = plain(split.labels_N)
        self._heights_N, self._widths_N = plain(split.heights_N), plain(split.widths_N)
        batches = -(-self._size // batch_size)
        lengths = [stop - start for start, stop in map(self._slice, {0, max(0, batches - 1)})]
        self.max_batch = max(lengths) if batches else 0
        self.steps = batches
        while self.steps and self._is_empty(self.steps - 1):
            self.steps -= 1

    @property
    def out_hw(self) -> tuple[int, int]:
        return self._look.view.out_hw

    def batch(self, step: int) -> BatchPlan:
        """This rank's share of batch `step`; `IndexError` if there is no such batch."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of an epoch of {self.steps} steps")
        start, stop = self._slice(step)
        heights_B, widths_B = self._heights_N[start:stop], self._widths_N[start:stop]
        return BatchPlan(
            np.arange(start, stop, dtype=np.int64),
            self._labels_N[start:stop].astype(np.int64),
            self._look.boxes(start, heights_B, widths_B),
            self._look.flips(start, stop - start),
        )

    def _slice(self, step: int) -> tuple[int, int]:
        begin = step * self._batch_size
        length = min(self._batch_size, self._size - begin)
        at = (begin + length * r // self._world_size for r in (self._rank, self._rank + 1))
        start, stop = at
        return start, stop

    def _is_empty(self, step: int) -> bool:
        start, stop = self._slice(step)
        return start == stop


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise UserError(f"rank {rank} of {world_size} ranks: must be 0 to {world_size - 1}")


def _check_whole(batch_size: int) -> None:
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise UserError(
            f"batch size {batch_size!r}: give the images of a batch, over all ranks, as a whole "
            "number from 1 on"
        )


def _check_batch(batch_size: int, size: int, rank: int, world_size: int) -> None:
    _check_whole(batch_size)
    _check_rank(rank, world_size)
    if batch_size % world_size:
        low = max(1, batch_size // world_size) * world_size
        raise UserError(
            f"batch size {batch_size} can't be shared by {world_size} ranks: it counts the images "
            f"of all ranks, so take a multiple of {world_size}, {low} or {low + world_size}"
        )
    if batch_size > size:
        raise UserError(
            f"batch size {batch_size} is more than the split's {size} images: take {size} or less"
        )


def _check_classes(table: PlannedTable, p_C: np.ndarray) -> None:
    counts_C = np.diff(table.indptr_C1)
    empty = [table.class_names[c] for c in np.flatnonzero(counts_C == 0)]
    if empty:
        shown = ", ".join(repr(name) for name in empty[:5]) + (", ..." if len(empty) > 5 else "")
        raise UserError(
            f"the split has no image of {len(empty)} of {len(counts_C)} classes ({shown}): "
            "nothing can be drawn from them; add images or take the classes out"
        )
    if len(p_C) != len(counts_C):
        raise ValueError(f"{len(p_C)} class probabilities for {len(counts_C)} classes")
