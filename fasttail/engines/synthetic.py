"""One random batch, again and again: what a trainer could do if its input cost nothing.

Labels and ids are the planned ones; only the pixels are made up.
"""

from collections.abc import Generator

import torch

from fasttail.engines.base import Batch, Plan
from fasttail.engines.source import Source


class Synthetic:
    """The engine `synthetic`. Its images are the same random ones in every batch and every run."""

    name = "synthetic"

    def __init__(self, split: Source, *, device: torch.device) -> None:
        self.device = device

    def run(self, plan: Plan, start: int = 0) -> Generator[Batch]:
        generator = torch.Generator().manual_seed(0)
        images_BHWC = torch.randint(
            256, (plan.max_batch, *plan.out_hw, 3), generator=generator, dtype=torch.uint8
        ).to(self.device)
        for step in range(start, plan.steps):
            batch = plan.batch(step)
            yield Batch(
                images_BHWC=images_BHWC[: len(batch.ids_B)],
                labels_B=torch.tensor(batch.labels_B, dtype=torch.int64).to(self.device),
                ids_B=torch.tensor(batch.ids_B, dtype=torch.int64).to(self.device),
                jitter_B=batch.jitter_B,
            )

    def close(self) -> None:
        pass
