"""The contract between a plan and whatever decodes it.

    Plan.batch(step) -> BatchPlan          pure data: which images, which box of each, flipped or not
    Engine.run(plan) -> Batch, Batch, ...  the pixels: nothing random happens here

Every engine gives the same pixels for the same plan, but for rounding (see `tests/engines`).

Shapes: B images in this rank's share of a batch, H x W the output size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch


@dataclass(frozen=True)
class BatchPlan:
    """What an engine has to make, and what is done to it afterwards.

    A box is (top, left, height, width) in pixels of the stored image. It may reach past the image's
    edge (crop with padding): pixels out there are black. Its content is resized to the plan's output
    size with an antialiased triangle filter (what Pillow calls BILINEAR, what torchvision calls
    bilinear with antialias), to which no pixel outside the box contributes, and then mirrored left
    to right where `flips_B` says so.

    `jitter_B` holds the colour jitter that `augment` applies after the engine, or is None.
    """

    ids_B: np.ndarray  # int64 [B], sample ids in the split
    labels_B: np.ndarray  # int64 [B]
    boxes_B4: np.ndarray  # int32 [B, 4], (top, left, height, width)
    flips_B: np.ndarray  # bool [B]
    jitter_B: "Jitter | None" = None


@dataclass(frozen=True)
class Jitter:
    """Colour jitter by torchvision's definition: one factor for each of brightness, contrast,
    saturation and hue, applied in an order drawn per image."""

    factors_B4: np.ndarray  # float32 [B, 4]: brightness, contrast, saturation (1 = as is), hue (0)
    order_B4: np.ndarray  # uint8 [B, 4]: a permutation of 0..3, the operation applied first comes first


class Plan(Protocol):
    """One epoch, as one rank sees it: `batch(step)` for steps 0..steps-1, in any order."""

    @property
    def steps(self) -> int: ...

    @property
    def out_hw(self) -> tuple[int, int]:
        """Height and width of the images to make."""
        ...

    @property
    def max_batch(self) -> int:
        """The most images that any of this rank's batches has."""
        ...

    def batch(self, step: int) -> BatchPlan: ...


@dataclass(frozen=True)
class Batch:
    """Decoded images. The tensors are the receiver's: no engine touches them again."""

    images_BHWC: torch.Tensor  # uint8 [B, H, W, 3]
    labels_B: torch.Tensor  # int64 [B]
    ids_B: torch.Tensor  # int64 [B]
    jitter_B: Jitter | None = None


class Engine(Protocol):
    """Image bytes + plan -> uint8 batches, on `device`.

    `run` may be called once an epoch, and be left early: whatever it started ends when its iterator
    is closed. A sample that can't be decoded raises `CorruptSample`, which names it.
    """

    name: str
    device: torch.device

    def run(self, plan: Plan, start: int = 0) -> Iterator[Batch]:
        """The batches of steps `start` .. `plan.steps` - 1, in order."""
        ...

    def close(self) -> None:
        """Ends threads and gives memory back. Called twice, it does nothing the second time."""
        ...
