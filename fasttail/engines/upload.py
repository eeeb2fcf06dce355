"""From pinned host memory to the GPU on a stream of its own.

The copy's source is pinned memory of torch's allocator, which gives it out again only after the
copy is over; the copy's target belongs to the receiver's stream from the hand-over on. So neither
the host nor the device memory of a batch is touched while in use.
"""

import torch
from torch import Tensor

from fasttail.engines.base import Batch, BatchPlan
from fasttail.engines.buffers import Slot


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A few numbers from the host on the device. From pageable memory the host would wait for all
    that the device has been given to do."""
    if device.type != "cuda" or values.device == device:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


class Upload:
    """A batch that is being copied to `stream`'s device."""

    def __init__(self, slot: Slot, plan: BatchPlan, stream: torch.cuda.Stream) -> None:
        meta_2B = torch.empty((2, len(plan.ids_B)), dtype=torch.int64, pin_memory=True)
        meta_2B[0] = torch.from_numpy(plan.labels_B)
        meta_2B[1] = torch.from_numpy(plan.ids_B)
        self._jitter_B = plan.jitter_B
        self._event = torch.cuda.Event()
        with torch.cuda.stream(stream):
            self._images_BHWC = slot.tensor_BHWC.to(stream.device, non_blocking=True)
            self._meta_2B = meta_2B.to(stream.device, non_blocking=True)
            self._event.record(stream)

    def finish(self) -> Batch:
        """The batch on the device. Work queued from now on waits for the copy, the host doesn't."""
        current = torch.cuda.current_stream(self._images_BHWC.device)
        current.wait_event(self._event)
        # The memory was allocated on the copy stream: without this it could be given to the next
        # copy while this stream still reads it.
        self._images_BHWC.record_stream(current)
        self._meta_2B.record_stream(current)
        return Batch(self._images_BHWC, self._meta_2B[0], self._meta_2B[1], self._jitter_B)
