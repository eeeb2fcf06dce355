"""Two processes train what one trains."""

import json
import subprocess
import sys
from pathlib import Path

import plain
import pytest
import torch
from safetensors.torch import load_file

from fasttail import stages
from fasttail.console import Reporter
from fasttail.stages import TrainOptions

SETTINGS = (
    "model.backbone=plain",
    "optim.epochs=3",
    "optim.batch_size=8",
    "optim.lr=0.05",
    "optim.lr_batch_size=8",
    "optim.warmup_epochs=0",
    # Its last epoch's mean is weighted by class.
    "loss.name=ldam-drw",
    "loss.drw_from=0.5",
    "model.cosine_scale=4",
    "model.ema_decay=0.8",
    "mix.mixup_alpha=1",
    "mix.cutmix_alpha=1",
    "compute.amp=fp32",
    "compute.log_every=1",
    "compute.tensorboard=false",
    "compute.report=false",
)


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


def test_one_process_and_two_end_with_the_same_weights_where_there_is_no_batchnorm(
    blob_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(plain.recognizer.BACKBONES, plain.NAME, plain.Plain)
    for name, settings in (("one", SETTINGS), ("other", (*SETTINGS, "seed=1"))):
        stages.train(
            TrainOptions(stage="rep", shards=blob_shards, run=tmp_path / name, settings=settings),
            Reporter(quiet=True),
        )
    for name, extra in (("two", ()), ("parts", ("optim.accumulate=2",))):
        sets = [argument for item in (*SETTINGS, *extra) for argument in ("--set", item)]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", "2", plain.__file__, "train", "--stage", "rep"),
                *("--shards", str(blob_shards), "--run-dir", str(tmp_path / name), *sets),
            ],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "FutureWarning" not in done.stderr
    one, other, two, parts = (
        load_file(tmp_path / name / "model.safetensors")
        for name in ("one", "other", "two", "parts")
    )
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(parts[name], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(other["classifier.weight"], one["classifier.weight"], atol=1e-3)
    # A process's loss is of its own half of each batch: equal ones would mean equal halves.
    assert len(losses(tmp_path / "one")) == len(losses(tmp_path / "two")) == 27
    assert losses(tmp_path / "one") != losses(tmp_path / "two")
