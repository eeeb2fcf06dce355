"""`fasttail compare`: several runs' numbers together, mean and spread of each method over them.

The runs are of one data set (their shards agree); what they differ in, the seed say, is for whoever
asks. The spread is the sample standard deviation (n - 1), None for a single run.
"""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fasttail import rundir
from fasttail.console import COLUMNS, Reporter
from fasttail.errors import UserError
from fasttail.rundir import Run

MEASURES = (
    "all_micro", "all_macro", "many", "medium", "few", "worst", "harmonic",
    "ece", "ece_many", "ece_medium", "ece_few",
)  # fmt: skip


def compare(
    run_dirs: Sequence[Path], split_name: str | None, reporter: Reporter, *, as_json: bool
) -> dict[str, Any]:
    """Shows, and returns, each method's mean and spread over the runs that have it.

    `split_name` is the split they are read on; None for test, or val where no run has test.
    `UserError` if a run is no run, is named twice, has no numbers on the split, or is of other
    shards: numbers of different images can't be averaged.
    """
    runs = _open(run_dirs)
    rows_of = {run.dir: run.rows() for run in runs}
    there = [{row["split"] for row in rows} for rows in rows_of.values()]
    split = split_name or next((s for s in ("test", "val") if any(s in t for t in there)), "test")
    for run, splits in zip(runs, there, strict=True):
        if split not in splits:
            raise UserError(
                f"{run.dir}: no numbers on {split} (there: {', '.join(sorted(splits)) or 'none'}): "
                f"make them with fasttail eval --run {run.dir} --split {split}"
            )
    found: dict[str, list[dict[str, Any]]] = {}
    for rows in rows_of.values():
        for row in rows:
            if row["split"] == split:
                found.setdefault(row["method"], []).append(row)
    result = {
        "split": split,
        "runs": [str(run.dir) for run in runs],
        "methods": {method: _together(rows) for method, rows in found.items()},
    }
    if as_json:
        reporter.json(result)
    else:
        _show(result, runs[0].dataset, reporter)
    return result


def _open(run_dirs: Sequence[Path]) -> list[Run]:
    runs = [rundir.open_run(path) for path in run_dirs]
    if len({run.dir.resolve() for run in runs}) < len(runs):
        raise UserError("the same run is named twice: its numbers would count twice")
    for run in runs[1:]:
        if run.shards_digest != runs[0].shards_digest:
            raise UserError(
                f"{run.dir} is of other shards than {runs[0].dir}: their test images are not the "
                "same, so their numbers have no mean"
            )
    return runs


def _together(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One method's numbers: {"runs": n, measure: {"mean", "std", "values"}}."""
    found: dict[str, Any] = {"runs": len(rows), "notes": sorted({row["note"] for row in rows})}
    for measure in MEASURES:
        found[measure] = _spread(row.get(measure) for row in rows)
    return found


def _spread(values: Iterable[float | None]) -> dict[str, Any] | None:
    """None where a run has no such number, as that of an empty shot group."""
    numbers = list(values)
    if any(number is None for number in numbers):
        return None
    known = [number for number in numbers if number is not None]
    std = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "std": std, "values": known}


def _show(result: dict[str, Any], dataset: str, reporter: Reporter) -> None:
    shown, runs = ("many", "medium", "few", "all_micro"), len(result["runs"])
    reporter.grid(
        ("method", *(COLUMNS[measure] for measure in shown)),
        [
            (
                method if numbers["runs"] == runs else f"{method} ({numbers['runs']} runs)",
                *(_cell(numbers[measure]) for measure in shown),
            )
            for method, numbers in result["methods"].items()
        ],
        f"{dataset}: accuracy in % on {result['split']}, mean ± standard deviation of {runs} runs",
        names=1,
    )


def _cell(spread: dict[str, Any] | None) -> str:
    if spread is None:
        return "-"
    tail = "" if spread["std"] is None else f" ± {spread['std']:.1f}"
    return f"{spread['mean']:.1f}{tail}"
