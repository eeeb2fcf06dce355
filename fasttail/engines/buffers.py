"""Host memory for batches: owned, reused, and never written while somebody still reads it.

    Buffers.take(B) -> Slot            memory that nobody else holds
    Slot.hand_over() -> tensor         the receiver's; the memory is used again when the last
                                       tensor over it is gone
    Slot.give_back()                   the memory was not handed over

Fresh memory for every batch would cost a page fault for every 4 KiB of it. Whether a tensor is gone
is asked when memory is needed: a callback would run in the receiver's thread at any time, and
Python drops what is raised there, a KeyboardInterrupt too.
"""

import weakref

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
        # the storage, whichever views the receiver makes.
        view = np.asarray(self.images_BHWC.data)
        self._owner.lend(self._backing, weakref.ref(view))
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
        self._keep = keep
        self._free: list[torch.Tensor] = []
        self._lent: list[tuple[torch.Tensor, weakref.ref[np.ndarray]]] = []

    def take(self, batch: int) -> Slot:
        """Memory for `batch` images; what is in it is undefined."""
        lent, self._lent = self._lent, []
        for backing, view in lent:
            if view() is None:
                self.put(backing)
            else:
                self._lent.append((backing, view))
        if self._free:
            return Slot(self, self._free.pop(), batch)
        backing = torch.empty(self.shape, dtype=torch.uint8, pin_memory=self._pinned)
        return Slot(self, backing, batch)

    def lend(self, backing: torch.Tensor, view: "weakref.ref[np.ndarray]") -> None:
        """Memory that is the receiver's for as long as there is this view of it."""
        if not self._pinned:
            self._lent.append((backing, view))

    def put(self, backing: torch.Tensor) -> None:
        """Memory that nobody uses any more."""
        if not self._pinned and len(self._free) < self._keep:
            self._free.append(backing)
