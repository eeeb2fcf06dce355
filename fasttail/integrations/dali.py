"""The plan as the input of one's own DALI pipeline:

    jpegs, labels = fn.external_source(source(split, "class", batch_size=256), num_outputs=2,
                                       batch=False)

DALI's readers shuffle a buffer by themselves and can't follow an order; external_source asks for
each sample by its number in the epoch, in any order and from any process, as a plan answers.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fasttail.config import DEFAULTS
from fasttail.errors import UserError
from fasttail.plan import order
from fasttail.shards import Split
from fasttail.world import place

JPEG = 0
BATCHES_KEPT = 4  # a worker may be asked for samples of several batches in turn


class Source:
    """What `source` gives. Pickled for `parallel=True`, each process draws for itself."""

    def __init__(self, images: Split | Sequence[Path | str], plan: order) -> None:
        self._images, self._plan = images, plan
        self._remember()

    def _remember(self) -> None:
        self._epoch = lru_cache(1)(self._plan)
        self._batch = lru_cache(BATCHES_KEPT)(lambda epoch, step: self._epoch(epoch).batch(step))

    def __call__(self, sample: Any) -> tuple[np.ndarray, np.ndarray]:
        """The bytes of a file, uint8, and its label, int64 [1], for DALI's `SampleInfo`."""
        if not hasattr(sample, "idx_in_epoch"):
            raise UserError("external_source asked for a whole batch: give it batch=False")
        step, place_in_batch = divmod(sample.idx_in_epoch, self._plan.share)
        if step >= self._plan.steps:
            raise StopIteration
        ids_B, labels_B = self._batch(sample.epoch_idx, step)
        i = int(ids_B[place_in_batch])
        images = self._images
        content = images.bytes(i) if isinstance(images, Split) else np.fromfile(images[i], np.uint8)
        return content, labels_B[place_in_batch : place_in_batch + 1]

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._plan.steps

    def __getstate__(self) -> dict[str, Any]:
        return {"_images": self._images, "_plan": self._plan}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._remember()


def source(
    images: Split | Sequence[Path | str],
    sampler: str,
    *,
    batch_size: int,
    labels: Any = None,
    epochs: int = DEFAULTS.optim.epochs,
    seed: int = DEFAULTS.seed,
    draws: str = DEFAULTS.draws,
    rank: int | None = None,
    world_size: int | None = None,
) -> Source:
    """A source for `fn.external_source(..., num_outputs=2, batch=False)`, in DALI's own process or
    with `parallel=True`: encoded bytes and labels of floor(N / batch_size) batches an epoch; a new
    epoch begins with the pipeline's `reset`.

    `images` is a split of shards (`open_shards(...).split("train")`), or paths of files with their
    `labels`, int [N]. `batch_size` counts the images of all ranks: the pipeline's is `batch_size /
    world_size`. `sampler` is "instance", "class", "sqrt", "progressive", "power:Q" or
    "deferred:EPOCH"; `epochs` the length of the training, for those that change in its course.
    `rank` and `world_size` are torch.distributed's where it is initialised, unless given.

    Raises `UserError` as `BalancedBatchSampler` does, and for a split with raw images, which DALI's
    decoders can't read.
    """
    if isinstance(images, Split):
        labels = images.labels_N if labels is None else labels
        raw = int((images.modes_N != JPEG).sum())
        if raw:
            raise UserError(
                f"{images.dir}: {raw} images of {images.name} are stored as pixels, which DALI's "
                "decoders can't read: give the files instead"
            )
    elif labels is None:
        raise UserError("files come without labels: give labels=, one a file")
    rank, world_size = place(rank, world_size)
    plan = order(labels, sampler, batch_size, epochs, seed, rank, world_size, draws)
    if len(plan.table.labels_N) != len(images):
        raise UserError(f"{len(images)} images, but {len(plan.table.labels_N)} labels")
    return Source(images, plan)
