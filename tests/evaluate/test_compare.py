from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fasttail import rundir
from fasttail.config import TrainConfig
from fasttail.console import Reporter
from fasttail.errors import UserError
from fasttail.evaluate.compare import MEASURES, compare

QUIET = Reporter(quiet=True)


def row(method: str, split: str, value: float, **more: Any) -> dict[str, Any]:
    about = {"method": method, "split": split, "protocol": "clean", "note": ""}
    about |= {"images": 40, "worst": value}
    return {**about, **dict.fromkeys(MEASURES, value), **more}


def a_run(folder: Path, rows: list[dict[str, Any]], digest: str = "0" * 64, **config: Any) -> Path:
    run = rundir.create(
        folder,
        TrainConfig(**config),
        shards_dir=folder,
        shards_digest=digest,
        dataset="made up",
        class_names=("a", "b"),
    )
    run.add_rows(rows)
    return folder


def test_means_and_spreads_are_over_the_runs_that_have_the_method(tmp_path: Path) -> None:
    values = [50.0, 52.0, 57.0]
    runs = [
        a_run(
            tmp_path / str(seed),
            [
                row("joint", "val", 1.0),
                row("joint", "test", value),
                row("ncm", "test", 9, ece=None),
            ],
            seed=seed,
        )
        for seed, value in enumerate(values)
    ]
    rundir.open_run(runs[0]).add_rows([row("crt", "test", 60.0)])
    result = compare(runs, None, QUIET, as_json=True)
    assert result["split"] == "test"
    assert result["differ_in"] == []
    (together,) = result["configurations"]
    joint, crt, ncm = (together["methods"][method] for method in ("joint", "crt", "ncm"))
    assert joint["all_micro"]["mean"] == pytest.approx(np.mean(values))
    assert joint["all_micro"]["std"] == pytest.approx(np.std(values, ddof=1))
    assert joint["runs"] == 3
    assert crt["runs"] == 1
    assert crt["many"]["std"] is None
    assert ncm["ece"] is None
    on_val = compare(runs, "val", QUIET, as_json=False)["configurations"]
    assert on_val[0]["methods"].keys() == {"joint"}


def test_runs_of_other_configurations_stand_side_by_side_with_the_keys_that_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"optim": {"epochs": 2}, "sampler": "sqrt"}
    runs = [
        a_run(tmp_path / "a", [row("joint", "test", 50.0)]),
        a_run(tmp_path / "b", [row("joint", "test", 54.0)], seed=1),
        a_run(tmp_path / "c", [row("joint", "test", 10.0)], **short),
    ]
    result = compare(runs, None, Reporter(), as_json=False)
    assert result["differ_in"] == ["sampler", "optim.epochs"]
    first, second = result["configurations"]
    assert first["differs"] == {"sampler": "instance", "optim.epochs": 90}
    assert second["differs"] == {"sampler": "sqrt", "optim.epochs": 2}
    assert first["methods"]["joint"]["all_micro"]["mean"] == 52.0
    assert second["methods"]["joint"]["all_micro"]["values"] == [10.0]
    said = capsys.readouterr()
    assert "sampler=sqrt, optim.epochs=2" in said.out
    assert "the runs differ in sampler, optim.epochs" in said.err


def test_stage_2s_configuration_and_its_protocol_tell_runs_apart_too(tmp_path: Path) -> None:
    runs = [
        a_run(
            tmp_path / name,
            [row("crt", "test", 50.0), row("crt", "test", 40.0, protocol="official")],
        )
        for name in ("a", "b")
    ]
    changed = TrainConfig(classify={"views": 3})  # type: ignore[arg-type]
    rundir.open_run(runs[1]).with_config(changed).note_stage2()
    result = compare(runs, None, QUIET, as_json=True)
    assert result["differ_in"] == ["classify.views"]
    for of in result["configurations"]:
        assert of["methods"]["crt"]["all_micro"]["values"] == [50.0]
        assert of["methods"]["crt-official"]["all_micro"]["values"] == [40.0]


def test_the_table_is_on_the_screen_with_the_spread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [a_run(tmp_path / n, [row("joint", "test", v)]) for n, v in (("a", 50.0), ("b", 52.0))]
    compare(runs, None, Reporter(), as_json=False)
    said = capsys.readouterr().out
    assert "51.0 ± 1.4" in said
    assert "on test" in said


def test_runs_that_have_no_mean_are_refused(tmp_path: Path) -> None:
    one = a_run(tmp_path / "one", [row("joint", "test", 50.0)])
    other = a_run(tmp_path / "other", [row("joint", "test", 50.0)], digest="1" * 64)
    empty = a_run(tmp_path / "empty", [row("joint", "val", 50.0)])
    with pytest.raises(UserError, match="is of other shards than"):
        compare([one, other], None, QUIET, as_json=True)
    with pytest.raises(UserError, match="named twice"):
        compare([one, one], None, QUIET, as_json=True)
    with pytest.raises(UserError, match=r"empty: no numbers on test \(there: val\)"):
        compare([one, empty], None, QUIET, as_json=True)
