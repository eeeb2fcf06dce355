"""One engine a split for a whole job, whatever looks at it how often."""

import json
from collections import Counter
from pathlib import Path
from unittest import mock

import pytest
import torch

from fasttail import engines, shards, stages
from fasttail.config import DataConfig
from fasttail.console import Reporter
from fasttail.engines import auto, trial
from fasttail.engines.base import Engine
from fasttail.engines.kept import Kept
from fasttail.shards import Split
from fasttail.stages import TrainOptions
from fasttail.world import World

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


def test_a_training_decides_what_auto_means_and_whoever_goes_on_with_the_run_keeps_to_it(
    blob_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {"reference": 300.0, "ffcv": 200.0}
    monkeypatch.setattr(auto, "decoders", lambda device: list(rates))
    monkeypatch.setattr(auto, "choose", lambda split, device: ("ffcv", "before it is measured"))
    monkeypatch.setattr(trial, "ON_THE_CPU", ())
    tried = []

    def measured(name: str, *_: object) -> float:
        tried.append(name)
        return rates[name]

    monkeypatch.setattr(trial, "_tried", measured)
    made = []
    real = engines.make

    def noted(name: str, split: Split, **options: object) -> Engine:
        made.append((name, split.name))
        return real(name, split, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(engines, "make", noted)
    run = stages.train(
        TrainOptions(
            stage="rep",
            shards=blob_shards,
            run=tmp_path / "run",
            settings=(*SMALL, "optim.epochs=1"),
        ),
        QUIET,
    )
    assert tried == ["reference", "ffcv"]
    assert set(made) == {("reference", name) for name in ("train", "val", "test")}
    kept = json.loads((run.dir / "engine.json").read_text())
    assert (kept["engine"], kept["images_per_s"]) == ("reference", rates)
    assert kept["network_images_per_s"] > 0
    lines = [json.loads(line) for line in run.log_path.read_text().splitlines()]
    (logged,) = [line for line in lines if line["kind"] == "engine"]
    assert {name: logged[name] for name in kept} == kept

    made.clear()
    stages.train(TrainOptions(stage="cls", run=run.dir, method="ncm", settings=SMALL), QUIET)
    assert tried == ["reference", "ffcv"], "stage 2 takes what stage 1 has found"
    assert ("reference", "train") in made


def test_every_process_takes_what_the_main_one_has_decided(
    blob_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = trial.Choice("reference", "the main process says so")

    def received(found: list, src: int) -> None:
        assert (found, src) == ([None], 0), "nothing of this process's own"
        found[0] = decided

    monkeypatch.setattr("torch.distributed.broadcast_object_list", received)
    monkeypatch.setattr(auto, "decoders", lambda device: ["ffcv", "reference"])
    monkeypatch.setattr(auto, "choose", lambda split, device: ("ffcv", "before it is measured"))
    monkeypatch.setattr(trial, "_tried", lambda *_: pytest.fail("not the main process's work"))
    networks = []

    def network() -> float:
        networks.append(1)
        return 100.0

    split = shards.open(blob_shards).split("train")
    with Kept(DataConfig(), torch.device("cpu")) as kept:
        other = World(rank=1, local_rank=1, size=2, local_size=2)
        assert kept.settle(split, None, network, other) is decided  # type: ignore[arg-type]
        assert networks == [1], "networks may talk to each other, so all are measured"
        assert kept.of(split).name == "reference"
        assert kept.settle(split, None, network, other) is None  # type: ignore[arg-type]
