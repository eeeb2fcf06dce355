"""Memory-mapped parts, decoded in threads without Python's lock.

The decoder is fasttail's own kernel (`fasttail.kernels`), which reads only the region of the box,
or, where that was not built, FFCV's compiled library. Buffers and order are `loop.py`'s.
"""

import logging
from collections.abc import Generator
from typing import Protocol

import numpy as np
import torch

from fasttail import kernels
from fasttail.engines.base import Batch, BatchPlan, Plan
from fasttail.engines.buffers import Buffers
from fasttail.engines.checksums import Checksums
from fasttail.engines.libffcv import LibffcvDecoder, library
from fasttail.engines.loop import AHEAD, Ticket, run_ahead
from fasttail.engines.source import RAW, Source
from fasttail.errors import CorruptSample, MissingExtra

log = logging.getLogger(__name__)


class KernelTicket:
    """A batch in the kernel's threads."""

    def __init__(
        self, split: Source, checksums: Checksums, ids_B: np.ndarray, ticket: kernels.Ticket
    ) -> None:
        self._split = split
        self._checksums = checksums
        self._ids_B = ids_B
        self._ticket = ticket
        self.done = ticket.done
        self.cancel = ticket.cancel

    def wait(self) -> None:
        failed = self._ticket.wait()
        if failed is not None:
            b, reason = failed
            raise CorruptSample(f"{self._split.where(int(self._ids_B[b]))}: {reason}")
        self._checksums.mark(self._ids_B)


class KernelDecoder:
    """fasttail's own kernel over a split's mapped parts."""

    def __init__(self, split: Source, threads: int) -> None:
        self._split = split
        self._parts = tuple(split.part_bytes(p) for p in range(len(split.part_paths)))
        self._starts_P = np.array([part.ctypes.data for part in self._parts], np.uint64)
        self._lengths_P = np.array([part.size for part in self._parts], np.int64)
        self._checksums = Checksums(split)
        self._pool = kernels.Pool(threads)

    def submit(self, batch: BatchPlan, images_BHWC: np.ndarray) -> KernelTicket:
        split, ids_B = self._split, batch.ids_B
        parts_B, offsets_B, sizes_B = (
            split.parts_N[ids_B],
            split.offsets_N[ids_B],
            split.sizes_N[ids_B],
        )
        outside_B = (
            (offsets_B < 0) | (sizes_B < 0) | (offsets_B + sizes_B > self._lengths_P[parts_B])
        )
        if outside_B.any():
            i = int(ids_B[np.flatnonzero(outside_B)[0]])
            raise CorruptSample(f"{split.where(i)}: its bytes lie past the end of the file")
        ticket = self._pool.submit(
            images_BHWC,
            addresses_B=self._starts_P[parts_B] + offsets_B.astype(np.uint64),
            sizes_B=sizes_B,
            raw_B=split.modes_N[ids_B] == RAW,
            check_B=self._checksums.unchecked(ids_B),
            crc32_B=split.crc32_N[ids_B],
            heights_B=split.heights_N[ids_B],
            widths_B=split.widths_N[ids_B],
            boxes_B4=batch.boxes_B4,
            flips_B=batch.flips_B,
            keep=self._parts,
        )
        return KernelTicket(split, self._checksums, ids_B, ticket)

    def close(self) -> None:
        self._pool.close()


class Decoder(Protocol):
    """Boxes of stored images -> pixels, in threads."""

    def submit(self, batch: BatchPlan, images_BHWC: np.ndarray) -> Ticket:
        """Starts filling `images_BHWC`, uint8 [B, H, W, 3]."""
        ...

    def close(self) -> None: ...


def available() -> bool:
    """Whether this engine can run here."""
    return kernels.available() or library() is not None


def _decoder(split: Source, threads: int) -> Decoder:
    """The best decoder there is here. Raises `MissingExtra` if there is none."""
    if kernels.available():
        return KernelDecoder(split, threads)
    found = library()
    if found is None:
        raise MissingExtra("the engine ffcv", "FFCV", "ffcv")
    log.warning("FFCV's own decoder serves, slower and less exact: %s", kernels.why_missing())
    return LibffcvDecoder(split, found, threads)


class Ffcv:
    """The engine `ffcv`. Raises `MissingExtra` where neither kernel is there."""

    name = "ffcv"

    def __init__(self, split: Source, *, device: torch.device, threads: int) -> None:
        self.device = device
        self._decoder = _decoder(split, threads)
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
