"""The images of a split as the network sees them in evaluation."""

from collections.abc import Generator
from contextlib import closing

import torch

from fasttail.compute import Compute
from fasttail.engines.augment import augment
from fasttail.engines.base import Batch, Plan
from fasttail.engines.kept import Kept
from fasttail.shards import Shards, Split


def eval_images(
    shards: Shards, split: Split, plan: Plan, engines: Kept, compute: Compute
) -> Generator[tuple[torch.Tensor, Batch]]:
    """Every batch of the plan: images [B, 3, H, W] on the device, normalised, and their batch."""
    with closing(engines.of(split).run(plan)) as batches:
        for batch in batches:
            images = augment(
                batch,
                mean=shards.meta.mean,
                std=shards.meta.std,
                dtype=compute.dtype,
                device=compute.device,
            )
            yield images, batch
