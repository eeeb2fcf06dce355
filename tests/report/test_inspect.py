import json
from pathlib import Path

import numpy as np
import pytest

from fasttail import shards
from fasttail.config import ConvertConfig
from fasttail.datasets.base import ArrayImages, Index, SplitIndex
from fasttail.report.inspect import inspect, show
from fasttail.shards.convert import convert

COUNTS = (120, 60, 12, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images above 64 px, so that they are JPEGs but for the tail that the budget keeps raw."""
    labels_N = np.repeat(np.arange(len(COUNTS)), COUNTS)
    images = np.random.default_rng(0).integers(0, 255, (len(labels_N), 70, 80, 3), dtype=np.uint8)
    names = ("oak", "elm", "ash", "[yew]")
    split = SplitIndex(ArrayImages(images, "trees"), labels_N)
    index = Index("trees", names, {"train": split}, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    out = tmp_path_factory.mktemp("shards") / "trees"
    convert(index, out, ConvertConfig(jobs=1, raw_budget="5%"))
    return out


def test_the_shares_of_draws_are_those_counted_by_hand(folder: Path) -> None:
    found = inspect(shards.open(folder))
    # 5% of 195 images: the 3 of [yew] and 6 of the 12 of ash
    assert found.stored["train"]["raw"] == 9
    assert found.raw_draws["class"] == pytest.approx((1 + 6 / 12) / 4)
    weights = np.sqrt(COUNTS)
    assert found.raw_draws["sqrt"] == pytest.approx(
        (weights[3] + weights[2] * 6 / 12) / weights.sum()
    )
    assert found.raw_budget_draws["5%"] == found.raw_draws
    assert found.raw_budget_draws["30%"]["class"] > found.raw_draws["class"]


def test_classes_and_shot_groups_are_told(folder: Path, capsys: pytest.CaptureFixture) -> None:
    show(folder, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["imbalance_factor"] == 40
    assert told["shot_groups"]["many"] == {"classes": 1, "images": 120}
    assert told["shot_groups"]["few"] == {"classes": 2, "images": 15}
    assert told["median_hw"] == [70, 80]
    show(folder, as_json=False)
    text = capsys.readouterr().out
    assert "[yew] 3" in text, "a class's name is no markup"
    assert "--raw-budget 10%" in text
