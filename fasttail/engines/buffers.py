"""Host memory for batches: owned, reused, and never written while somebody still reads it.

    Buffers.take(B) -> Slot            memory that nobody else holds
    Slot.hand_over() -> tensor         the receiver's; the memory comes back when the last tensor
                                       over it is gone
    Slot.give_back()                   the memory was not handed over

Fresh memory for every batch would cost a page fault for every 4 KiB of it.
"""

import weakref
from collections import deque

import numpy as np
import torch


class Slot:
    """One batch's memory. Either `hand_over` or `give_back` ends it."""

    def __init__(self, owner: "Buffers", backing: torch.Tensor, batch: int) -> None:
        self._owner = owner
        self._backing = backing
        self.tensor_BHWC = backing[:batch]
        self.images_BHWC: np.ndarray = self.tensor_BHWC.numpy()

    def hand_over(self) -> torch.Tensor:
        """The images as a tensor uint8 [B, H, W, 3] that is the receiver's."""
        # A new array object over the old memory: torch keeps it alive as long as any tensor shares
        # the storage, whichever views the receiver makes. Its end is the memory's return.
        view = np.asarray(self.images_BHWC.data)
        weakref.finalize(view, self._owner.put, self._backing).atexit = False
        return torch.from_numpy(view)

    def give_back(self) -> None:
        self._owner.put(self._backing)


class Buffers:
    """Slots of one shape [max_batch, H, W, 3]; keeps at most `keep` unused ones.

    Pinned memory is left to torch's allocator for it, which reuses a block only after the copies
    from it are over.
    """

    def __init__(self, shape: tuple[int, int, int, int], *, pinned: bool, keep: int) -> None:
        self.shape = shape
        self._pinned = pinned
        # Appending and popping a deque is atomic, so a slot may come back from any thread, also
        # from within a garbage collection, without a lock.
        self._free: deque[torch.Tensor] = deque(maxlen=keep)

    def take(self, batch: int) -> Slot:
        """Memory for `batch` images; what is in it is undefined."""
        try:
            backing = self._free.pop()
        except IndexError:
            backing = torch.empty(self.shape, dtype=torch.uint8, pin_memory=self._pinned)
        return Slot(self, backing, batch)

    def put(self, backing: torch.Tensor) -> None:
        if not self._pinned:
            self._free.append(backing)
