"""Matrix, tables and picture of a study, against what its runs say of themselves."""

import csv
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from smallstudy import QUIET, asked, cells_of

from fasttail.console import Reporter
from fasttail.study import run as study_run
from fasttail.study.asked import plan
from fasttail.study.picture import PANELS, draw
from fasttail.study.run import study
from fasttail.study.show import show

METHODS = ("joint", "crt", "tau", "ncm")
COLUMNS = {"many": "many", "medium": "medium", "few": "few", "all": "all_micro"}


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


def test_backbones_of_one_sampler_are_marks_in_the_same_panels(
    finished: Path, blob_shards: Path
) -> None:
    cells = [cell for cell in cells_of(finished, "test") if cell.sampler == "class"]
    others = [
        replace(cell, backbone="resnet32", mean=dict.fromkeys(cell.mean, 1.0)) for cell in cells
    ]
    asked_for = plan(asked(blob_shards, finished))
    of_both = replace(asked_for, samplers=("class",), backbones=("resnet20", "resnet32"))
    figure = draw(of_both, [*cells, *others])
    assert len(figure.axes) == len(PANELS)
    for axes, panel in zip(figure.axes, PANELS, strict=True):
        first, second = (container.lines[0] for container in axes.containers)
        np.testing.assert_allclose(
            np.asarray(first.get_ydata(), float), [cell.mean[panel] for cell in cells]
        )
        np.testing.assert_allclose(np.asarray(second.get_ydata(), float), 1)
    legend = figure.legends[0]
    assert legend.get_title().get_text() == "backbone"
    assert [text.get_text() for text in legend.get_texts()] == ["resnet20", "resnet32"]


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
