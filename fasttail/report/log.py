"""log.jsonl as curves."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fasttail.records import Count, Form, Provenance, fits

MOST_POINTS = 400  # of a curve: a longer one is averaged


@dataclass(frozen=True)
class TrainingLog:
    """What a training wrote as it went. T lines of training, V validations.

    `epoch_T` and `val_epoch_V` are epochs that were done, with fractions; `train` has "lr", "loss",
    "images_per_s" (one process's) and "waiting_share" (0..1), float64 [T] each; `val` has
    "all_micro" and "all_macro" in percent, [V]. `starts` are the lines of kind "start".
    """

    epoch_T: np.ndarray
    train: dict[str, np.ndarray]
    val_epoch_V: np.ndarray
    val: dict[str, np.ndarray]
    starts: list[dict[str, Any]] = field(default_factory=list)


class _Line(Form):
    kind: str


class _Start(Form):
    provenance: Provenance = Provenance()


class _Train(Form):
    epoch: Count
    global_step: Count
    lr: float = np.nan
    loss: float = np.nan
    images_per_s: float = np.nan
    waiting_share: float = np.nan


class _Val(Form):
    epoch: Count
    all_micro: float
    all_macro: float


# What is read of the log, by the lines' `kind`.
_FORMS: dict[str, type[Form]] = {"start": _Start, "train": _Train, "val": _Val}


def read(path: Path) -> TrainingLog:
    """Reads a log; what was done again after a kill counts once, a line that is cut short
    or damaged not at all."""
    train: list[dict[str, Any]] = []
    val: list[dict[str, Any]] = []
    starts: list[dict[str, Any]] = []
    for line in _lines(path):
        if line["kind"] == "start":
            starts.append(line)
        elif line["kind"] == "train":
            while train and train[-1]["global_step"] >= line["global_step"]:
                train.pop()
            train.append(line)
        elif line["kind"] == "val":
            while val and val[-1]["epoch"] >= line["epoch"]:
                val.pop()
            val.append(line)
    # The last line of an epoch is of its last step.
    steps_per_epoch = max(
        ((row["global_step"] + 1) / (row["epoch"] + 1) for row in train), default=1
    )
    return TrainingLog(
        _averaged([(row["global_step"] + 1) / steps_per_epoch for row in train]),
        {
            name: _averaged([row.get(name, np.nan) for row in train])
            for name in ("lr", "loss", "images_per_s", "waiting_share")
        },
        np.array([row["epoch"] + 1 for row in val]),
        {name: np.array([row[name] for row in val]) for name in ("all_micro", "all_macro")},
        starts,
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        form = _FORMS.get(value["kind"]) if fits(value, _Line) else None
        if form is not None and fits(value, form):
            found.append(value)
    return found


def _averaged(values: list[float]) -> np.ndarray:
    """At most `MOST_POINTS` means of neighbours."""
    array = np.asarray(values, np.float64)
    if len(array) <= MOST_POINTS:
        return array
    return np.array([part.mean() for part in np.array_split(array, MOST_POINTS)])
