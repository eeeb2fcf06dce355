"""Ctrl-C: the first one saves, a second one leaves at once, and a line says how to go on."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import plain
import pytest
import torch
from safetensors.torch import load_file

from fasttail import stages
from fasttail.classify import METHODS
from fasttail.classify.head import Head
from fasttail.classify.task import Task
from fasttail.cli import main
from fasttail.compute import Compute
from fasttail.console import Reporter
from fasttail.stages import TrainOptions
from fasttail.train import rep
from fasttail.train.checkpoint import Checkpoints, Position
from fasttail.train.preemption import Preemption
from fasttail.world import World

SETTINGS = (
    "model.backbone=plain",
    "optim.epochs=2",
    "optim.batch_size=8",
    "optim.lr=0.02",
    "optim.lr_batch_size=8",
    "compute.amp=fp32",
    "compute.tensorboard=false",
    "compute.report=false",
)
QUIET = Reporter(quiet=True)


@pytest.fixture(autouse=True)
def _ctrl_c_is_listened_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Also where a shell that started the suite in the background has it ignored."""
    monkeypatch.setitem(plain.recognizer.BACKBONES, plain.NAME, plain.Plain)
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def options(shards: Path, run: str) -> TrainOptions:
    return TrainOptions(stage="rep", shards=shards, run=Path(run), settings=SETTINGS)


def position(run: str) -> Position:
    found = Checkpoints(Path(run) / "checkpoints").latest()
    assert found is not None
    return found[0]


def test_a_second_ctrl_c_leaves_at_once() -> None:
    with Preemption() as preemption:
        signal.raise_signal(signal.SIGINT)
        compute = Compute(torch.device("cpu"), torch.float32, channels_last=False)
        assert preemption.asked(World(), compute, agree=True) == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_job_in_the_background_goes_on_ignoring_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Preemption() as preemption:
        signal.raise_signal(signal.SIGINT)
        compute = Compute(torch.device("cpu"), torch.float32, channels_last=False)
        assert not preemption.asked(World(), compute, agree=True)


def test_ctrl_c_in_the_last_look_at_val_is_not_forgotten(
    blob_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stages.train(options(blob_shards, "whole"), QUIET)
    real_score, looks = rep.score, 0

    def score(*given: object, **named: object) -> object:
        nonlocal looks
        looks += 1
        if looks == 2:
            signal.raise_signal(signal.SIGINT)
        return real_score(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(rep, "score", score)
    with pytest.raises(KeyboardInterrupt, match="fasttail train --stage rep --run cut --resume"):
        stages.train(options(blob_shards, "cut"), QUIET)
    assert position("cut") == Position(2, 0)
    cut = stages.train(TrainOptions(stage="rep", run=Path("cut"), resume=True), QUIET)
    assert looks == 2, "nothing was trained or looked at again"
    one, other = load_file(whole.model_path), load_file(cut.model_path)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_ctrl_c_in_stage_2_keeps_the_heads_that_are_made_and_names_the_others(
    blob_shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.train(options(blob_shards, "run"), QUIET)

    def interrupted(task: Task) -> Head:
        raise KeyboardInterrupt

    monkeypatch.setitem(METHODS, "lws", interrupted)
    words = ["train", "--stage", "cls", "--run", "run", "--method", "ncm,lws,tau"]
    monkeypatch.setattr(sys, "argv", ["fasttail", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        "fasttail: stopped; finished heads are saved: resume with the same command and "
        "--method lws,tau"
    )
    rows = json.loads(Path("run/metrics.json").read_text())["rows"]
    assert {(row["method"], row["split"]) for row in rows} == {
        (method, split) for method in ("joint", "ncm") for split in ("val", "test")
    }
    assert Path("run/heads/ncm.safetensors").exists()


def test_ctrl_c_elsewhere_is_a_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fasttail.engines.survey.show", interrupted)
    monkeypatch.setattr(sys, "argv", ["fasttail", "engines"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "fasttail: stopped\n"
