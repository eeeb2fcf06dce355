"""A small study: what it trains, what it does not train again, what it refuses."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from smallstudy import QUIET, SMALL, asked

from fasttail import stages
from fasttail.console import Reporter
from fasttail.errors import UserError
from fasttail.stages import TrainOptions
from fasttail.study.asked import begin, plan
from fasttail.study.matrix import matrix
from fasttail.study.run import missing, study
from fasttail.train.checkpoint import Checkpoints, Position


def test_runs_differ_in_what_was_asked_and_in_nothing_else(finished: Path) -> None:
    configs = {}
    for directory in (finished / "runs").iterdir():
        config = json.loads((directory / "run.json").read_text())["config"]
        own = config["model"]["backbone"], config.pop("sampler"), config.pop("seed")
        configs[own] = config
    assert set(configs) == {
        ("resnet20", sampler, seed) for sampler in ("instance", "class") for seed in (0, 1)
    }
    first, *others = configs.values()
    assert all(other == first for other in others)
    assert first["optim"]["epochs"] == 1


class Killed(Exception):
    """Stands for a kill."""


def test_a_study_killed_within_a_run_goes_on_there_and_ends_with_the_same_matrix(
    finished: Path, blob_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = asked(blob_shards, tmp_path / "cut")
    real_step, steps = torch.optim.SGD.step, 0
    real_train, trained = stages.train, []
    per_run = 78 // 8  # training images, a step

    def noted(todo: TrainOptions, reporter: Reporter) -> object:
        assert todo.run is not None
        trained.append((todo.stage, todo.run.name, todo.resume))
        return real_train(todo, reporter)

    def dies(self: torch.optim.SGD, *arguments: object) -> object:
        nonlocal steps
        if trained[-1][:2] == ("rep", "resnet20-instance-seed1"):
            steps += 1
            if steps == per_run // 2:
                raise Killed
        return real_step(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(stages, "train", noted)
    monkeypatch.setattr(torch.optim.SGD, "step", dies)
    with pytest.raises(Killed):
        study(options, QUIET)
    assert trained == [
        ("rep", "resnet20-instance-seed0", False),
        ("cls", "resnet20-instance-seed0", False),
        ("rep", "resnet20-class-seed0", False),
        ("cls", "resnet20-class-seed0", False),
        ("rep", "resnet20-instance-seed1", False),
    ]
    seen = {cell.sampler: cell.seeds for cell in matrix(plan(options))}
    assert seen == {"instance": (0,), "class": (0,)}

    trained.clear()
    study(options, QUIET)
    assert trained == [
        ("rep", "resnet20-instance-seed1", True),
        ("cls", "resnet20-instance-seed1", False),
        ("rep", "resnet20-class-seed1", False),
        ("cls", "resnet20-class-seed1", False),
    ]
    assert steps - per_run // 2 < per_run, "it was gone on with, not begun again"
    assert (tmp_path / "cut" / "matrix.csv").read_text() == (finished / "matrix.csv").read_text()

    trained.clear()
    again = study(options, QUIET)
    assert trained == []
    assert len(again) == 16


def test_ctrl_c_ends_a_study_with_the_one_line_that_it_goes_on_by_the_same_command(
    finished: Path, blob_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = asked(blob_shards, tmp_path / "cut")
    real_step, steps = torch.optim.SGD.step, 0

    def interrupted(self: torch.optim.SGD, *arguments: object) -> object:
        nonlocal steps
        steps += 1
        if steps == 3:
            signal.raise_signal(signal.SIGINT)
        return real_step(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.optim.SGD, "step", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"the same command resumes the study$"):
        study(options, QUIET)
    first = tmp_path / "cut" / "runs" / "resnet20-instance-seed0"
    found = Checkpoints(first / "checkpoints").latest()
    assert found is not None
    assert found[0] == Position(0, 3), "the step under way has ended"
    monkeypatch.setattr(torch.optim.SGD, "step", real_step)
    study(options, QUIET)
    assert (tmp_path / "cut" / "matrix.csv").read_text() == (finished / "matrix.csv").read_text()


def test_only_what_a_run_lacks_is_made(finished: Path, blob_shards: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    made = plan(asked(blob_shards, tmp_path / "copy"))
    run_plan = made.runs[2]
    metrics = run_plan.dir / "metrics.json"
    rows = json.loads(metrics.read_text())["rows"]

    def without(leave_out: Callable[[dict], bool]) -> TrainOptions | None:
        metrics.write_text(json.dumps({"rows": [row for row in rows if not leave_out(row)]}))
        return missing(made, run_plan)

    assert without(lambda row: False) is None
    heads = without(lambda row: row["method"] in ("crt", "ncm") and row["split"] == "test")
    assert heads is not None
    assert (heads.stage, heads.method) == ("cls", "crt,ncm")
    scores = without(lambda row: row["method"] == "joint")
    assert scores is not None
    assert (scores.stage, scores.resume) == ("rep", True)
    (run_plan.dir / "run.json").unlink()
    begun = missing(made, run_plan)
    assert begun is not None
    assert (begun.stage, begun.resume) == ("rep", False)


def test_every_run_starts_from_the_weights_that_a_study_is_given(
    finished: Path, blob_shards: Path, tmp_path: Path
) -> None:
    given, donor = tmp_path / "given.safetensors", finished / "runs" / "resnet20-class-seed1"
    shutil.copyfile(donor / "model.safetensors", given)
    options = replace(
        asked(blob_shards, tmp_path / "study"),
        seeds=1,
        methods="ncm",
        init=str(given),
        settings=(*asked(blob_shards, tmp_path).settings, "model.trained=classifier"),
    )
    study(options, QUIET)
    before = load_file(given)
    for directory in (options.out / "runs").iterdir():
        after = load_file(directory / "model.safetensors")
        frozen = [name for name in before if name.startswith("backbone.")]
        assert all(torch.equal(after[name], before[name]) for name in frozen)
    begin(plan(options))
    begin(plan(replace(options, init=str(donor))))  # the same bytes, elsewhere
    other = finished / "runs" / "resnet20-class-seed0"
    with pytest.raises(UserError, match="started with other init"):
        begin(plan(replace(options, init=str(other))))


def test_two_processes_make_one_study(blob_shards: Path, tmp_path: Path) -> None:
    sets = [argument for setting in SMALL[1:] for argument in ("--set", setting)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "-m", "fasttail", "study", "--samplers", "class,sqrt"),
            *("--shards", str(blob_shards), "--backbones", "resnet20", "--epochs", "1"),
            *("--methods", "ncm", "--out", str(tmp_path / "two"), *sets),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("accuracy in % on test (40 images), 1 seed") == 1, "one speaks"
    with (tmp_path / "two" / "matrix.csv").open() as file:
        cells = [(row["sampler"], row["method"], row["images"]) for row in csv.DictReader(file)]
    assert cells[4:] == [
        (sampler, method, "40") for sampler in ("class", "sqrt") for method in ("joint", "ncm")
    ]


def test_a_study_is_gone_on_with_only_as_it_was_begun(finished: Path, blob_shards: Path) -> None:
    options = asked(blob_shards, finished)
    begin(plan(options))
    for changed, key in (
        (replace(options, seeds=3), "seeds"),
        (replace(options, samplers="instance,sqrt"), "samplers"),
        (replace(options, methods="crt"), "methods"),
        (replace(options, epochs=2), "config.optim.epochs"),
        (replace(options, settings=(*options.settings, "data.flip_p=0.1")), "config.data.flip_p"),
    ):
        with pytest.raises(UserError, match=rf"started with other {key}: .*another --out"):
            begin(plan(changed))
    with pytest.raises(UserError, match="holds no study"):
        begin(plan(replace(options, out=finished / "runs")))


def test_mistakes_are_named_before_anything_is_written(blob_shards: Path, tmp_path: Path) -> None:
    options = asked(blob_shards, tmp_path / "none")
    for changes, match in (
        ({"samplers": "instance,clas"}, "did you mean 'class'"),
        ({"samplers": "class,class"}, "each once"),
        ({"backbones": "resnet21"}, "unknown backbone 'resnet21'"),
        ({"backbones": "timm:vit_tiny_patch16_224"}, "takes no images of 32 px"),
        ({"methods": "crt,taw"}, "did you mean 'tau'"),
        ({"seeds": 0}, "--seeds 0: at least 1"),
        ({"settings": ("seed=4",)}, "given with --seeds"),
        ({"settings": ("optim.lr=x",)}, "optim.lr"),
        ({"settings": ("model.trained=classifier",)}, "random weights: give --init"),
        ({"init": "nowhere.pth"}, "--init nowhere.pth: no weights there"),
    ):
        with pytest.raises(UserError, match=match):
            study(replace(options, **changes), QUIET)  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()


def test_being_asked_to_leave_ends_the_study_with_what_there_is(
    blob_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(asked(blob_shards, tmp_path / "left"), seeds=1, methods="ncm")
    real_train, trained = stages.train, []

    def leaves(todo: TrainOptions, reporter: Reporter) -> object:
        trained.append(todo.run)
        run = real_train(todo, reporter)
        if len(trained) == 3:
            run.model_path.unlink()  # as after a `Preempted`
        return run

    monkeypatch.setattr(stages, "train", leaves)
    cells = study(options, QUIET)
    assert len(trained) == 3
    assert {cell.sampler for cell in cells if cell.method == "ncm"} == {"instance"}
    assert (tmp_path / "left" / "matrix.md").exists()
    assert not (tmp_path / "left" / "matrix.png").exists()
