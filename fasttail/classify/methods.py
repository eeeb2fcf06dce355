"""The methods by name, and running them on one run's features."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fasttail.classify.crt import crt
from fasttail.classify.features import Features, load_or_extract
from fasttail.classify.head import Head
from fasttail.classify.lws import lws
from fasttail.classify.ncm import ncm
from fasttail.classify.task import Task
from fasttail.classify.tau import tau
from fasttail.compute import Compute
from fasttail.console import Reporter
from fasttail.errors import unknown
from fasttail.evaluate.shots import Tally, summarize
from fasttail.models import Recognizer
from fasttail.rundir import Run
from fasttail.shards import Shards
from fasttail.world import World

METHODS: dict[str, Callable[[Task], Head]] = {"crt": crt, "lws": lws, "tau": tau, "ncm": ncm}


def names(method: str) -> list[str]:
    """The methods that `--method` asks for. `UserError` if there is none of that name."""
    if method == "all":
        return list(METHODS)
    if method not in METHODS:
        raise unknown("method", method, [*METHODS, "all"])
    return [method]


@dataclass(frozen=True)
class Stage:
    """What stage 2 works on: a run, its frozen model, its data, and where it computes."""

    run: Run
    model: Recognizer
    shards: Shards
    world: World
    compute: Compute
    reporter: Reporter

    def bank(self, split_name: str) -> Features:
        """The features of a split, extracted at the first asking."""
        return load_or_extract(
            self.run,
            self.model,
            self.shards,
            split_name,
            world=self.world,
            compute=self.compute,
            reporter=self.reporter,
        )


def make_heads(methods: Iterable[str], stage: Stage) -> list[Head]:
    """Makes the heads and keeps them in the run."""
    val = stage.bank("val") if "val" in stage.shards.split_names else None
    task = Task(stage.run.config, joint_head(stage.model), stage.bank("train"), val, stage.reporter)
    heads = [METHODS[method](task) for method in methods]
    if stage.world.is_main:
        for head in heads:
            head.save(stage.run.head_path(head.method))
    return heads


def saved_heads(stage: Stage) -> list[Head]:
    """The joint head and every head that is kept in the run, in the order of METHODS."""
    saved = [
        Head.load(stage.run.head_path(method)).to(stage.compute.device)
        for method in METHODS
        if stage.run.head_path(method).exists()
    ]
    return [joint_head(stage.model), *saved]


def score_heads(heads: Iterable[Head], stage: Stage, split_name: str) -> list[dict[str, Any]]:
    """The rows of metrics.json for these heads on a split."""
    bank = stage.bank(split_name)
    train_counts_C = stage.shards.split("train").counts_C
    return [_row(head, split_name, bank, train_counts_C, stage.run) for head in heads]


def score_everywhere(heads: Sequence[Head], stage: Stage) -> list[dict[str, Any]]:
    """The rows for these heads on every split but train."""
    return [
        row
        for split_name in stage.shards.split_names
        if split_name != "train"
        for row in score_heads(heads, stage, split_name)
    ]


def joint_head(model: Recognizer) -> Head:
    """Stage 1's own classifier."""
    classifier = model.classifier
    return Head("joint", classifier.weight.detach().clone(), classifier.bias.detach().clone())


def _row(
    head: Head, split_name: str, bank: Features, train_counts_C: np.ndarray, run: Run
) -> dict[str, Any]:
    predicted_N = predict(head, bank)
    labels_N = bank.labels_N.cpu().numpy()
    tally = Tally.of(predicted_N, labels_N, len(run.class_names))
    row: dict[str, Any] = {"method": head.method, "split": split_name}
    row.update(summarize(tally, train_counts_C, run.config.shots))
    row["worst_class"] = run.class_names[row["worst_class"]]
    row["note"] = head.note_for(split_name)
    return row


def predict(head: Head, bank: Features) -> np.ndarray:
    """The class of every sample, int64 [N]; in blocks, so that logits [N, C] never stand whole."""
    block = 16_384
    parts = [
        head.logits(bank.features_ND[start : start + block]).argmax(1).cpu().numpy()
        for start in range(0, len(bank.features_ND), block)
    ]
    return np.concatenate(parts)
