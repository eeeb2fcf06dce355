"""Stage 1 as a person runs it: what is kept, what is resumed, and what is said when it can't be."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import plain
import pytest
import torch
from safetensors.torch import load_file, save_file

from fasttail import classify, rundir, stages
from fasttail.compute import Compute
from fasttail.config import ConvertConfig
from fasttail.console import Reporter
from fasttail.datasets.base import ArrayImages, Index, SplitIndex
from fasttail.errors import UserError
from fasttail.shards.convert import convert
from fasttail.stages import TrainOptions
from fasttail.train import rep
from fasttail.train.step import Step

SMALL = (
    "model.backbone=plain",
    "optim.epochs=4",
    "optim.batch_size=8",
    "optim.lr=0.05",
    "optim.lr_batch_size=8",
    "optim.warmup_epochs=0",
    "compute.amp=fp32",
    "compute.tensorboard=false",
    "compute.report=false",
)
QUIET = Reporter(quiet=True)


@pytest.fixture(autouse=True)
def _plain_network_and_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plain.recognizer.BACKBONES, plain.NAME, plain.Plain)
    monkeypatch.chdir(tmp_path)


def options(shards: Path, run: str, *settings: str, **changes: object) -> TrainOptions:
    values = {"stage": "rep", "shards": shards, "run": Path(run), "settings": (*SMALL, *settings)}
    return TrainOptions(**{**values, **changes})  # type: ignore[arg-type]


def log(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def same(a: Path, b: Path) -> bool:
    x, y = load_file(a), load_file(b)
    return set(x) == set(y) and all(torch.equal(x[name], y[name]) for name in x)


def test_best_and_every_kth_epoch_are_kept_and_the_last_one_is_the_model(blob_shards: Path) -> None:
    run = stages.train(options(blob_shards, "run", "compute.keep_every=2"), QUIET)
    folder = run.checkpoints_dir
    kept = sorted(path.name for path in folder.glob("epoch-*"))
    assert kept == ["epoch-0002.safetensors", "epoch-0004.safetensors"]
    assert same(folder / "epoch-0004.safetensors", run.model_path)
    assert not same(folder / "epoch-0002.safetensors", run.model_path)
    val = [line for line in log(run.dir) if line["kind"] == "val"]
    best = max(val, key=lambda line: line["all_micro"])  # the first of equal ones
    short = stages.train(
        options(blob_shards, "short", "compute.keep_every=1"), QUIET
    ).checkpoints_dir
    assert same(folder / "best.safetensors", short / f"epoch-{best['epoch'] + 1:04d}.safetensors")


def test_of_short_epochs_the_last_ones_accuracy_is_said(
    blob_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(Reporter, "say", lambda _, text: said.append(text))
    monkeypatch.setattr(rep, "SAY_EVERY_S", 1e9)
    stages.train(options(blob_shards, "run"), Reporter(quiet=True))
    (line,) = [text for text in said if text.startswith("epoch ") and "val" in text]
    assert line.startswith("epoch 4/4: val accuracy ")


def test_under_the_official_protocol_the_best_epoch_on_val_is_the_model(
    blob_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Over images, and over classes: the second epoch is the first of the best over images.
    accuracies = iter([(20.0, 90.0), (60.0, 30.0), (60.0, 50.0), (40.0, 95.0)])

    def summarize(*given: Any) -> dict[str, Any]:
        micro, macro = next(accuracies)
        return {**real(*given), "all_micro": micro, "all_macro": macro}

    real = rep.summarize
    monkeypatch.setattr(rep, "summarize", summarize)
    run = stages.train(
        options(blob_shards, "run", "compute.keep_every=1", flags={"protocol": "official"}), QUIET
    )
    assert same(run.checkpoints_dir / "epoch-0002.safetensors", run.model_path)
    assert not same(run.checkpoints_dir / "epoch-0004.safetensors", run.model_path)


class Stopped(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("during_val", [False, True])
def test_a_job_that_torchrun_starts_again_goes_on_by_itself(
    blob_shards: Path, monkeypatch: pytest.MonkeyPatch, during_val: bool
) -> None:
    whole = stages.train(options(blob_shards, "whole", flags={"protocol": "official"}), QUIET)
    real_score, calls = rep.score, 0

    def score(*given: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Stopped
        return real_score(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(rep, "score", score)
    if during_val:  # the steps before a long look at val are kept first
        monkeypatch.setattr(rep, "SAY_EVERY_S", 0.0)
    with pytest.raises(Stopped):
        stages.train(options(blob_shards, "cut", flags={"protocol": "official"}), QUIET)
    monkeypatch.setattr(rep, "score", real_score)

    steps = []
    take_step = rep.Step.__call__

    def counted(*given: object, step: int, **named: object) -> object:
        steps.append(step)
        return take_step(*given, step=step, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(rep.Step, "__call__", counted)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    cut = stages.train(options(blob_shards, "cut", flags={"protocol": "official"}), QUIET)
    assert steps == list(range(27 if during_val else 18, 36))
    assert same(whole.model_path, cut.model_path)
    assert [line["kind"] for line in log(cut.dir)].count("start") == 2
    with pytest.raises(UserError, match="started with another configuration"):
        stages.train(
            options(blob_shards, "cut", "optim.lr=0.01", flags={"protocol": "official"}), QUIET
        )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_out_of_memory_names_the_batch_and_what_to_lower(
    blob_shards: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Step, "__call__", fails)
    with pytest.raises(
        UserError, match=r"8 images of 32 px .* optim\.accumulate=2 .*--batch-size 4"
    ):
        stages.train(options(blob_shards, "run"), QUIET)
    assert not Path("run").exists()


def test_out_of_memory_with_cuda_graphs_does_not_recommend_what_they_refuse(
    blob_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(rep, "train", fails)
    with pytest.raises(UserError, match=r"do not fit .*: --batch-size 4") as raised:
        stages.train(options(blob_shards, "run", "compute.cuda_graphs=true"), QUIET)
    assert "accumulate" not in str(raised.value)


def test_another_fault_in_the_step_is_not_taken_for_want_of_memory(
    blob_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Step, "__call__", fails)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        stages.train(options(blob_shards, "run"), QUIET)


def test_a_full_disk_is_said_in_a_line_and_the_run_goes_on_once_there_is_room(
    blob_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stages.train(options(blob_shards, "whole"), QUIET)
    fsync, calls = rundir.whole_path.__globals__["os"].fsync, 0

    def full(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(fd)

    monkeypatch.setattr("fasttail.atomic.os.fsync", full)
    with pytest.raises(UserError, match=r"No space left .* resume with .* --run run --resume"):
        stages.train(options(blob_shards, "run"), QUIET)
    monkeypatch.setattr("fasttail.atomic.os.fsync", fsync)
    assert list(Path("run/checkpoints").glob("*.safetensors"))
    run = stages.train(TrainOptions(stage="rep", run=Path("run"), resume=True), QUIET)
    assert same(whole.model_path, run.model_path)


def test_every_loss_trains_and_the_cosine_classifiers_head_gives_the_models_logits(
    blob_shards: Path,
) -> None:
    ends = {}
    for loss in ("cross-entropy", "balanced-softmax", "logit-adjustment", "ldam-drw"):
        run = stages.train(options(blob_shards, loss, flags={"loss": loss}), QUIET)
        ends[loss] = load_file(run.model_path)["backbone.conv1.weight"]
    # Logit adjustment with tau 1 is balanced softmax; all others differ.
    torch.testing.assert_close(
        ends["logit-adjustment"], ends["balanced-softmax"], rtol=1e-4, atol=1e-6
    )
    for other in ("balanced-softmax", "ldam-drw"):
        assert not torch.allclose(ends["cross-entropy"], ends[other], atol=1e-4)
    compute = Compute(torch.device("cpu"), torch.float32, channels_last=True)
    model = rep.load_model(rundir.open_run(Path("ldam-drw")), compute).eval()
    features_ND = torch.rand(7, 16) + 0.1
    logits_NC = classify.joint_head(model).logits(features_ND)
    torch.testing.assert_close(logits_NC, model.classifier(features_ND))
    assert logits_NC.abs().max() <= 30.001


def test_of_weights_whose_classifier_is_of_other_classes_the_backbone_is_taken_frozen(
    blob_shards: Path,
) -> None:
    run = stages.train(options(blob_shards, "run"), QUIET)
    weights = load_file(run.model_path)
    weights["classifier.weight"] = torch.zeros(7, 16)
    weights["classifier.bias"] = torch.zeros(7)
    save_file(weights, "seven.safetensors")
    start = options(blob_shards, "cls", stage="cls", init="seven.safetensors")
    frozen = stages.train(start, QUIET)
    assert frozen.frozen is not None
    assert "joint" not in {row["method"] for row in frozen.rows()}
    kept = load_file(frozen.model_path)
    assert all(torch.equal(kept[name], weights[name]) for name in kept if "classifier" not in name)
    assert any(name.startswith("backbone.") for name in kept)


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_kept(blob_shards: Path) -> None:
    with pytest.raises(
        UserError, match=r"(loss is|weights are not finite) .* lower the learning rate"
    ):
        stages.train(
            options(
                blob_shards,
                "run",
                "optim.lr=1e30",
                "compute.checkpoint_every_min=1e-9",
                "compute.log_every=100",
            ),
            QUIET,
        )
    kept = rep.Checkpoints(Path("run/checkpoints")).latest()
    if kept is not None:
        assert all(torch.isfinite(value).all() for value in kept[1].values())


def test_the_log_begins_with_what_made_the_run(blob_shards: Path) -> None:
    run = stages.train(options(blob_shards, "run"), QUIET)
    first = log(run.dir)[0]
    assert first["kind"] == "start"
    assert {"command", "git_commit", "packages", "machine", "started"} <= set(first["provenance"])
    assert first["config"]["optim"]["batch_size"] == 8


def test_shards_without_val_and_test_train_and_say_that_nothing_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels_N = np.repeat(np.arange(2), (12, 6))
    pixels_NHWC = np.random.default_rng(0).integers(0, 256, (18, 32, 32, 3), dtype=np.uint8)
    splits = {"train": SplitIndex(ArrayImages(pixels_NHWC, "noise"), labels_N)}
    index = Index("noise", ("a", "b"), splits, (0.5,) * 3, (0.2,) * 3)
    convert(index, tmp_path / "noise", ConvertConfig(jobs=1))
    run = stages.train(options(tmp_path / "noise", "run"), Reporter())
    assert "no val and no test split: nothing is scored" in capsys.readouterr().err
    assert run.model_path.exists()
    assert run.rows() == []


def test_the_log_has_norms_with_each_loss_and_val_at_its_step(blob_shards: Path) -> None:
    run = stages.train(options(blob_shards, "run", "compute.log_every=3"), QUIET)
    lines = log(run.dir)
    train = [line for line in lines if line["kind"] == "train"]
    assert all(line["gradient_norm"] > 0 and line["update_norm"] > 0 for line in train)
    val_steps = [line["global_step"] for line in lines if line["kind"] == "val"]
    last_steps = {line["epoch"]: line["global_step"] for line in train}
    assert val_steps == list(last_steps.values())
