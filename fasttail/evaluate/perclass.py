"""per_class.csv of a run: a line for each class and split, a column for each method's accuracy."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fasttail.atomic import whole_path
from fasttail.config import ShotsConfig
from fasttail.evaluate.shots import group_masks

FIXED = ("split", "class", "name", "train_images", "shot_group", "images")


@dataclass(frozen=True)
class ClassTable:
    """What is known of the classes before any of them is predicted."""

    names: Sequence[str]
    train_counts_C: np.ndarray
    shots: ShotsConfig

    def groups(self) -> list[str]:
        """Each class's shot group."""
        masks = group_masks(self.train_counts_C, self.shots)
        return [
            next(group for group, members_C in masks.items() if members_C[c])
            for c in range(len(self.names))
        ]


def update(
    path: Path,
    classes: ClassTable,
    split_name: str,
    images_C: np.ndarray,
    accuracy_of: Mapping[str, np.ndarray],
) -> None:
    """Puts methods' accuracies per class (0..1, float64 [C], nan where the split has no image) on a
    split into the file, in percent; what it says of other splits and methods stays."""
    lines, methods = _read(path)
    methods = list(dict.fromkeys([*methods, *accuracy_of]))
    groups = classes.groups()
    for c, name in enumerate(classes.names):
        line = lines.setdefault((split_name, str(c)), {})
        line.update(
            zip(
                FIXED,
                (split_name, str(c), name, str(classes.train_counts_C[c]), groups[c],
                 str(images_C[c])),
                strict=True,
            )
        )  # fmt: skip
        for method, accuracy_C in accuracy_of.items():
            value = float(accuracy_C[c])
            line[method] = "" if math.isnan(value) else f"{100 * value:.4f}"
    with whole_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*FIXED, *methods], restval="")
        writer.writeheader()
        writer.writerows(lines.values())


def _read(path: Path) -> tuple[dict[tuple[str, str], dict[str, str]], list[str]]:
    """The lines by (split, class), and the methods that have a column."""
    if not path.exists():
        return {}, []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        lines = {(line["split"], line["class"]): line for line in reader}
        return lines, [name for name in reader.fieldnames or () if name not in FIXED]
