"""Everything that a report says of a run, gathered; what can't be had is said in a line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fasttail import recipes, rundir, shards
from fasttail.config import TrainConfig
from fasttail.errors import UserError
from fasttail.evaluate import perclass
from fasttail.evaluate.shots import group_masks
from fasttail.protocol import named, reported, settle
from fasttail.report import heads, log, worst
from fasttail.report.heads import Reliability, TauCurve
from fasttail.report.log import TrainingLog
from fasttail.report.worst import WorstClass
from fasttail.rundir import Run
from fasttail.shards import Shards

PER_CLASS = "per_class.csv"


@dataclass(frozen=True)
class Made:
    """How a stage was made, by run.json, stage2.json, or a start that log.jsonl notes."""

    what: str
    command: str
    facts: dict[str, str]

    @staticmethod
    def of(what: str, about: Mapping[str, Any], **more: str) -> "Made":
        """From a `rundir.provenance`, of whatever version."""
        facts = {
            key.replace("_", " "): str(value)
            for key, value in about.items()
            if value and key not in ("command", "packages")
        }
        packages = about.get("packages", {})
        facts["packages"] = ", ".join(f"{name} {of}" for name, of in packages.items() if of)
        return Made(what, about.get("command", ""), facts | more)


@dataclass
class RunView:
    """A run as its report shows it, C classes; what is empty could not be had, and `missing` says
    why. `split` is the one that figures are of: test where there is one.

    `accuracy` is each head's accuracy by class in percent, float64 [C], on that split; `norms`
    the lengths of each method's weights by class. All are in the order of labels; `order_C` sorts
    classes from the largest down.
    """

    run: Run
    config: TrainConfig
    rows: list[dict[str, Any]]
    log: TrainingLog
    made: list[Made]
    split: str | None
    counts_C: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    accuracy: dict[str, np.ndarray] = field(default_factory=dict)
    norms: dict[str, np.ndarray] = field(default_factory=dict)
    reliability: dict[str, Reliability] = field(default_factory=dict)
    tau: TauCurve | None = None
    worst: list[WorstClass] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def order_C(self) -> np.ndarray:
        return np.argsort(-self.counts_C, kind="stable")

    @property
    def groups(self) -> dict[str, np.ndarray]:
        return group_masks(self.counts_C, self.config.shots)


def collect(run_dir: Path) -> RunView:
    """Reads a run. `UserError` if there is none; whatever else is not there is noted."""
    run = rundir.open_run(run_dir)
    stage2 = run.stage2()
    config = recipes.check(stage2["config"], f"{run_dir}/stage2.json") if stage2 else run.config
    rows = run.rows()
    config = settle(config, {row["split"] for row in rows})
    training = log.read(run.log_path)
    view = RunView(
        run.with_config(config),
        config,
        rows,
        training,
        _made(run, training, stage2),
        reported(row["split"] for row in rows),
    )
    if not training.epoch_T.size and run.frozen is None:
        view.missing.append("no curves of training: log.jsonl has no line of it")
    with _noting(view):
        if rows:
            _add_accuracies(view)
    with _noting(view):
        opened = shards.open(run.shards_dir)
        if opened.digest != run.shards_digest:
            raise UserError(
                f"{run.shards_dir} holds other shards than those the run was started with: no "
                "calibration or pictures"
            )
        view.counts_C = np.asarray(opened.split("train").counts_C)
        _add_heads(view, opened)
    return view


@contextmanager
def _noting(view: RunView) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        view.missing.append(str(error))


def _made(run: Run, training: TrainingLog, stage2: Mapping[str, Any] | None) -> list[Made]:
    shards_facts = {"shards": str(run.shards_dir), "their digest": run.shards_digest}
    begun = "stage 1" if run.frozen is None else f"frozen backbone, {run.init}"
    made = [Made.of(begun, run.provenance, **shards_facts)]
    again = [start.get("provenance", {}) for start in training.starts[1:]]
    if again:
        made.append(Made.of("stage 1, resumed", again[-1], times=f"{len(again)}"))
    return [*made, Made.of("stage 2", stage2.get("provenance", {}))] if stage2 else made


def _add_accuracies(view: RunView) -> None:
    """From per_class.csv, which needs neither shards nor features."""
    path, classes = view.run.dir / PER_CLASS, len(view.run.class_names)
    if not path.is_file():
        view.missing.append(
            f"no accuracy by class: fasttail eval --run {view.run.dir} writes {PER_CLASS}"
        )
        return
    lines, _ = perclass.read(path, classes)
    methods = [
        named(row["method"], row["protocol"]) for row in view.rows if row["split"] == view.split
    ]
    view.counts_C = np.zeros(classes, np.int64)
    view.accuracy = {method: np.full(classes, np.nan) for method in methods}
    for (split, c), line in lines.items():
        if split != view.split:
            continue
        view.counts_C[c] = int(line["train_images"])
        for method, accuracy_C in view.accuracy.items():
            accuracy_C[c] = float(line.get(method) or "nan")


def _add_heads(view: RunView, opened: Shards) -> None:
    """What needs the model, and then what needs its features of the images too."""
    made = heads.load(view.run)
    view.norms = {
        head.name: head.weight_CD.norm(dim=1).numpy() for head in made if head.method != "ncm"
    }
    if len(made) == 1 and view.run.frozen is None:
        view.missing.append(
            f"no heads of stage 2 yet: fasttail train --stage cls --run {view.run.dir}"
        )
    with _noting(view):
        view.tau = heads.tau_curve(view.run, made)
    banks = heads.Banks(view.run, opened)
    if reported(opened.split_names) is None:
        raise UserError(f"{opened.dir} has neither val nor test: nothing is measured")
    if view.split is None:
        raise UserError(f"nothing is measured yet: fasttail eval --run {view.run.dir}")
    given = heads.answers_of(made, banks, view.split)
    if not given:
        raise UserError(
            f"no features of this model in {view.run.features_dir}: no calibration or "
            f"pictures; fasttail eval --run {view.run.dir} makes them"
        )
    split = opened.split(view.split)
    view.reliability = heads.reliabilities(given, np.asarray(split.labels_N))
    first = made[0].name
    if first in given and first in view.accuracy:
        view.worst = worst.worst(
            split, first, given[first].predicted_N, view.accuracy, view.counts_C, view.groups
        )
