import csv
from pathlib import Path

import numpy as np
import pytest

from fasttail.config import ShotsConfig
from fasttail.evaluate.perclass import ClassTable, update

CLASSES = ClassTable(("a, b", 'c"d', "é"), np.array([500, 50, 5]), ShotsConfig())


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_methods_and_splits_come_together_in_one_table(tmp_path: Path) -> None:
    path = tmp_path / "per_class.csv"
    update(path, CLASSES, "val", np.array([2, 2, 0]), {"joint": np.array([1, 0.5, np.nan])})
    update(path, CLASSES, "test", np.array([4, 4, 4]), {"joint": np.array([1, 0.5, 0])})
    update(path, CLASSES, "test", np.array([4, 4, 4]), {"crt": np.array([0.75, 0.5, 0.25])})
    update(path, CLASSES, "test", np.array([4, 4, 4]), {"joint": np.array([0.75, 0.5, 0])})
    table = lines(path)
    assert [(line["split"], line["name"]) for line in table] == [
        (split, name) for split in ("val", "test") for name in CLASSES.names
    ]
    assert [line["shot_group"] for line in table[:3]] == ["many", "medium", "few"]
    assert [line["train_images"] for line in table[:3]] == ["500", "50", "5"]
    assert table[2]["joint"] == ""
    assert [line["crt"] for line in table[:3]] == ["", "", ""]
    assert [float(line["joint"]) for line in table[3:]] == pytest.approx([75, 50, 0])
    assert [float(line["crt"]) for line in table[3:]] == pytest.approx([75, 50, 25])
