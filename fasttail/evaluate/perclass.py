"""per_class.csv of a run: a line for each class and split, a column for each method's accuracy."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fasttail.atomic import whole_path
from fasttail.config import ShotsConfig
from fasttail.errors import UserError
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
    lines, methods = read(path, len(classes.names))
    methods = list(dict.fromkeys([*methods, *accuracy_of]))
    groups = classes.groups()
    for c, name in enumerate(classes.names):
        line = lines.setdefault((split_name, c), {})
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


def read(path: Path, num_classes: int) -> tuple[dict[tuple[str, int], dict[str, str]], list[str]]:
    """The lines by (split, class), and the methods that have a column.

    Raises `UserError` if the file is there and a line is not as `update` writes them.
    """
    if not path.exists():
        return {}, []
    lines = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        try:
            methods = [name for name in reader.fieldnames or () if name not in FIXED]
            for line in reader:
                c = int(line["class"])
                counts = int(line["train_images"]), int(line["images"])
                for method in methods:
                    float(line[method] or "nan")
                if not (0 <= c < num_classes and min(counts) >= 0 and max(counts) < 2**63):
                    raise ValueError("no such class, or no such number of images")
                lines[line["split"], c] = line
        except (ValueError, TypeError, KeyError, csv.Error) as error:
            raise UserError(
                f"{path}: damaged: line {reader.line_num}: {error}; delete the file, and fasttail "
                "eval writes it again"
            ) from None
    return lines, methods
