"""`Loader`: shards -> batches that a network takes, epoch after epoch.

    plans(epoch) -> engine.run(plan, step) -> augment -> (images, labels, ids)

`PlannedLoader` is that loop, over any plans: training, evaluation and the extraction of features
run on it. `Loader` makes its plans from a few arguments.

Where the iteration stands is (epoch, step), counted as batches are
handed out, so that a state taken at any moment goes on with the next batch.
"""

import time
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from fasttail import engines, shards
from fasttail.config import DEFAULTS
from fasttail.engines.augment import augment as augmented
from fasttail.engines.base import Batch, Engine, Plan
from fasttail.errors import UserError
from fasttail.plan import EvalEpoch, TrainEpoch, View, samplers
from fasttail.plan.cursor import Cursor
from fasttail.shards import Shards
from fasttail.world import place

Plans = Callable[[int], Plan]  # epoch number -> its plan, for this rank
Colours = tuple[float, float, float]
Normalisation = tuple[Colours, Colours]  # mean and standard deviation, of 0..1


class PlannedLoader:
    """The images of plans over the split of an engine. What a batch is: see `Loader`.

    `dtype` None leaves images uint8. `settings` is what the plans depend on, for `state_dict`.
    """

    def __init__(
        self,
        engine: Engine,
        plans: Plans,
        *,
        normalisation: Normalisation,
        dtype: torch.dtype | None,
        ids: bool = True,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.device = engine.device
        self.wait_s = 0.0  # how long the latest batch was waited for
        self._engine, self._plans = engine, plans
        self._mean, self._std = normalisation
        self._dtype, self._ids = dtype, ids
        self._cursor = Cursor(lambda: settings or {})
        self._running: weakref.ref[Generator[tuple[Tensor, ...]]] | None = None

    def __iter__(self) -> Generator[tuple[Tensor, ...]]:
        """Begins an epoch: the one after the last that was begun, or the one that was set, or
        goes on in the middle of the one that was loaded. Ends an iteration that is still open."""
        self._end()
        batches = self._batches()
        # Not held on to: one that is left early ends with the loop that has left it.
        self._running = weakref.ref(batches)
        return batches

    def _batches(self) -> Generator[tuple[Tensor, ...]]:
        epoch, step = self._cursor.begin()
        with closing(self._engine.run(self._plans(epoch), step)) as batches:
            while True:
                asked_s = time.perf_counter()
                batch = next(batches, None)
                self.wait_s = time.perf_counter() - asked_s
                if batch is None:
                    break
                self._cursor.step += 1
                yield self._ready(batch)
        self._cursor.end()

    def _ready(self, batch: Batch) -> tuple[Tensor, ...]:
        device = self.device
        if self._dtype is None:
            images_BCHW = batch.images_BHWC.permute(0, 3, 1, 2)
        else:
            images_BCHW = augmented(
                batch, mean=self._mean, std=self._std, dtype=self._dtype, device=device
            )
        labels_B = batch.labels_B.to(device, non_blocking=True)
        return (images_BCHW, labels_B, batch.ids_B) if self._ids else (images_BCHW, labels_B)

    @property
    def epoch(self) -> int:
        """The epoch under way, or after its last batch the next one."""
        return self._cursor.epoch

    def set_epoch(self, epoch: int) -> None:
        """The next iteration begins this epoch; where a state of it was loaded, in its middle."""
        self._cursor.set_epoch(epoch)

    def seek(self, epoch: int, step: int) -> None:
        """The next iteration begins with this step of this epoch."""
        self._cursor.seek(epoch, step)

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration stands: numbers and strings, the same for any number of ranks."""
        return self._cursor.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration goes on with the first batch that had not been handed out. Raises
        `UserError` if the shards or the settings are others."""
        self._cursor.load_state_dict(state)

    def _end(self) -> None:
        running = self._running and self._running()
        if running is not None:
            running.close()


class Loader(PlannedLoader):
    """The images of a split, a batch at a time; each iteration is an epoch.

    With a `sampler` an epoch is floor(N / batch_size) random batches with exact class quotas; the
    same batches for any engine, number of threads and number of ranks. Without one it is every
    image once, in order, the last batch may be smaller. `batch_size` counts the images of all
    ranks; each gets its share of every batch. An iteration gives, on `device`:

        images   [B, 3, px, px], channels-last in memory: of `dtype`, normalised by the data set's
                 mean and deviation; or with `augment=False` uint8
        labels   int64 [B]
        ids      int64 [B], sample ids in the split; with `ids=True` only

    `folder` holds shards (`fasttail convert`), or is what `open_shards` gave. `sampler` is
    "instance", "class", "sqrt", "progressive", "power:Q" or "deferred:EPOCH"; `epochs` the length
    of the training, for those that change in its course. `view` is what is seen of an image; unless
    given, RandomResizedCrop with flips where there is a sampler, else the centre, of `px` pixels.
    `threads` decode, 0 meaning this process's share of the cores. `device` is the current GPU if
    there is one, `rank` and `world_size` are torch.distributed's where it is initialised, unless
    given.

    Raises `UserError` for shards that are not there, an unknown split, sampler or engine, and a
    batch that the ranks can't share or the split can't fill; while iterating, `CorruptSample` for
    an image that can't be decoded.
    """

    def __init__(
        self,
        folder: Shards | Path | str,
        split: str = "train",
        *,
        batch_size: int,
        sampler: str | None = None,
        epochs: int = DEFAULTS.optim.epochs,
        seed: int = DEFAULTS.seed,
        draws: str = DEFAULTS.draws,
        px: int = DEFAULTS.data.px,
        view: View | None = None,
        augment: bool = True,
        ids: bool = False,
        engine: str = DEFAULTS.data.engine,
        threads: int = DEFAULTS.data.threads,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        opened = folder if isinstance(folder, Shards) else shards.open(folder)
        table = opened.split(split)
        rank, world_size = place(rank, world_size)
        seen = view or _view(px, random=sampler is not None)
        if seen.jitter is not None and not augment:
            raise UserError("a view with jitter needs augment=True, which applies it")
        if sampler is None:
            in_order = EvalEpoch(
                table, view=seen, batch_size=batch_size, rank=rank, world_size=world_size
            )

            def plan_of(epoch: int) -> Plan:
                return in_order
        else:
            p_C = samplers.schedule(sampler, table.counts_C, epochs)

            def plan_of(epoch: int) -> Plan:
                return TrainEpoch(
                    table,
                    p_C=p_C,
                    view=seen,
                    seed=seed,
                    epoch=epoch,
                    batch_size=batch_size,
                    rank=rank,
                    world_size=world_size,
                    draws=draws,
                )

        self._steps = plan_of(0).steps
        self._closed = False
        super().__init__(
            engines.make(engine, table, device=_device(device), threads=threads),
            plan_of,
            normalisation=(opened.meta.mean, opened.meta.std),
            dtype=dtype if augment else None,
            ids=ids,
            settings={
                "data": f"{opened.digest[:32]} {split}",
                "sampler": sampler,
                "batch_size": batch_size,
                "epochs": epochs,
                "seed": seed,
                "draws": draws,
                "view": repr(seen),
            },
        )

    def __len__(self) -> int:
        """Batches of an epoch, for this rank."""
        return self._steps

    def __iter__(self) -> Generator[tuple[Tensor, ...]]:
        if self._closed:
            raise UserError("the loader is closed: make a new one")
        return super().__iter__()

    def close(self) -> None:
        """Ends the iteration that is open and the engine's threads, and gives memory back. Called
        twice, it does nothing the second time."""
        self._closed = True
        self._end()
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _view(px: int, *, random: bool) -> View:
    data = DEFAULTS.data
    if random:
        return View.random_resized_crop(px, data.scale, data.ratio, data.flip_p)
    return View.center(px, round(px * data.resize_px / data.px))


def _device(given: torch.device | str | None) -> torch.device:
    device = torch.device(given or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
