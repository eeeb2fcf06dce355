"""What a plan says of one batch: the contract between `fasttail.plan` and whatever decodes it.

Numpy only: planning needs no torch. `fasttail.engines.base` hands these names on.

Shapes: B images in this rank's share of a batch.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Jitter:
    """Colour jitter by torchvision's definition: one factor for each of brightness, contrast,
    saturation and hue, applied in an order drawn per image."""

    factors_B4: np.ndarray  # float32 [B, 4]: brightness, contrast, saturation (1 = as is), hue (0)
    order_B4: np.ndarray  # uint8 [B, 4]: a permutation of 0..3, what is applied first comes first


@dataclass(frozen=True)
class BatchPlan:
    """What an engine has to make, and what is done to it afterwards.

    A box is (top, left, height, width) in pixels of the stored image. It may reach past the image's
    edge (crop with padding): pixels out there are black. Its content is resized to the plan's
    output size with an antialiased triangle filter (what Pillow calls BILINEAR, what torchvision
    calls bilinear with antialias), to which no pixel outside the box contributes, and then mirrored
    left to right where `flips_B` says so.

    `jitter_B` holds the colour jitter that `augment` applies after the engine, or is None.
    """

    ids_B: np.ndarray  # int64 [B], sample ids in the split
    labels_B: np.ndarray  # int64 [B]
    boxes_B4: np.ndarray  # int32 [B, 4], (top, left, height, width)
    flips_B: np.ndarray  # bool [B]
    jitter_B: Jitter | None = None


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
