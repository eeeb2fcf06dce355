"""The order of a run by itself, over labels: no images, no shards, no views.

plan.order(labels, "sqrt", batch_size=256, epochs=90)(epoch).batch(step) -> sample ids, labels
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fasttail.errors import UserError
from fasttail.plan.epoch import OrderEpoch
from fasttail.plan.orders import plain
from fasttail.plan.samplers import schedule
from fasttail.shards.table import group_by_class

SHOWN = 5  # classes in a message


class LabelTable:
    """N labels of C classes as a class-index table. Errors as in `order`."""

    def __init__(self, labels: Any) -> None:
        labels_N = class_numbers(labels)
        self.labels_N = plain(labels_N)
        self.num_classes = int(labels_N.max()) + 1
        indptr_C1, samples_N = group_by_class(labels_N, self.num_classes)
        self.indptr_C1, self.samples_N = plain(indptr_C1), plain(samples_N)

    @property
    def counts_C(self) -> np.ndarray:
        """int64 [C]: samples of each class."""
        return np.diff(self.indptr_C1)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.num_classes)))

    @cached_property
    def digest(self) -> str:
        """Identifies the labels and their order, as 32 hex digits."""
        return hashlib.blake2b(self.labels_N.astype("<i8").data, digest_size=16).hexdigest()


@dataclass(frozen=True, eq=False)
class order:
    """The order of a run over labels alone: epoch number -> its `OrderEpoch`, whose `batch(step)`
    gives sample ids and labels.

    `labels` are int [N], 0..C-1, in NumPy, torch or a list. `sampler` is a name of
    `fasttail.plan.samplers`; `epochs` the length of the run, for samplers that change in its
    course. `batch_size` counts the images of all ranks. Raises `UserError` for labels that are no
    class numbers or leave a class out, an unknown sampler, and a batch that the ranks can't share
    or the labels can't fill.
    """

    labels: Any
    sampler: str
    batch_size: int
    epochs: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    draws: str = "quota"

    def __post_init__(self) -> None:
        self(0)

    def __call__(self, epoch: int) -> OrderEpoch:
        return OrderEpoch(
            self.table,
            p_C=self._probabilities,
            seed=self.seed,
            epoch=epoch,
            batch_size=self.batch_size,
            rank=self.rank,
            world_size=self.world_size,
            draws=self.draws,
        )

    @cached_property
    def table(self) -> LabelTable:
        return LabelTable(self.labels)

    @cached_property
    def _probabilities(self) -> Callable[[int], np.ndarray]:
        return schedule(self.sampler, self.table.counts_C, self.epochs)

    @property
    def share(self) -> int:
        """This rank's images of a batch."""
        return self.batch_size // self.world_size

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return len(self.table.labels_N) // self.batch_size


def class_numbers(labels: Any, num_classes: int | None = None) -> np.ndarray:
    """Labels from NumPy, torch or a list as int64 [N]. `UserError` if they are no class numbers; or
    if they leave a class out, unless the number of classes is given."""
    try:
        labels_N = np.asarray(labels.cpu() if hasattr(labels, "cpu") else labels)
    except ValueError as error:  # lists of several lengths
        raise UserError(f"labels: {error}: give one class number a sample, shape [N]") from None
    if labels_N.ndim != 1 or len(labels_N) == 0:
        raise UserError(
            f"labels of shape {list(labels_N.shape)}: give one class number a sample, shape [N]; "
            "of one-hot rows that is labels.argmax(1)"
        )
    if labels_N.dtype.kind not in "iu":
        raise UserError(
            f"labels are {labels_N.dtype}, not whole numbers: number the classes from 0, "
            "as np.unique(labels, return_inverse=True)[1] does"
        )
    labels_N = labels_N.astype(np.int64, copy=False)
    if labels_N.min() < 0:
        at = int(np.argmax(labels_N < 0))
        raise UserError(
            f"label {labels_N[at]} of sample {at} is negative: classes are numbered from 0; "
            "leave out samples that have no class"
        )
    if num_classes is not None:
        if labels_N.max() >= num_classes:
            at = int(np.argmax(labels_N))
            raise UserError(
                f"label {labels_N[at]} of sample {at} is none of the {num_classes} classes that "
                f"there are in training, 0 to {num_classes - 1}"
            )
        return labels_N
    # N samples can't fill more than N classes: beyond, there is no need to count.
    counts_C = np.bincount(np.minimum(labels_N, len(labels_N)))
    empty = np.flatnonzero(counts_C == 0)
    if len(empty):
        shown = ", ".join(map(str, empty[:SHOWN])) + (", ..." if len(empty) > SHOWN else "")
        raise UserError(
            f"labels go up to {labels_N.max()}, but no sample is of class {shown}: nothing can be "
            "drawn from it; close the gaps with np.unique(labels, return_inverse=True)[1]"
        )
    return labels_N
