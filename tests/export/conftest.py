"""One small run with every head, and the images of its test split as files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fasttail import shards, stages
from fasttail.classify import METHODS
from fasttail.console import Reporter
from fasttail.rundir import Run
from fasttail.shards.columns import RAW
from fasttail.stages import TrainOptions

SMALL = (
    "model.backbone=resnet20",
    "optim.epochs=1",
    "optim.batch_size=8",
    "optim.lr=0.02",
    "optim.lr_batch_size=8",
    "optim.warmup_epochs=0",
    "classify.crt.epochs=2",
    "classify.crt.batch_size=8",
    "classify.lws.epochs=2",
    "classify.lws.batch_size=8",
    "compute.amp=fp32",
    "compute.tensorboard=false",
    "compute.report=false",
    "compute.report=false",
)


def trained(shards_dir: Path, run: Path, *settings: str) -> Run:
    quiet = Reporter(quiet=True)
    stages.train(
        TrainOptions(stage="rep", shards=shards_dir, run=run, settings=(*SMALL, *settings)), quiet
    )
    return stages.train(TrainOptions(stage="cls", run=run, method=",".join(METHODS)), quiet)


@pytest.fixture(scope="session")
def blob_run(blob_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """resnet20 for one epoch, in float32, with every head."""
    return trained(blob_shards, tmp_path_factory.mktemp("runs") / "blobs")


@pytest.fixture(scope="session")
def blob_files(blob_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The test split as PNG files, in stored order."""
    split = shards.open(blob_shards).split("test")
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for i in range(len(split)):
        height, width = int(split.heights_N[i]), int(split.widths_N[i])
        assert int(split.modes_N[i]) == RAW, "lossless, or files could not agree"
        pixels_HWC = np.asarray(split.bytes(i)).reshape(height, width, 3)
        paths.append(folder / f"{i:03d}.png")
        Image.fromarray(pixels_HWC).save(paths[-1])
    return paths
