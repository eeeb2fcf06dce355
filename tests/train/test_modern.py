"""Stage 1 with mixed images, averaged weights, weighted classes and AdamW, together."""

import json
from pathlib import Path

import plain
import pytest
import torch
from safetensors.torch import load_file

from fasttail import stages
from fasttail.console import Reporter
from fasttail.rundir import Run
from fasttail.stages import TrainOptions
from fasttail.train import rep
from fasttail.train.average import Average

SETTINGS = (
    "model.backbone=plain",
    "model.ema_decay=0.8",
    "mix.mixup_alpha=0.4",
    "mix.cutmix_alpha=1",
    "loss.name=weighted",
    "loss.weights=effective",
    "optim.optimizer=adamw",
    "optim.epochs=4",
    "optim.batch_size=8",
    "optim.lr=0.01",
    "optim.lr_batch_size=8",
    "optim.warmup_epochs=0",
    "compute.amp=fp32",
    "compute.log_every=1",
    "compute.tensorboard=false",
    "compute.report=false",
)


@pytest.fixture(autouse=True)
def _plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plain.recognizer.BACKBONES, plain.NAME, plain.Plain)


def train(shards: Path, run: Path, *settings: str, resume: bool = False) -> Run:
    given = {"run": run, "resume": True} if resume else {"run": run, "shards": shards}
    changes = () if resume else (*SETTINGS, *settings)
    return stages.train(
        TrainOptions(stage="rep", settings=changes, **given),  # type: ignore[arg-type]
        Reporter(quiet=True),
    )


def losses(run: Run) -> list[float]:
    lines = [json.loads(line) for line in run.log_path.read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


def same(a: Path, b: Path) -> bool:
    x, y = load_file(a), load_file(b)
    return all(torch.equal(x[name], y[name]) for name in x)


class Stopped(Exception):
    """Stands for a kill."""


def test_a_resumed_training_ends_with_the_same_average_bit_for_bit(
    blob_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(blob_shards, tmp_path / "whole")
    step = rep.Step.__call__

    def stops(*given: object, **named: object) -> object:
        if named["step"] == 22:
            raise Stopped
        return step(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(rep.Step, "__call__", stops)
    minutes = "compute.checkpoint_every_min=1e-9"  # a checkpoint each step, within epochs too
    with pytest.raises(Stopped):
        train(blob_shards, tmp_path / "cut", minutes)
    monkeypatch.setattr(rep.Step, "__call__", step)
    cut = train(blob_shards, tmp_path / "cut", resume=True)
    assert losses(cut) == losses(whole)
    assert same(cut.model_path, whole.model_path)


def test_the_average_is_scored_kept_and_what_stage_2_starts_from(
    blob_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    averages: list[Average] = []
    init, score = Average.__init__, rep.score

    def made(self: Average, *given: object) -> None:
        init(self, *given)  # type: ignore[arg-type]
        averages.append(self)

    def scored(model: object, *given: object, **named: object) -> object:
        assert model is averages[0].model
        return score(model, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Average, "__init__", made)
    monkeypatch.setattr(rep, "score", scored)
    run = train(blob_shards, tmp_path / "run", "compute.keep_every=4")
    final = averages[0].model.state_dict()
    for path in (run.model_path, run.checkpoints_dir / "epoch-0004.safetensors"):
        kept = load_file(path)
        assert all(torch.equal(kept[name], value) for name, value in final.items())
    trained = rep.Checkpoints(run.checkpoints_dir).latest()
    assert trained is not None
    assert not torch.equal(trained[1]["classifier.weight"], kept["classifier.weight"])
    before = load_file(run.model_path)
    stages.train(TrainOptions(stage="cls", run=run.dir, method="tau"), Reporter(quiet=True))
    assert all(
        torch.equal(value, before[name]) for name, value in load_file(run.model_path).items()
    )


def test_every_engine_mixes_the_same_images(blob_shards: Path, tmp_path: Path) -> None:
    runs = [
        train(blob_shards, tmp_path / name, f"data.engine={name}", "optim.epochs=1")
        for name in ("ffcv", "resident", "reference")
    ]
    unmixed = train(blob_shards, tmp_path / "un", "optim.epochs=1", "mix.p=0")
    assert losses(runs[0]) == pytest.approx(losses(runs[2]), rel=1e-3)
    assert losses(runs[1]) == pytest.approx(losses(runs[2]), rel=1e-3)
    assert losses(runs[0]) != pytest.approx(losses(unmixed), rel=1e-2)


@pytest.mark.parametrize(
    "setting", ["mix.p=0", "model.ema_decay=0", "loss.weights=inverse", "optim.optimizer=sgd"]
)
def test_each_of_them_makes_another_model(blob_shards: Path, tmp_path: Path, setting: str) -> None:
    both = [
        train(blob_shards, tmp_path / name, "optim.epochs=1", *settings)
        for name, settings in (("with", ()), ("without", (setting,)))
    ]
    assert not same(both[0].model_path, both[1].model_path)


def test_stage_2_has_the_same_optimizers(blob_shards: Path, tmp_path: Path) -> None:
    run = train(blob_shards, tmp_path / "run", "optim.epochs=1")
    heads = []
    for name in ("sgd", "adamw"):
        settings = (f"classify.crt.optimizer={name}", "classify.crt.epochs=2")
        given = TrainOptions(stage="cls", run=run.dir, method="crt", settings=settings)
        heads.append(load_file(stages.train(given, Reporter(quiet=True)).head_path("crt")))
    assert not torch.equal(heads[0]["weight"], heads[1]["weight"])
