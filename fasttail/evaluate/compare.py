"""`fasttail compare`: several runs' numbers together, mean and spread of each method over seeds.

The runs are of one data set (their shards agree). Averaged are those of one configuration, which
differ in nothing but their seed; others stand side by side, by what they differ in. The spread is
the sample standard deviation (n - 1), None for a single run.
"""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fasttail import recipes, rundir
from fasttail.console import COLUMNS, Reporter
from fasttail.errors import UserError
from fasttail.protocol import named
from fasttail.rundir import Run

MEASURES = (
    "all_micro", "all_macro", "many", "medium", "few", "worst", "harmonic",
    "ece", "ece_many", "ece_medium", "ece_few",
)  # fmt: skip


def compare(
    run_dirs: Sequence[Path], split_name: str | None, reporter: Reporter, *, as_json: bool
) -> dict[str, Any]:
    """Shows, and returns, each method's mean and spread over the runs of one configuration, for
    each of the configurations there are, and the keys that these differ in.

    `split_name` is the split they are read on; None for test, or val where no run has test.
    `UserError` if a run is no run, is named twice, has no numbers on the split, or is of other
    shards: numbers of different images can't be compared.
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
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(_configuration(run)), []).append(run)
    configs = [json.loads(text) for text in groups]
    differ = list(dict.fromkeys(key for of in configs[1:] for key in _differ(configs[0], of)))
    result = {
        "split": split,
        "differ_in": differ,
        "configurations": [
            {
                "differs": {key: _value(config, key) for key in differ},
                "runs": [str(run.dir) for run in group],
                "methods": _methods(group, rows_of, split),
            }
            for config, group in zip(configs, groups.values(), strict=True)
        ],
    }
    if as_json:
        reporter.json(result)
    else:
        _show(result, runs[0].dataset, reporter)
    return result


def _configuration(run: Run) -> dict[str, Any]:
    """What a run's numbers depend on but for its seed: stage 2's configuration has stage 1's in it,
    where there was a stage 2."""
    stage2 = run.stage2()
    config = stage2["config"] if stage2 else run.config.model_dump(mode="json")
    return {key: value for key, value in config.items() if key != "seed"} | {"--init": run.init}


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return list(recipes.differences(one, other))


def _value(config: Mapping[str, Any], key: str) -> Any:
    """A dotted key's value; None where it is not there."""
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _methods(
    runs: Sequence[Run], rows_of: Mapping[Path, Sequence[dict[str, Any]]], split: str
) -> dict[str, Any]:
    """By a head's name, its numbers over the runs that have it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for row in rows_of[run.dir]:
            if row["split"] == split:
                found.setdefault(named(row["method"], row["protocol"]), []).append(row)
    return {name: _together(rows) for name, rows in found.items()}


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
    """One table for each configuration."""
    shown = ("many", "medium", "few", "all_micro")
    for of in result["configurations"]:
        runs = len(of["runs"])
        which = ", ".join(f"{key}={value}" for key, value in of["differs"].items())
        reporter.grid(
            ("method", *(COLUMNS[measure] for measure in shown)),
            [
                (
                    name if numbers["runs"] == runs else f"{name} ({numbers['runs']} runs)",
                    *(_cell(numbers[measure]) for measure in shown),
                )
                for name, numbers in of["methods"].items()
            ],
            f"{dataset}{which and ', '}{which}: accuracy in % on {result['split']}, "
            + (f"mean ± standard deviation of {runs} runs" if runs > 1 else of["runs"][0]),
            names=1,
        )
    if result["differ_in"]:
        reporter.say(
            f"the runs differ in {', '.join(result['differ_in'])}: averaged are those that differ "
            "in their seed alone"
        )


def _cell(spread: dict[str, Any] | None) -> str:
    if spread is None:
        return "-"
    tail = "" if spread["std"] is None else f" ± {spread['std']:.1f}"
    return f"{spread['mean']:.1f}{tail}"
