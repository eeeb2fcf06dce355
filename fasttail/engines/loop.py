"""The batch loop of the engines that decode into host memory. No thread of its own.

    plan.batch(step) -> decoder.submit(batch, slot) -> Ticket     up to AHEAD batches in the queue
                        ticket.wait() -> hand over                in the order of the steps

The decoder's threads work through the queue while the receiver computes. They go on to the next
batch as soon as nobody can start another image of this one, so a batch's slowest image holds up
nobody. Everything here happens in the thread that asks for the next batch: leaving early, an
exception or Ctrl-C unwinds through `finally` like any other code.
"""

from collections import deque
from collections.abc import Callable, Generator
from typing import Protocol

import numpy as np
import torch

from fasttail.engines.base import Batch, BatchPlan, Plan
from fasttail.engines.buffers import Buffers, Slot
from fasttail.engines.upload import Upload

# Batches being decoded or waiting. Three: one that is being finished, one for the threads that are
# done with it, one in reserve for a receiver that asks late. More only takes memory.
AHEAD = 3


class Ticket(Protocol):
    """A batch that is being decoded."""

    def done(self) -> bool:
        """Whether `wait` would return at once, and raise nothing."""
        ...

    def wait(self) -> None:
        """Returns when every image is there. Raises `CorruptSample` for the first that can't be."""
        ...

    def cancel(self) -> None:
        """Starts no more images; returns when nothing writes into the batch's memory any more."""
        ...


Submit = Callable[[BatchPlan, np.ndarray], Ticket]


class _Pending:
    """A batch on its way: decoding, then (with a GPU) being copied."""

    def __init__(self, plan: BatchPlan, slot: Slot, ticket: Ticket) -> None:
        self.plan = plan
        self.slot = slot
        self.ticket = ticket
        self.upload: Upload | None = None

    def start_upload(self, stream: "torch.cuda.Stream") -> None:
        self.upload = Upload(self.slot, self.plan, stream)


def run_ahead(
    plan: Plan, start: int, submit: Submit, buffers: Buffers, stream: "torch.cuda.Stream | None"
) -> Generator[Batch]:
    """Decodes steps `start` .. `plan.steps` - 1 ahead of the receiver, at most `AHEAD` of them.

    `stream` is the CUDA stream that copies, or None to leave the batches in host memory. Raises
    what `submit` and `Ticket.wait` raise.
    """
    queue: deque[_Pending] = deque()
    step = start
    try:
        while True:
            while step < plan.steps and len(queue) < AHEAD:
                batch = plan.batch(step)
                slot = buffers.take(len(batch.ids_B))
                queue.append(_Pending(batch, slot, submit(batch, slot.images_BHWC)))
                step += 1
            if not queue:
                return
            queue[0].ticket.wait()
            ready = queue.popleft()
            if stream is None:
                yield Batch(
                    images_BHWC=ready.slot.hand_over(),
                    labels_B=torch.tensor(ready.plan.labels_B, dtype=torch.int64),
                    ids_B=torch.tensor(ready.plan.ids_B, dtype=torch.int64),
                    jitter_B=ready.plan.jitter_B,
                )
                continue
            if ready.upload is None:
                ready.start_upload(stream)
            # The next batch's copy runs beside this batch's computation, if it is decoded already.
            if queue and queue[0].ticket.done():
                queue[0].ticket.wait()
                queue[0].start_upload(stream)
            assert ready.upload is not None
            yield ready.upload.finish()
    finally:
        for pending in queue:
            pending.ticket.cancel()
            pending.slot.give_back()
