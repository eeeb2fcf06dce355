"""A study small enough for a test: two samplers, two seeds, one epoch, four heads."""

import json
from pathlib import Path

from fasttail.console import Reporter
from fasttail.study.asked import StudyOptions
from fasttail.study.matrix import Cell

QUIET = Reporter(quiet=True)
SMALL = (
    "model.backbone=resnet20",
    "optim.batch_size=8",
    "optim.lr=0.02",
    "optim.lr_batch_size=8",
    "optim.warmup_epochs=0",
    "classify.crt.epochs=2",
    "classify.crt.batch_size=8",
    "shots.many_above=15",
    "shots.few_below=6",
    "compute.amp=fp32",
    "compute.tensorboard=false",
    "compute.report=false",
    "compute.checkpoint_every_min=1e-9",
)


def asked(shards: Path, out: Path) -> StudyOptions:
    return StudyOptions(
        samplers="instance,class",
        seeds=2,
        methods="crt,tau,ncm",
        shards=shards,
        epochs=1,
        settings=tuple(setting for setting in SMALL if "backbone" not in setting),
        backbones="resnet20",
        out=out,
    )


def cells_of(out: Path, split: str) -> list[Cell]:
    kept = json.loads((out / "study.json").read_text())["matrix"]
    return [Cell(**cell) for cell in kept if cell["split"] == split]
