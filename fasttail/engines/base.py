"""The contract between a plan and whatever decodes it.

    Plan.batch(step) -> BatchPlan          pure data: which images, which box of each, flipped?
    Engine.run(plan) -> Batch, Batch, ...  the pixels: nothing random happens here

Every engine gives the same pixels for the same plan, but for rounding (see `tests/engines`).

Shapes: B images in this rank's share of a batch, H x W the output size.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import torch

from fasttail.plan.contract import BatchPlan, Jitter, Plan

__all__ = ["Batch", "BatchPlan", "Engine", "Jitter", "Plan"]


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

    def run(self, plan: Plan, start: int = 0) -> Generator[Batch]:
        """The batches of steps `start` .. `plan.steps` - 1, in order."""
        ...

    def close(self) -> None:
        """Ends threads and gives memory back. Called twice, it does nothing the second time."""
        ...
