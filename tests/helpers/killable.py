"""A training in a process of its own, to be killed; importable by name, as a child needs."""

from pathlib import Path

import torch

from fasttail.console import Reporter
from fasttail.stages import TrainOptions, train

SETTINGS = (
    "model.backbone=resnet20",
    "optim.epochs=20",
    "optim.batch_size=8",
    "optim.lr=0.02",
    "optim.lr_batch_size=8",
    "compute.amp=fp32",
    "compute.checkpoint_every_min=1e-9",  # after every step
    "compute.tensorboard=false",
    "compute.report=false",
    "validate_every=7",
)


def run_stage(shards: Path, run: Path, resume: bool) -> None:
    """Begins a training of 180 steps, or goes on with it."""
    torch.set_num_threads(1)
    options = TrainOptions(
        stage="rep",
        shards=None if resume else shards,
        run=run,
        resume=resume,
        settings=() if resume else SETTINGS,
    )
    train(options, Reporter(quiet=True))
