"""The feature bank: the frozen backbone runs once over a split, and every head works on the result.

Features are float16 [N, D] in stored order, in a memory-mapped .npy file beside the run, with a
.json beside it that says what they were made from. Other weights, shards or view: they are made
anew.
"""

import hashlib
import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fasttail.compute import Compute, wait_for_all
from fasttail.config import TrainConfig
from fasttail.console import Reporter
from fasttail.evaluate.images import eval_images
from fasttail.models import Recognizer
from fasttail.plans import eval_epoch, eval_view
from fasttail.rundir import Run, write_json
from fasttail.shards import Shards, Split
from fasttail.world import World


@dataclass(frozen=True)
class Features:
    """A split as the heads see it. `split` gives the class-index table that balanced draws need."""

    split: Split
    features_ND: torch.Tensor  # float16, on the device
    labels_N: torch.Tensor  # int64, on the device


def load_or_extract(
    run: Run,
    model: Recognizer,
    shards: Shards,
    split_name: str,
    *,
    world: World,
    compute: Compute,
    reporter: Reporter,
) -> Features:
    """The features of a split with the evaluation's fixed boxes: from the run's directory if they
    are there for these very weights and shards, else extracted, all processes sharing the work."""
    split = shards.split(split_name)
    path = run.features_dir / f"{split_name}.npy"
    about = _about(run, shards, run.config)
    if not _is_current(path, about):
        if world.is_main:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
            dim = model.classifier.in_features
            np.lib.format.open_memmap(path, "w+", np.float16, (len(split), dim)).flush()
        wait_for_all(world)
        _extract(path, split, model, shards, run.config, world, compute, reporter)
        wait_for_all(world)
        if world.is_main:
            write_json(path.with_suffix(".json"), about)
        wait_for_all(world)
    features_ND = torch.from_numpy(np.load(path)).to(compute.device)
    labels_N = torch.from_numpy(np.asarray(split.labels_N).astype(np.int64))
    return Features(split, features_ND, labels_N.to(compute.device))


@torch.inference_mode()
def _extract(
    path: Path,
    split: Split,
    model: Recognizer,
    shards: Shards,
    config: TrainConfig,
    world: World,
    compute: Compute,
    reporter: Reporter,
) -> None:
    """Fills this process's rows of the file."""
    model.eval()
    rows_ND = np.lib.format.open_memmap(path, "r+")
    plan = eval_epoch(config, split, world)
    with (
        closing(eval_images(shards, split, plan, config, compute)) as batches,
        reporter.progress(f"features of {split.name}", plan.steps) as bar,
    ):
        for images, batch in batches:
            with compute.autocast():
                features_BD = model.backbone(images)
            rows_ND[batch.ids_B.cpu().numpy()] = features_BD.half().cpu().numpy()
            bar.advance()
    rows_ND.flush()


def _about(run: Run, shards: Shards, config: TrainConfig) -> dict[str, str]:
    """What features depend on."""
    digest = hashlib.sha256(run.model_path.read_bytes()).hexdigest()
    return {
        "model_sha256": digest,
        "shards_digest": shards.digest,
        "view": repr(eval_view(config.data)),
    }


def _is_current(path: Path, about: dict[str, str]) -> bool:
    beside = path.with_suffix(".json")
    return path.exists() and beside.exists() and json.loads(beside.read_text()) == about
