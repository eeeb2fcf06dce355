"""A run of both stages on classes whose names are meant to do harm."""

from pathlib import Path

import numpy as np
import pytest

from fasttail import stages
from fasttail.config import ConvertConfig
from fasttail.console import Reporter
from fasttail.datasets.base import ArrayImages, Index, SplitIndex
from fasttail.shards.convert import convert

NAMES = ("<script>alert(1)</script>&\"'", "$x^{2$ [red]%s{{1}}", "Straße 猫", "a b", "</title>")
COUNTS = (30, 16, 8, 4, 3)
SETTINGS = (
    "model.backbone=resnet20",
    "optim.epochs=2",
    "optim.batch_size=8",
    "optim.lr=0.02",
    "optim.lr_batch_size=8",
    "optim.warmup_epochs=0",
    "classify.crt.epochs=1",
    "classify.crt.batch_size=8",
    "classify.lws.epochs=1",
    "classify.lws.batch_size=8",
    "shots.many_above=15",
    "shots.few_below=5",
    "compute.amp=fp32",
    "compute.log_every=2",
    "compute.tensorboard=false",
)


def noise(counts: tuple[int, ...], seed: int) -> SplitIndex:
    """Images 70 x 80, stored as JPEGs."""
    labels_N = np.repeat(np.arange(len(counts)), counts)
    generator = np.random.default_rng(seed)
    images_NHWC = generator.integers(0, 90, (len(labels_N), 70, 80, 3), dtype=np.uint8)
    images_NHWC += (40 * labels_N)[:, None, None, None].astype(np.uint8)
    return SplitIndex(ArrayImages(images_NHWC, "noise"), labels_N)


@pytest.fixture(scope="session")
def hostile_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {
        "train": noise(COUNTS, seed=1),
        "val": noise((4,) * len(COUNTS), seed=2),
        "test": noise((6,) * len(COUNTS), seed=3),
    }
    index = Index("<b>noise</b>", NAMES, splits, (0.3, 0.3, 0.3), (0.2, 0.2, 0.2))
    out = tmp_path_factory.mktemp("shards") / "noise"
    convert(index, out, ConvertConfig(jobs=1))
    return out


@pytest.fixture(scope="session")
def run_dir(hostile_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read it, or copy it: other tests read it too. Stage 2 has drawn its page."""
    out = tmp_path_factory.mktemp("runs") / "<i>a"
    quiet = Reporter(quiet=True)
    rep = stages.TrainOptions(
        stage="rep",
        shards=hostile_shards,
        run=out,
        config="small-images",
        settings=(*SETTINGS, "compute.report=false"),
    )
    stages.train(rep, quiet)
    stages.train(stages.TrainOptions("cls", run=out, settings=("compute.report=true",)), quiet)
    return out
