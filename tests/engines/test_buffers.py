"""Memory of batches: used again when nobody reads it any more, and not before."""

import sys
from types import FrameType

import numpy as np
import torch

from fasttail.engines.buffers import Buffers


def buffers(keep: int = 3) -> Buffers:
    return Buffers((4, 8, 8, 3), pinned=False, keep=keep)


def test_memory_is_used_again_when_the_last_view_of_it_is_gone() -> None:
    owner = buffers()
    images = owner.take(4).hand_over()
    address, part = images.data_ptr(), images[2]
    del images
    other = owner.take(4)
    assert other.images_BHWC.ctypes.data != address, "a part of it is still read"
    del part
    assert owner.take(2).images_BHWC.ctypes.data == address


def test_memory_that_was_not_handed_over_is_used_again() -> None:
    owner = buffers()
    slot = owner.take(4)
    address = slot.images_BHWC.ctypes.data
    slot.give_back()
    assert owner.take(4).images_BHWC.ctypes.data == address


def test_no_more_than_so_many_unused_ones_are_kept() -> None:
    owner = buffers(keep=2)
    held = [owner.take(4).hand_over() for _ in range(5)]
    addresses = {images.data_ptr() for images in held}
    assert len(addresses) == 5
    held.clear()
    taken = [owner.take(4) for _ in range(2)]
    assert all(slot.images_BHWC.ctypes.data in addresses for slot in taken)
    assert not owner._free


def test_a_batch_that_goes_runs_no_python() -> None:
    """A KeyboardInterrupt that came in a callback would be lost."""
    images = buffers().take(4).hand_over()
    called: list[str] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    sys.setprofile(watch)
    del images
    sys.setprofile(None)
    assert not called


def test_what_is_handed_over_is_what_was_written() -> None:
    slot = buffers().take(3)
    slot.images_BHWC[:] = np.arange(3, dtype=np.uint8)[:, None, None, None]
    images = slot.hand_over()
    assert images.shape == (3, 8, 8, 3)
    assert torch.equal(images[:, 0, 0, 0], torch.arange(3, dtype=torch.uint8))
