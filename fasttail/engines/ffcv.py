"""Memory-mapped parts, decoded in threads without Python's lock.

The decoder is fasttail's own kernel (`fasttail.kernels`), which reads only the region of the box,
or, where that was not built, FFCV's compiled library. Buffers and order are `loop.py`'s.
"""

import logging
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch

from fasttail.engines.base import Batch, BatchPlan, Plan
from fasttail.engines.buffers import Buffers
from fasttail.engines.libffcv import LibffcvDecoder, library
from fasttail.engines.loop import AHEAD, Ticket, run_ahead
from fasttail.engines.source import Source
from fasttail.errors import MissingExtra

log = logging.getLogger(__name__)


class Decoder(Protocol):
    """Boxes of stored images -> pixels, in threads."""

    def submit(self, batch: BatchPlan, images_BHWC: np.ndarray) -> Ticket:
        """Starts filling `images_BHWC`, uint8 [B, H, W, 3]."""
        ...

    def close(self) -> None: ...


def available() -> bool:
    """Whether this engine can run here."""
    return library() is not None


def _decoder(split: Source, threads: int) -> Decoder:
    """The best decoder there is here. Raises `MissingExtra` if there is none."""
    found = library()
    if found is None:
        raise MissingExtra("the engine ffcv", "FFCV", "ffcv")
    return LibffcvDecoder(split, found, threads)


class Ffcv:
    """The engine `ffcv`. Raises `MissingExtra` where neither kernel is there."""

    name = "ffcv"

    def __init__(self, split: Source, *, device: torch.device, threads: int) -> None:
        self.device = device
        self._decoder = _decoder(split, threads)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._buffers: Buffers | None = None

    def run(self, plan: Plan, start: int = 0) -> Iterator[Batch]:
        shape = (plan.max_batch, *plan.out_hw, 3)
        # Kept from epoch to epoch. What the receiver still holds of another shape goes back to the
        # old set, and with it.
        if self._buffers is None or self._buffers.shape != shape:
            self._buffers = Buffers(shape, pinned=self._stream is not None, keep=AHEAD + 2)
        return run_ahead(plan, start, self._decoder.submit, self._buffers, self._stream)

    def close(self) -> None:
        self._decoder.close()
        self._buffers = None
