"""The plan as the order of a stock FFCV Loader: `Loader(..., order=Order("class", epochs=90))`.

FFCV 1.0.2 shuffles alike for every class, and its own check refuses the classes of orders that its
documentation asks for: it takes an instance, which it then calls with the loader. So `Order` is
both, a maker of orders and, bound to a loader, an order.
"""

import copy
from typing import Any

import numpy as np
from ffcv.traversal_order.base import TraversalOrder

from fasttail.config import DEFAULTS
from fasttail.errors import UserError
from fasttail.plan import order
from fasttail.world import place


class Order(TraversalOrder):
    """Exact class quotas in FFCV's order, epoch after epoch as the Loader counts them.

    A batch over all ranks is the Loader's `batch_size` times their number, the same batches for any
    number of ranks. `rank` and `world_size` are torch.distributed's where it is initialised, unless
    given; FFCV's `distributed` and `seed` don't matter. `sampler` is "instance", "class", "sqrt",
    "progressive", "power:Q" or "deferred:EPOCH"; `epochs` the length of the training, for those
    that change in its course. Labels are those of the file's int field `field`, or given by sample,
    int [N]; with the Loader's `indices`, only those samples are drawn.

    Raises `UserError`, when the Loader is made, as `BalancedBatchSampler` does.
    """

    _plan: order

    def __init__(
        self,
        sampler: str,
        *,
        epochs: int = DEFAULTS.optim.epochs,
        seed: int = DEFAULTS.seed,
        draws: str = DEFAULTS.draws,
        field: str = "label",
        labels: Any = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        # Not TraversalOrder's own: that wants the loader, which comes with the call.
        self._options = {"sampler": sampler, "epochs": epochs, "seed": seed, "draws": draws}
        self._field, self._labels = field, labels
        self._rank, self._world_size = place(rank, world_size)

    def __call__(self, loader: Any) -> "Order":
        """The order of this loader."""
        bound = copy.copy(self)
        labels_N = _field(loader.reader, self._field) if self._labels is None else self._labels
        bound.indices = loader.indices.astype(np.int64)
        bound._plan = order(
            np.asarray(labels_N)[bound.indices],
            batch_size=loader.batch_size * self._world_size,
            rank=self._rank,
            world_size=self._world_size,
            **self._options,
        )
        return bound

    def sample_order(self, epoch: int) -> Any:
        """This rank's samples of an epoch, int64 [steps * batch_size]."""
        plan = self._plan(epoch)
        return self.indices[np.concatenate([plan.batch(step)[0] for step in range(plan.steps)])]


def _field(reader: Any, name: str) -> np.ndarray:
    """A whole number a sample, from the file's metadata."""
    if name not in reader.field_names:
        raise UserError(
            f"{reader.file_name}: no field {name!r} among {', '.join(reader.field_names)}: name "
            "the labels' with field=, or give labels="
        )
    return reader.metadata[f"f{reader.field_names.index(name)}"]
