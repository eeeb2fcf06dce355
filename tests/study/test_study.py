"""A small study from its beginning, against what its runs say of themselves."""

import csv
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fasttail import stages
from fasttail.console import Reporter
from fasttail.errors import UserError
from fasttail.stages import TrainOptions
from fasttail.study import run as study_run
from fasttail.study.asked import StudyOptions, begin, plan
from fasttail.study.matrix import Cell
from fasttail.study.picture import PANELS, draw
from fasttail.study.run import missing, study
from fasttail.study.show import show

SMALL = (
    "model.backbone=resnet20",
    "optim.batch_size=8",
    "optim.lr=0.02",
    "optim.lr_batch_size=8",
    "optim.warmup_epochs=0",
    "classify.crt.epochs=2",
    "classify.crt.batch_size=8",
    "shots.many_above=15",
    "shots.few_below=6",
    "compute.amp=fp32",
    "compute.tensorboard=false",
    "compute.report=false",
    "compute.report=false",
    "compute.checkpoint_every_min=1e-9",
)
METHODS = ("joint", "crt", "tau", "ncm")
COLUMNS = {"many": "many", "medium": "medium", "few": "few", "all": "all_micro"}
QUIET = Reporter(quiet=True)


def asked(shards: Path, out: Path) -> StudyOptions:
    return StudyOptions(
        samplers="instance,class",
        seeds=2,
        methods="crt,tau,ncm",
        shards=shards,
        epochs=1,
        settings=tuple(setting for setting in SMALL if "backbone" not in setting),
        backbones="resnet20",
        out=out,
    )


@pytest.fixture(scope="module")
def finished(blob_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's directory: two samplers, two seeds, one backbone, one epoch, four heads."""
    out = tmp_path_factory.mktemp("studies") / "blobs"
    study(asked(blob_shards, out), QUIET)
    return out


def rows_of(out: Path, sampler: str, seed: int) -> list[dict]:
    path = out / "runs" / f"resnet20-{sampler}-seed{seed}" / "metrics.json"
    return json.loads(path.read_text())["rows"]


def test_the_matrix_holds_mean_and_spread_of_what_the_runs_say(finished: Path) -> None:
    with (finished / "matrix.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(r["split"], r["sampler"], r["method"]) for r in table] == [
        (split, sampler, method)
        for split in ("val", "test")
        for sampler in ("instance", "class")
        for method in METHODS
    ]
    spreads = []
    for line in table:
        of_seeds = [
            row
            for seed in (0, 1)
            for row in rows_of(finished, line["sampler"], seed)
            if (row["method"], row["split"]) == (line["method"], line["split"])
        ]
        assert len(of_seeds) == 2 == int(line["seeds"])
        for column, key in COLUMNS.items():
            values = np.array([row[key] for row in of_seeds], np.float64)
            assert float(line[column]) == pytest.approx(values.mean(), abs=1e-4)
            assert float(line[f"{column}_sd"]) == pytest.approx(values.std(ddof=1), abs=1e-4)
            spreads.append(values.std())
        assert line["dataset"] == "blobs"
        assert int(line["images"]) == {"val": 20, "test": 40}[line["split"]]
    assert max(spreads) > 0, "seeds must differ"
    assert len({line["all"] for line in table}) > 2, "and so must heads"
    about = json.loads((finished / "study.json").read_text())
    assert [cell["mean"]["all"] for cell in about["matrix"]] == pytest.approx(
        [float(line["all"]) for line in table], abs=1e-4
    )


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


def test_every_table_and_picture_names_its_split(finished: Path, blob_shards: Path) -> None:
    text = (finished / "matrix.md").read_text()
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        f"## resnet20: accuracy in % on {split} ({images} images), "
        "mean ± standard deviation over 2 seeds"
        for split, images in (("val", 20), ("test", 40))
    ]
    on_val, on_test = text.split("## ")[1:]
    assert "chosen on this split, val" in on_val
    assert "chosen on val" in on_test
    assert "this split" not in on_test
    assert (finished / "matrix.png").read_bytes()[:4] == b"\x89PNG"
    assert ET.parse(finished / "matrix.svg").getroot().tag.endswith("svg")
    figure = draw(plan(asked(blob_shards, finished)), cells_of(finished, "test"))
    assert "test (40 images)" in figure.get_suptitle()


def cells_of(out: Path, split: str) -> list[Cell]:
    kept = json.loads((out / "study.json").read_text())["matrix"]
    return [Cell(**cell) for cell in kept if cell["split"] == split]


def test_the_picture_shows_every_mean_in_its_panel(finished: Path, blob_shards: Path) -> None:
    cells = cells_of(finished, "test")
    figure = draw(plan(asked(blob_shards, finished)), cells)
    assert len(figure.axes) == len(PANELS)
    for axes, panel in zip(figure.axes, PANELS, strict=True):
        assert axes.get_title().startswith(panel)
        assert [tick.get_text() for tick in axes.get_xticklabels()] == [
            "Joint",
            "cRT",
            "τ-norm",
            "NCM",
        ]
        marks = [container.lines[0] for container in axes.containers]
        assert [container.get_label() for container in axes.containers] == ["instance", "class"]
        for line, sampler in zip(marks, ("instance", "class"), strict=True):
            expected = [cell.mean[panel] for cell in cells if cell.sampler == sampler]
            np.testing.assert_allclose(np.asarray(line.get_ydata(), float), expected)
            assert np.round(np.asarray(line.get_xdata(), float)).tolist() == [0, 1, 2, 3]


def test_a_group_without_classes_is_a_dash_and_an_empty_panel(
    finished: Path, blob_shards: Path
) -> None:
    cells = [
        replace(cell, mean={**cell.mean, "few": None}, sd={**cell.sd, "few": None})
        for cell in cells_of(finished, "test")
    ]
    assert [cell.text("few") for cell in cells] == ["-"] * 8
    assert all(cell.text("all").count("±") == 1 for cell in cells)
    figure = draw(plan(asked(blob_shards, finished)), cells)
    assert [text.get_text() for text in figure.axes[PANELS.index("few")].texts] == ["no such class"]


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
    seen = {cell.sampler: cell.seeds for cell in study_run.matrix(plan(options))}
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
    (run_plan.dir / "run.json").rename(run_plan.dir / ".run.json.tmp")
    for path in run_plan.dir.iterdir():
        if path.name != ".run.json.tmp":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    begun = missing(made, run_plan)
    assert begun is not None
    assert (begun.stage, begun.resume) == ("rep", False)
    assert not list(run_plan.dir.iterdir()), "a new run finds an empty directory"


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
        with pytest.raises(UserError, match=rf"begun with other {key}: .*another --out"):
            begin(plan(changed))
    with pytest.raises(UserError, match="holds no study"):
        begin(plan(replace(options, out=finished / "runs")))


def test_mistakes_are_named_before_anything_is_written(blob_shards: Path, tmp_path: Path) -> None:
    options = asked(blob_shards, tmp_path / "none")
    for changes, match in (
        ({"samplers": "instance,clas"}, "did you mean 'class'"),
        ({"samplers": "class,class"}, "each once"),
        ({"backbones": "resnet21"}, "unknown backbone 'resnet21'"),
        ({"methods": "crt,taw"}, "did you mean 'tau'"),
        ({"seeds": 0}, "--seeds 0: at least 1"),
        ({"settings": ("seed=4",)}, "given with --seeds"),
        ({"settings": ("optim.lr=x",)}, "optim.lr"),
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


def test_the_screen_shows_the_last_split_in_its_width(
    finished: Path,
    blob_shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show(plan(asked(blob_shards, finished)), cells_of(finished, "test"), Reporter())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("blobs, resnet20: accuracy in % on test (40 images)")
    assert lines[2].split() == ["sampler", "head", "many", "medium", "few", "all"]
    shown = [line.split() for line in lines[4:] if line.strip()]
    assert len(shown) == 8
    for cell, words in zip(cells_of(finished, "test"), shown, strict=True):
        assert words[:2] == [cell.sampler, cell.method]
        mean, sd = words[-1].split("±")
        assert float(mean) == pytest.approx(cell.mean["all"], abs=0.051)
        assert float(sd) == pytest.approx(cell.sd["all"], abs=0.051)


def test_without_matplotlib_the_tables_are_there_and_the_picture_can_be_had_later(
    finished: Path,
    blob_shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = finished / "matrix.png"
    before = picture.read_bytes()
    picture.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(study_run, "find_spec", lambda name: None)
        study(asked(blob_shards, finished), Reporter())
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not picture.exists()
    study(asked(blob_shards, finished), QUIET)
    assert picture.read_bytes() == before, "the same numbers make the same file"
