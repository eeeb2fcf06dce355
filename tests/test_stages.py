"""Both stages on small real shards, in this process and in two."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fasttail import rundir, stages
from fasttail.console import Reporter
from fasttail.errors import UserError
from fasttail.stages import TrainOptions
from fasttail.train import rep
from fasttail.train.checkpoint import Checkpoints, Position

SMALL = (
    "model.backbone=resnet20",
    "optim.epochs=3",
    "optim.batch_size=8",
    "optim.lr=0.02",
    "optim.lr_batch_size=8",
    "optim.warmup_epochs=0",
    "data.flip_p=0",
    "classify.crt.epochs=2",
    "classify.crt.batch_size=8",
    "classify.lws.epochs=2",
    "classify.lws.batch_size=8",
    "shots.many_above=15",
    "shots.few_below=6",
    "compute.amp=fp32",
    "compute.tensorboard=false",
    "compute.report=false",
)


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def quiet() -> Reporter:
    return Reporter(quiet=True)


def options(shards: Path, run: str, **changes: object) -> TrainOptions:
    values = {"stage": "rep", "shards": shards, "run": Path(run), "settings": SMALL, **changes}
    return TrainOptions(**values)  # type: ignore[arg-type]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def test_both_stages_end_in_a_table_with_the_split_on_every_row(
    blob_shards: Path, quiet: Reporter
) -> None:
    run = stages.train(options(blob_shards, "runs/a"), quiet)
    assert [(r["method"], r["split"]) for r in run.rows()] == [("joint", "val"), ("joint", "test")]
    stages.train(TrainOptions(stage="cls", run=run.dir), quiet)
    rows = json.loads((run.dir / "metrics.json").read_text())["rows"]
    assert {(r["method"], r["split"]) for r in rows} == {
        (method, split)
        for method in ("joint", "crt", "lws", "tau", "ncm", "logit-adjust", "balanced-softmax")
        for split in ("val", "test")
    }
    for row in rows:
        assert row["protocol"] == "clean"
        assert {"all_micro", "all_macro", "many", "medium", "few", "worst"} <= set(row)
    notes = {(r["method"], r["split"]): r["note"] for r in rows}
    assert "chosen on val" in notes["tau", "test"]
    assert "chosen on this split, val" in notes["tau", "val"]
    again = stages.evaluate(run.dir, "test", quiet)
    assert again == [r for r in rows if r["split"] == "test"]


@pytest.mark.parametrize("sampler", ["instance", "class", "sqrt", "progressive"])
def test_every_sampler_trains_under_both_protocols_and_sees_other_images(
    blob_shards: Path, quiet: Reporter, sampler: str
) -> None:
    settings = (*SMALL, "optim.epochs=2")
    runs = {
        protocol: stages.train(
            options(
                blob_shards,
                f"runs/{protocol}",
                settings=settings,
                flags={"sampler": sampler, "protocol": protocol},
            ),
            quiet,
        )
        for protocol in ("clean", "official")
    }
    clean, official = (weights(run.dir)["classifier.weight"] for run in runs.values())
    assert torch.isfinite(clean).all()
    assert not torch.equal(clean, official)


class Stopped(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("stop_at", [1, 9, 10, 17])
def test_a_run_stopped_at_any_step_and_resumed_ends_with_the_same_bits(
    blob_shards: Path, quiet: Reporter, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_step = (*SMALL, "compute.checkpoint_every_min=1e-9", "optim.epochs=2")
    whole = stages.train(options(blob_shards, "runs/whole", settings=every_step), quiet)

    take_step = rep.Step.__call__

    def stops(*given: object, step: int, **named: object) -> object:
        if step == stop_at:
            raise Stopped
        return take_step(*given, step=step, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(rep.Step, "__call__", stops)
    with pytest.raises(Stopped):
        stages.train(options(blob_shards, "runs/cut", settings=every_step), quiet)
    monkeypatch.setattr(rep.Step, "__call__", take_step)
    assert not (Path("runs/cut") / "model.safetensors").exists()
    cut = stages.train(options(blob_shards, "runs/cut", settings=(), resume=True), quiet)
    expected, got = weights(whole.dir), weights(cut.dir)
    assert set(expected) == set(got)
    assert all(torch.equal(expected[name], got[name]) for name in expected)


# A shell that starts the suite in the background has it ignore Ctrl-C, and what it starts too.
COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from fasttail.cli import main; main()"
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_run_that_is_asked_to_leave_writes_a_checkpoint_and_says_how_to_go_on(
    blob_shards: Path, number: signal.Signals, code: int
) -> None:
    sets = [argument for setting in SMALL for argument in ("--set", setting)]
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", COMMAND, "train", "--stage", "rep", "--epochs", "1000"),
            *("--shards", str(blob_shards), "--run", "runs/asked", *sets),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    log = Path("runs/asked/log.jsonl")
    deadline_s = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == code, said
    assert said.count("fasttail train --stage rep --run runs/asked --resume") == 1
    assert "Traceback" not in said
    found = Checkpoints(Path("runs/asked/checkpoints")).latest()
    assert found is not None
    assert found[0] > Position(0, 0)


def test_a_run_that_exists_is_not_overwritten(blob_shards: Path, quiet: Reporter) -> None:
    run = stages.train(options(blob_shards, "runs/a"), quiet)
    before = (run.dir / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="already exists: continue it with --resume, or choose"):
        stages.train(options(blob_shards, "runs/a"), quiet)
    assert (run.dir / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": (*SMALL, "optim.batch_size=500")}, "more than the 78 training images"),
        ({"flags": {"sampler": "sqr"}}, "did you mean 'sqrt'"),
        ({"flags": {"engine": "ffvc"}}, "did you mean 'ffcv'"),
        ({"settings": ("model.backbone=resnet21",)}, "unknown backbone"),
        (
            {"settings": (*SMALL, "model.backbone=timm:vit_tiny_patch16_224")},
            "takes no images of 32",
        ),
        ({"config": "blob"}, "unknown configuration 'blob'"),
    ],
)
def test_a_mistake_leaves_no_run_directory(
    blob_shards: Path, quiet: Reporter, changes: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        stages.train(options(blob_shards, "runs/a", **changes), quiet)
    assert not Path("runs/a").exists()


def test_shards_other_than_the_runs_are_refused(
    blob_shards: Path, quiet: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stages.train(options(blob_shards, "runs/a"), quiet)
    about = json.loads((run.dir / "run.json").read_text())
    about["shards_digest"] = "0" * 64
    (run.dir / "run.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="not the shards that runs/a was started with"):
        stages.train(TrainOptions(stage="cls", run=run.dir), quiet)


def test_features_are_extracted_once_and_again_for_other_weights(
    blob_shards: Path, quiet: Reporter
) -> None:
    run = stages.train(options(blob_shards, "runs/a"), quiet)
    stages.train(TrainOptions(stage="cls", run=run.dir, method="ncm"), quiet)
    path = run.features_dir / "train.npy"
    first = path.stat().st_mtime_ns
    stages.train(TrainOptions(stage="cls", run=run.dir, method="tau"), quiet)
    assert path.stat().st_mtime_ns == first
    other = stages.train(options(blob_shards, "runs/b", flags={"sampler": "class"}), quiet)
    (other.dir / "model.safetensors").replace(run.dir / "model.safetensors")
    stages.train(TrainOptions(stage="cls", run=run.dir, method="ncm"), quiet)
    assert path.stat().st_mtime_ns != first


def test_the_same_command_gives_files_of_the_same_bytes(blob_shards: Path, quiet: Reporter) -> None:
    for name in ("runs/a", "runs/b"):
        stages.train(options(blob_shards, name), quiet)
        stages.train(TrainOptions(stage="cls", run=Path(name), method="crt,tau,ncm"), quiet)
    paths = sorted(path.relative_to("runs/a") for path in Path("runs/a").rglob("*.safetensors"))
    assert len(paths) >= 5  # the model, three heads, the best epoch, checkpoints
    for path in paths:
        assert (Path("runs/a") / path).read_bytes() == (Path("runs/b") / path).read_bytes(), path


def test_stage_2_can_start_from_another_run_and_leaves_it_alone(
    blob_shards: Path, quiet: Reporter
) -> None:
    first = stages.train(options(blob_shards, "runs/a"), quiet)
    files = {path.name for path in first.dir.iterdir()}
    second = stages.train(
        TrainOptions(stage="cls", run=Path("runs/b"), init=str(first.dir), method="ncm"), quiet
    )
    assert {row["method"] for row in second.rows()} == {"joint", "ncm"}
    assert {path.name for path in first.dir.iterdir()} == files


def test_stage_1_can_start_from_weights(blob_shards: Path, quiet: Reporter) -> None:
    first = stages.train(options(blob_shards, "runs/a"), quiet)
    settings = (*SMALL, "model.trained=classifier")
    second = stages.train(
        options(blob_shards, "runs/b", init=str(first.dir), settings=settings), quiet
    )
    before, after = weights(first.dir), weights(second.dir)
    backbone = [name for name in before if name.startswith("backbone.")]
    assert all(torch.equal(before[name], after[name]) for name in backbone)
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])


def test_without_a_name_the_only_shards_there_are_are_taken(
    blob_shards: Path, quiet: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTTAIL_SHARDS", str(blob_shards.parent))
    assert stages.shards_dir(None, None) == blob_shards
    with pytest.raises(UserError, match="there: blobs"):
        stages.shards_dir("inat2018", None)


def test_two_processes_share_a_run_and_count_every_image_once(blob_shards: Path) -> None:
    sets = [argument for setting in SMALL for argument in ("--set", setting)]
    for stage in (["rep", "--shards", str(blob_shards), *sets], ["cls"]):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", "2", "-m", "fasttail", "train", "--run-dir", "runs/two"),
                *("--stage", *stage),
            ],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    rows = rundir.open_run(Path("runs/two")).rows()
    assert len(rows) == 14
    assert {(row["split"], row["images"]) for row in rows} == {("val", 20), ("test", 40)}

    # Every process's features are of the one model that was kept, its statistics included.
    shared = np.load("runs/two/features/test.npy")
    shutil.rmtree("runs/two/features")
    stages.evaluate(Path("runs/two"), "test", Reporter(quiet=True))
    np.testing.assert_allclose(np.load("runs/two/features/test.npy"), shared, atol=5e-3)
    assert shared.std() > 0.05
