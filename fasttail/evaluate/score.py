"""A model's right answers on a split, shared among the processes of a job."""

from contextlib import closing

import torch

from fasttail.compute import Compute, add_up
from fasttail.config import TrainConfig
from fasttail.engines.kept import Kept
from fasttail.evaluate.shots import Tally
from fasttail.models import Recognizer
from fasttail.plans import eval_epoch, planned_loader
from fasttail.shards import Shards
from fasttail.world import World


@torch.inference_mode()
def score(
    model: Recognizer,
    shards: Shards,
    split_name: str,
    *,
    config: TrainConfig,
    compute: Compute,
    world: World,
    engines: Kept,
) -> Tally:
    """Classifies every image of a split once, over all processes. Leaves the model in eval mode.

    Each process counts its own images exactly once: nothing is padded, whatever the world's size.
    """
    model.eval()
    split = shards.split(split_name)
    plan = eval_epoch(config, split, world)
    counts_2C = torch.zeros(2, len(shards.class_names), dtype=torch.int64, device=compute.device)
    loader = planned_loader(shards, split, lambda _: plan, config.data, engines, compute)
    with closing(iter(loader)) as batches:
        for images, labels_B, _ in batches:
            with compute.autocast():
                features_BD = model.backbone(images)
            # Not in mixed precision: it makes logits equal that are not.
            right_B = model.classifier(features_BD.float()).argmax(1) == labels_B
            counts_2C[0].scatter_add_(0, labels_B, right_B.long())
            counts_2C[1].scatter_add_(0, labels_B, torch.ones_like(labels_B))
    correct_C, images_C = add_up(counts_2C, world).cpu().numpy()
    return Tally(correct_C, images_C)
