"""tau_sweep.csv: accuracy over tau by shot group, as the paper draws it. How tau is chosen is in
`fasttail.classify.tau`.

    split, tau, many, medium, few, all_macro, all_micro, chosen       accuracies in percent
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fasttail.atomic import whole_path
from fasttail.classify.grid import predict_over_grid
from fasttail.classify.head import Head
from fasttail.classify.methods import first_head
from fasttail.classify.stage import Stage
from fasttail.classify.tau import normalize_weights, tau_grid
from fasttail.errors import UserError
from fasttail.evaluate.shots import GROUPS, Tally, summarize
from fasttail.protocol import named
from fasttail.rundir import Run

ACCURACIES = (*GROUPS, "all_macro", "all_micro")
COLUMNS = ("split", "tau", *ACCURACIES, "chosen")


@dataclass(frozen=True)
class Sweep:
    """The taus, the chosen one, and by split the accuracies over them, each under a name of
    `ACCURACIES`, in percent, float64 [T]; nan for a group without classes."""

    grid_T: np.ndarray
    chosen: float
    accuracy_T: dict[str, dict[str, np.ndarray]]


def write(head: Head, stage: Stage) -> None:
    """Writes the file for a tau head that was just made: every tau of the grid, and the chosen one,
    on every split but train."""
    config, train, joint = stage.config, stage.shards.split("train"), first_head(stage)
    assert joint is not None, "tau was made of it"
    grid = set(tau_grid(config.classify.tau).tolist())
    is_chosen = [
        tau for tau in grid if torch.equal(normalize_weights(joint.weight_CD, tau), head.weight_CD)
    ]
    chosen = min(is_chosen, default=config.classify.tau.fixed)
    grid_T = np.array(sorted(grid | {chosen}))
    lines = []
    for split_name in stage.shards.split_names:
        if split_name == "train":
            continue
        bank = stage.bank(split_name)
        labels_N = bank.labels.cpu().numpy()
        predicted_TN = predict_over_grid(joint.weight_CD, head.bias_C, bank, grid_T)
        for tau, predicted_N in zip(grid_T.tolist(), predicted_TN, strict=True):
            tally = Tally.of(predicted_N, labels_N, len(train.class_names))
            row = summarize(tally, train.counts_C, config.shots)
            values = ("" if row[name] is None else f"{row[name]:.4f}" for name in ACCURACIES)
            lines.append((split_name, f"{tau:.6g}", *values, "yes" if tau == chosen else ""))
    if stage.world.is_main:
        with (
            whole_path(path(stage.run, head.protocol)) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows([COLUMNS, *lines])


def path(run: Run, protocol: str) -> Path:
    """Where the sweep of a protocol's tau is."""
    return run.dir / f"{named('tau_sweep', protocol)}.csv"


def read(file: Path) -> Sweep | None:
    """The file; None if there is none. `UserError` if it is not as `write` writes it."""
    if not file.exists():
        return None
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            lines = list(csv.DictReader(opened, strict=True))
        splits = dict.fromkeys(line["split"] for line in lines)
        by_split = {split: [line for line in lines if line["split"] == split] for split in splits}
        grids = [[float(line["tau"]) for line in of] for of in by_split.values()]
        if any(grid != grids[0] for grid in grids[1:]):
            raise ValueError("its splits have other taus")
        chosen = next(float(line["tau"]) for line in lines if line["chosen"])
        accuracy_T = {
            split: {
                name: np.array([float(line[name] or "nan") for line in of]) for name in ACCURACIES
            }
            for split, of in by_split.items()
        }
    except (ValueError, TypeError, KeyError, StopIteration, csv.Error) as error:
        raise UserError(
            f"{file}: damaged: {type(error).__name__}: {error}; fasttail train --stage cls "
            f"--method tau --run {file.parent} writes it again"
        ) from None
    return Sweep(np.array(grids[0]), chosen, accuracy_T)
