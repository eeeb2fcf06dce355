"""Memory-mapped parts, decoded by fasttail's own kernel in threads without Python's lock.

Only the region of each box is decoded (`fasttail.kernels`), from the seek index on where there is
one, or taken from the images that are kept decoded. Buffers and order are `loop.py`'s. The name is
that of the container that it reads first of all.
"""

from collections.abc import Generator

import numpy as np
import torch

from fasttail import kernels
from fasttail.engines.base import Batch, BatchPlan, Plan
from fasttail.engines.beside import Cached, Seek
from fasttail.engines.buffers import Buffers
from fasttail.engines.checksums import Checksums
from fasttail.engines.loop import AHEAD, run_ahead
from fasttail.engines.parts import Parts
from fasttail.engines.source import Source
from fasttail.engines.table import Table
from fasttail.errors import CorruptSample, UserError


def available() -> bool:
    """Whether this engine can run here."""
    return kernels.available()


class Ticket:
    """A batch in the kernel's threads, whose failures name the sample."""

    def __init__(self, decoder: "Decoder", ids_B: np.ndarray, ticket: kernels.Ticket) -> None:
        self._decoder = decoder
        self._ids_B = ids_B
        self._ticket = ticket
        self.done = ticket.done
        self.cancel = ticket.cancel

    def wait(self) -> None:
        failed = self._ticket.wait()
        if failed is not None:
            b, reason = failed
            i, decoder = int(self._ids_B[b]), self._decoder
            raise CorruptSample(f"{decoder.split.where(i)}: {reason}{decoder.cached.note(i)}")
        self._decoder.checksums.mark(self._ids_B)


class Decoder:
    """The kernel over a split's mapped parts."""

    def __init__(self, split: Source, threads: int) -> None:
        self.split = split
        self._table = Table(split)
        self._parts = Parts(split)
        self._seek = Seek(split)
        self.cached = Cached(split)
        self.checksums = Checksums(split)
        self._pool = kernels.Pool(threads)

    def submit(self, batch: BatchPlan, images_BHWC: np.ndarray) -> Ticket:
        """Starts filling `images_BHWC`, uint8 [B, H, W, 3]."""
        ids_B = batch.ids_B
        rows = self._table.rows(ids_B)
        items_B = np.zeros(len(ids_B), kernels.ITEM)
        items_B["src"] = self._parts.addresses(rows)
        items_B["size"] = rows.sizes_B
        items_B["mode"] = rows.modes_B
        items_B["check"] = self.checksums.unchecked(ids_B)
        items_B["crc32"] = rows.crc32_B
        items_B["height"] = rows.heights_B
        items_B["width"] = rows.widths_B
        items_B["box"] = batch.boxes_B4
        items_B["flip"] = batch.flips_B
        self._seek.fill(items_B, ids_B)
        self.cached.fill(items_B, ids_B)
        memory = (self._parts, self._seek, self.cached)
        ticket = self._pool.submit(items_B, images_BHWC, keep=memory)
        return Ticket(self, ids_B, ticket)

    def close(self) -> None:
        self._pool.close()


class Ffcv:
    """The engine `ffcv`. Raises `UserError` where the kernel was not built."""

    name = "ffcv"

    def __init__(self, split: Source, *, device: torch.device, threads: int) -> None:
        if not available():
            raise UserError(f"the engine ffcv needs fasttail's kernel: {kernels.why_missing()}")
        self.device = device
        self._decoder = Decoder(split, threads)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._buffers: Buffers | None = None

    def run(self, plan: Plan, start: int = 0) -> Generator[Batch]:
        shape = (plan.max_batch, *plan.out_hw, 3)
        # Kept from epoch to epoch. What the receiver still holds of another shape goes back to the
        # old set, and with it.
        if self._buffers is None or self._buffers.shape != shape:
            self._buffers = Buffers(shape, pinned=self._stream is not None, keep=AHEAD + 2)
        return run_ahead(plan, start, self._decoder.submit, self._buffers, self._stream)

    def close(self) -> None:
        self._decoder.close()
        self._buffers = None
