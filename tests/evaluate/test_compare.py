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
    return {"method": method, "split": split, **dict.fromkeys(MEASURES, value), "note": "", **more}


def a_run(folder: Path, rows: list[dict[str, Any]], digest: str = "0" * 64) -> Path:
    run = rundir.create(
        folder,
        TrainConfig(),
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
        )
        for seed, value in enumerate(values)
    ]
    rundir.open_run(runs[0]).add_rows([row("crt", "test", 60.0)])
    result = compare(runs, None, QUIET, as_json=True)
    assert result["split"] == "test"
    joint, crt, ncm = (result["methods"][method] for method in ("joint", "crt", "ncm"))
    assert joint["all_micro"]["mean"] == pytest.approx(np.mean(values))
    assert joint["all_micro"]["std"] == pytest.approx(np.std(values, ddof=1))
    assert joint["runs"] == 3
    assert crt["runs"] == 1
    assert crt["many"]["std"] is None
    assert ncm["ece"] is None
    assert compare(runs, "val", QUIET, as_json=False)["methods"].keys() == {"joint"}


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
