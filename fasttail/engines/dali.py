"""NVIDIA DALI as a decoder of planned boxes, on the GPU (nvJPEG) or on the CPU.

    plan -> bytes, boxes, sizes -> external_source -> decode, cut, resize -> DLPack

On a GPU images are decoded whole, by its JPEG engines where it has them, and cut there; on a CPU
only the region of the box is decoded. `dali-region` does that on a GPU too.

DALI's readers shuffle by themselves and can't follow an order, so they are not used. Nothing is
copied on the way in (DALI reads the mapped parts) or out (tensors share DALI's memory, which DALI
frees, and does not reuse, when they are gone).
"""

import importlib.util
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import torch

from fasttail.engines.base import Batch, BatchPlan, Plan
from fasttail.engines.checksums import Checksums
from fasttail.engines.loop import AHEAD
from fasttail.engines.reference import pixels
from fasttail.engines.source import JPEG, RAW, Source
from fasttail.engines.table import Rows, Table
from fasttail.engines.upload import to_device
from fasttail.errors import CorruptSample, MissingExtra, NotHere

if TYPE_CHECKING:
    from nvidia.dali.pipeline import Pipeline

    from fasttail.engines.dali_pipeline import Shape


def available() -> bool:
    """Whether DALI is installed. Imports nothing."""
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # there is no package `nvidia` at all
        return False


class Dali:
    """The engine `dali`; with `regions` decoding on a GPU, `dali-region`. Raises `MissingExtra` if
    DALI is not installed, `NotHere` if its version can't be trusted with regions."""

    def __init__(
        self,
        split: Source,
        *,
        device: torch.device,
        threads: int,
        name: str = "dali",
        regions: bool | None = None,
    ) -> None:
        if not available():
            raise MissingExtra("the engine dali", "NVIDIA DALI", "dali")
        from fasttail.engines.dali_backend import why_not_regions
        from fasttail.engines.dali_pipeline import Content

        on_gpu = device.type == "cuda"
        if on_gpu and regions and (why_not := why_not_regions()) is not None:
            raise NotHere(f"the engine dali-region decodes no regions here: {why_not}")
        self.name = name
        self.device = device
        self._split = split
        self._threads = threads
        self._table = Table(split)
        self._checksums = Checksums(split)
        modes = np.unique(split.modes_N)
        regions = not on_gpu if regions is None else regions
        self._content = Content(RAW in modes, JPEG in modes, JPEG in modes and regions)
        # Pipelines that no run is using. A run takes one and brings it back, empty.
        self._idle: list[tuple[Shape, Pipeline]] = []

    def run(self, plan: Plan, start: int = 0) -> Generator[Batch]:
        from fasttail.engines.dali_pipeline import Shape

        shape = Shape(plan.out_hw, plan.max_batch)
        pipeline = self._take(shape)
        # Scheduled batches, each with its input arrays, which DALI reads without a copy.
        queue: deque[tuple[BatchPlan, dict[str, list[np.ndarray]]]] = deque()
        step, whole = start, False
        try:
            while True:
                while step < plan.steps and len(queue) < AHEAD:
                    batch = plan.batch(step)
                    rows = self._table.rows(batch.ids_B)
                    self._checksums.check(batch.ids_B)
                    fed = self._feed(batch, rows, plan.out_hw)
                    for name, arrays in fed.items():
                        pipeline.feed_input(name, arrays)
                    pipeline.schedule_run()
                    queue.append((batch, fed))
                    step += 1
                if not queue:
                    whole = True
                    return
                images_BHWC = self._images(pipeline, queue[0][0])
                batch, _ = queue.popleft()
                yield Batch(
                    images_BHWC=images_BHWC,
                    labels_B=self._on_device(batch.labels_B),
                    ids_B=self._on_device(batch.ids_B),
                    jitter_B=batch.jitter_B,
                )
        except GeneratorExit:
            # Left early. What is under way still reads the arrays in the queue: wait for it. At the
            # interpreter's exit DALI has ended its pipelines before, and has none to wait for.
            with suppress(AttributeError):
                while queue:
                    self._images(pipeline, queue[0][0])
                    queue.popleft()
                whole = True
            raise
        finally:
            # A pipeline that failed is of no use any more.
            if whole:
                self._idle.append((shape, pipeline))

    def close(self) -> None:
        self._idle.clear()

    def _take(self, shape: "Shape") -> "Pipeline":
        from fasttail.engines.dali_pipeline import build

        for place, (built_for, pipeline) in enumerate(self._idle):
            if built_for == shape:
                del self._idle[place]
                return pipeline
        # Only the latest shape's pipelines are kept: each holds memory on the device.
        self._idle.clear()
        return build(shape, self._content, device=self.device, threads=self._threads)

    def _feed(
        self, batch: BatchPlan, rows: Rows, out_hw: tuple[int, int]
    ) -> dict[str, list[np.ndarray]]:
        """The pipeline's inputs by name, one array an image."""
        ids_B = batch.ids_B
        full_B2 = np.stack([rows.heights_B, rows.widths_B], 1).astype(np.int32)
        start_B2, extent_B2 = (
            np.ascontiguousarray(half_B2) for half_B2 in np.split(batch.boxes_B4, 2, axis=1)
        )
        size_B2 = np.tile(np.array(out_hw, np.float32), (len(ids_B), 1))
        size_B2[batch.flips_B, 1] *= -1
        fed = {
            "data": [self._split.bytes(int(i)) for i in ids_B],
            "extent": list(extent_B2),
            "size": list(size_B2),
        }
        if self._content.raw or not self._content.regions:
            fed["start"] = list(start_B2)
        if self._content.regions:
            fed |= _regions(start_B2, extent_B2, full_B2)
        if self._content.raw:
            channels_B1 = np.full((len(ids_B), 1), 3, np.int32)
            fed["hw3"] = list(np.concatenate([full_B2, channels_B1], 1))
            if self._content.jpeg:
                fed["raw"] = [np.array(mode == RAW) for mode in rows.modes_B]
        return fed

    def _images(self, pipeline: "Pipeline", batch: BatchPlan) -> torch.Tensor:
        """The next scheduled batch. Raises `CorruptSample` if DALI could not decode an image."""
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        try:
            (images,) = pipeline.share_outputs(cuda_stream=stream)
            images_BHWC = torch.from_dlpack(images.as_tensor())
            pipeline.release_outputs()
        except RuntimeError as error:
            # DALI does not say which image it was.
            for i in batch.ids_B:
                pixels(self._split, int(i))
            first, last = self._split.where(int(batch.ids_B[0])), len(batch.ids_B)
            raise CorruptSample(f"{first} or one of the {last} in its batch: {error}") from error
        return images_BHWC

    def _on_device(self, values_B: np.ndarray) -> torch.Tensor:
        return to_device(torch.tensor(values_B, dtype=torch.int64), self.device)


def _regions(
    start_B2: np.ndarray, extent_B2: np.ndarray, full_B2: np.ndarray
) -> dict[str, list[np.ndarray]]:
    """The part of each box that is in the image, and where the box lies around it. Where none is,
    any pixel, which the box then leaves out."""
    region_start_B2 = np.clip(start_B2, 0, full_B2 - 1)
    region_end_B2 = np.clip(start_B2 + extent_B2, region_start_B2 + 1, full_B2)
    region_extent_B2 = region_end_B2 - region_start_B2
    offset_B2 = start_B2 - region_start_B2
    leaves_B = ((offset_B2 != 0) | (extent_B2 != region_extent_B2)).any(1)
    return {
        "region_start": list(region_start_B2),
        "region_extent": list(region_extent_B2),
        "region_offset": list(offset_B2),
        "leaves": [np.array(leaves) for leaves in leaves_B],
    }
