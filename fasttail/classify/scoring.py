"""Heads on a split: the rows of metrics.json, and the classes' accuracies beside them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fasttail.classify.features import Features
from fasttail.classify.head import Head
from fasttail.classify.stage import Stage
from fasttail.evaluate.calibration import calibration
from fasttail.evaluate.perclass import ClassTable, update
from fasttail.evaluate.shots import Tally, summarize

BLOCK = 16_384

# NCM's logits are closeness to a mean: their softmax is nobody's estimate of a probability.
WITHOUT_PROBABILITIES = ("ncm",)


@dataclass(frozen=True)
class Answers:
    """The class that a head gives every row, int64 [N], and how sure it is: the highest
    probability of its softmax, float32 [N]."""

    predicted_N: np.ndarray
    confidence_N: np.ndarray


@torch.inference_mode()
def answers(head: Head, bank: Features) -> Answers:
    """In blocks, so that logits [N, C] never stand whole."""
    predicted, confidence = [], []
    for features_BD, _ in bank.blocks(BLOCK):
        logits_BC = head.logits(features_BD)
        highest_B, class_B = logits_BC.max(1)
        predicted.append(class_B.cpu().numpy())
        confidence.append((highest_B - logits_BC.logsumexp(1)).exp().cpu().numpy())
    return Answers(np.concatenate(predicted), np.concatenate(confidence))


def predict(head: Head, bank: Features) -> np.ndarray:
    """The class of every row, int64 [N]."""
    return answers(head, bank).predicted_N


def score_heads(heads: Iterable[Head], stage: Stage, split_name: str) -> list[dict[str, Any]]:
    """The rows of metrics.json for these heads on a split; each class's accuracy goes to the run's
    per_class.csv."""
    counts_C = stage.shards.split("train").counts_C
    names = stage.run.class_names
    rows, accuracies = [], {}
    images_C = stage.shards.split(split_name).counts_C
    for head in heads:
        bank = stage.bank(split_name, head)
        given, labels_N = answers(head, bank), bank.labels.cpu().numpy()
        tally = Tally.of(given.predicted_N, labels_N, len(names))
        shots = stage.config_by(head.protocol).shots
        row: dict[str, Any] = {
            "method": head.method,
            "split": split_name,
            "protocol": head.protocol,
        }
        row.update(summarize(tally, counts_C, shots))
        row["worst_class"] = names[row["worst_class"]]
        confidence_N = None if head.method in WITHOUT_PROBABILITIES else given.confidence_N
        row.update(calibration(confidence_N, given.predicted_N, labels_N, counts_C, shots))
        row["note"] = head.note_for(split_name)
        row["chosen_on"] = head.chosen_on
        rows.append(row)
        accuracies[head.name] = tally.accuracy_C
    if stage.world.is_main:
        classes = ClassTable(names, counts_C, stage.config.shots)
        update(stage.run.dir / "per_class.csv", classes, split_name, images_C, accuracies)
    return rows


def score_everywhere(heads: Sequence[Head], stage: Stage) -> list[dict[str, Any]]:
    """The rows for these heads on every split but train."""
    return [
        row
        for split_name in stage.shards.split_names
        if split_name != "train"
        for row in score_heads(heads, stage, split_name)
    ]
