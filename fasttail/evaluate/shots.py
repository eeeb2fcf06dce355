"""Accuracy over all classes and over many-, medium- and few-shot classes.

Shot groups go by the training images of a class (Liu et al., OLTR, CVPR 2019, section 4.1; Kang et
al. 2020, section 5.1): many > 100, medium 20 to 100, few < 20. A group's accuracy is the mean over
its classes of the class's accuracy, as in the authors' `shot_acc`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fasttail.config import ShotsConfig

GROUPS = ("many", "medium", "few")


@dataclass(frozen=True)
class Tally:
    """Right answers and images per class, int64 [C] each: all that accuracy is made of, and what
    processes add up when they share a split."""

    correct_C: np.ndarray
    images_C: np.ndarray

    @staticmethod
    def of(predicted_N: np.ndarray, labels_N: np.ndarray, num_classes: int) -> "Tally":
        """Counts predictions int [N] against labels int [N]."""
        hits = labels_N[predicted_N == labels_N]
        return Tally(
            np.bincount(hits, minlength=num_classes).astype(np.int64),
            np.bincount(labels_N, minlength=num_classes).astype(np.int64),
        )

    @property
    def accuracy_C(self) -> np.ndarray:
        """Accuracy per class in 0..1, float64 [C]; nan where the split has no image of a class."""
        accuracy_C = np.full(len(self.images_C), np.nan)
        np.divide(self.correct_C, self.images_C, out=accuracy_C, where=self.images_C > 0)
        return accuracy_C


def group_masks(train_counts_C: np.ndarray, shots: ShotsConfig) -> dict[str, np.ndarray]:
    """Which classes are many-, medium- and few-shot: bool [C] each, one true per class."""
    many_C = train_counts_C > shots.many_above
    few_C = train_counts_C < shots.few_below
    return {"many": many_C, "medium": ~many_C & ~few_C, "few": few_C}


def summarize(tally: Tally, train_counts_C: np.ndarray, shots: ShotsConfig) -> dict[str, Any]:
    """The numbers of one row of a results table, in percent.

    `all_micro` is over images, `all_macro` the mean over classes; on a balanced split they agree.
    `many`, `medium`, `few` are means over classes; None for a group no class of which has an image
    in the split, or 0 where `shots.empty` asks for it, as the authors' code has it. `worst` is the
    least accurate class's accuracy, `worst_class` its number. `harmonic` is the harmonic mean over
    classes of their accuracies: 0 if there is a class of which nothing is right.
    """
    accuracy_C = tally.accuracy_C
    seen_C = tally.images_C > 0
    if not seen_C.any():
        raise ValueError("a tally over no image has no accuracy")
    row: dict[str, Any] = {
        "all_micro": 100 * float(tally.correct_C.sum() / tally.images_C.sum()),
        "all_macro": 100 * float(accuracy_C[seen_C].mean()),
    }
    for group, members_C in group_masks(train_counts_C, shots).items():
        counted_C = members_C & seen_C
        empty = 0.0 if shots.empty == "zero" else None
        row[group] = 100 * float(accuracy_C[counted_C].mean()) if counted_C.any() else empty
    worst = int(np.nanargmin(accuracy_C))
    row["worst"] = 100 * float(accuracy_C[worst])
    row["worst_class"] = worst
    row["harmonic"] = 100 * _harmonic_mean(accuracy_C[seen_C])
    row["images"] = int(tally.images_C.sum())
    return row


def _harmonic_mean(values: np.ndarray) -> float:
    """n / sum(1 / x); 0, its limit, if a value is 0."""
    return float(len(values) / (1 / values).sum()) if values.all() else 0.0
