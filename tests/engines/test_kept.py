"""One engine a split for a whole job, whatever looks at it how often."""

from collections import Counter
from pathlib import Path
from unittest import mock

import pytest
import torch

from fasttail import engines, shards, stages
from fasttail.config import DataConfig
from fasttail.console import Reporter
from fasttail.engines.base import Engine
from fasttail.engines.kept import Kept
from fasttail.shards import Split
from fasttail.stages import TrainOptions

QUIET = Reporter(quiet=True)
SMALL = (
    "model.backbone=resnet20",
    "optim.batch_size=16",
    "classify.crt.batch_size=16",
    "classify.crt.epochs=2",
    "compute.tensorboard=false",
    "compute.report=false",
)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many engines have been made of each split."""
    count: Counter[str] = Counter()
    real = engines.make

    def counted(name: str, split: Split, *, device: torch.device, threads: int) -> Engine:
        count[split.name] += 1
        return real(name, split, device=device, threads=threads)

    monkeypatch.setattr(engines, "make", counted)
    return count


@pytest.mark.parametrize("engine", ["ffcv", "resident"])
def test_every_stage_makes_one_engine_a_split(
    blob_shards: Path, tmp_path: Path, made: Counter[str], engine: str
) -> None:
    run = stages.train(
        TrainOptions(
            stage="rep",
            shards=blob_shards,
            run=tmp_path / "run",
            flags={"engine": engine, "epochs": 3},
            settings=SMALL,
        ),
        QUIET,
    )
    assert made == {"train": 1, "val": 1, "test": 1}
    # With two heads on images, each of which looks at val every epoch and has features of its own.
    made.clear()
    options = TrainOptions(
        stage="cls",
        run=run.dir,
        flags={"protocol": "official"},
        method="crt,crt-last-block",
        settings=SMALL,
    )
    stages.train(options, QUIET)
    assert made == {"train": 1, "val": 1, "test": 1}


def test_leaving_the_job_closes_them(blob_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(*_: object, **__: object) -> mock.Mock:
        made.append(mock.Mock())
        return made[-1]

    monkeypatch.setattr(engines, "make", make)
    with Kept(DataConfig(), torch.device("cpu")) as kept:
        engine = kept.of(shards.open(blob_shards).split("val"))
        assert kept.of(shards.open(blob_shards).split("val")) is engine
        assert kept.of(shards.open(blob_shards).split("test")) is not engine
        assert not any(one.close.called for one in made)
    assert [one.close.call_count for one in made] == [1, 1]
