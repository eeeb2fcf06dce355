import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fasttail import shards
from fasttail.config import ConvertConfig
from fasttail.datasets.base import ArrayImages, Index, SplitIndex
from fasttail.report import duplicates, measure
from fasttail.report.inspect import inspect, show
from fasttail.shards.convert import convert

COUNTS = (120, 60, 12, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images above 64 px, so that they are JPEGs; some of the tail is kept decoded."""
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
    assert found.cached["images"] == 9
    assert found.decoded_draws["class"] == pytest.approx((1 + 6 / 12) / 4)
    weights = np.sqrt(COUNTS)
    assert found.decoded_draws["sqrt"] == pytest.approx(
        (weights[3] + weights[2] * 6 / 12) / weights.sum()
    )
    assert found.budget_draws["5%"] == found.decoded_draws
    assert found.budget_draws["30%"]["class"] > found.decoded_draws["class"]
    assert 0 < found.seek_share < 0.02


def test_classes_and_shot_groups_are_told(folder: Path, capsys: pytest.CaptureFixture) -> None:
    show(folder, as_json=True, seconds=0.01)
    told = json.loads(capsys.readouterr().out)
    assert told["imbalance_factor"] == 40
    assert told["shot_groups"]["many"] == {"classes": 1, "images": 120}
    assert told["shot_groups"]["few"] == {"classes": 2, "images": 15}
    assert told["median_hw"] == [70, 80]
    show(folder, as_json=False, seconds=0.01)
    text = capsys.readouterr().out
    assert "[yew] 3" in text, "a class's name is no markup"
    assert "--raw-budget 10%" in text


def test_the_sizes_and_the_classes_that_are_too_small_are_told(folder: Path) -> None:
    found = inspect(shards.open(folder))
    assert found.longer_side_px == {"5%": 80, "50%": 80, "95%": 80}
    assert found.too_small == {"[yew]": 3}
    assert found.absent == {}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of which some are in train twice, in test too, and of another class there."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (30, 20, 24, 3), dtype=np.uint8)
    train_images = images[[*range(20), 3, 3]]
    test_images = np.concatenate([images[20:], images[[5, 6, 7]], images[[20]]])
    train = SplitIndex(ArrayImages(train_images, "a"), np.r_[np.zeros(10), np.ones(12)].astype(int))
    test = SplitIndex(ArrayImages(test_images, "b"), np.r_[np.ones(10), 0, 0, 1, 1].astype(int))
    index = Index("copied", ("a", "b"), {"train": train, "test": test}, (0.5,) * 3, (0.2,) * 3)
    out = tmp_path_factory.mktemp("shards") / "copied"
    convert(index, out, ConvertConfig(jobs=1))
    return out


def test_copies_are_those_that_comparing_every_pair_finds(copied: Path) -> None:
    opened = shards.open(copied)
    found = duplicates.find(opened)
    content = {
        name: [opened.split(name).bytes(i).tobytes() for i in range(len(opened.split(name)))]
        for name in ("train", "test")
    }
    assert found.within == {
        name: len(images) - len(set(images)) for name, images in content.items()
    }
    assert found.within == {"train": 2, "test": 1}
    in_train = sum(image in set(content["train"]) for image in content["test"])
    assert found.across == {"train, test": in_train} == {"train, test": 3}
    assert found.conflicting == 2, "image 3 is of both classes in train, image 7 in test"
    assert {(copy.split, copy.sample) for copy in found.examples[0]} == {("train", 7), ("test", 12)}


def test_the_same_bytes_at_another_height_are_no_copy(tmp_path: Path) -> None:
    pixels = np.zeros((2, 10, 12, 3), np.uint8)
    splits = {
        "train": SplitIndex(ArrayImages(pixels[:1], "a"), np.zeros(1, int)),
        "test": SplitIndex(ArrayImages(pixels[1:].reshape(1, 12, 10, 3), "b"), np.zeros(1, int)),
    }
    index = Index("turned", ("a",), splits, (0.5,) * 3, (0.2,) * 3)
    convert(index, tmp_path / "turned", ConvertConfig(jobs=1))
    found = duplicates.find(shards.open(tmp_path / "turned"))
    assert found.across == {"train, test": 0}
    assert found.examples == []


def test_leakage_is_named_in_words(copied: Path, capsys: pytest.CaptureFixture) -> None:
    show(copied, as_json=False, seconds=0.01)
    text = " ".join(capsys.readouterr().out.split())
    assert "3 images of test are in train too" in text
    assert "2 within train, 1 within test" in text
    assert "2 groups of copies are of several classes" in text


def test_an_epochs_time_is_scaled_from_what_was_measured(folder: Path) -> None:
    found = measure.epoch_time(shards.open(folder), seconds=0.05)
    assert found.images >= 195
    assert found.seconds >= 0.05
    assert found.epoch_images == 195
    assert found.epoch_s == pytest.approx(195 * found.seconds / found.images)
    assert found.engine in str(found)
    assert f"{found.images:,} images" in str(found)


def test_what_can_be_said_without_the_images_is_said_without_them(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    there = shutil.copytree(copied, tmp_path / "copied")
    (there / "test-00000.beton").unlink()
    show(there, as_json=False, seconds=0.01)
    captured = capsys.readouterr()
    assert "train 22, test 14" in captured.out
    assert "images/s" in captured.out
    assert "exact copies" not in captured.out
    assert "test-00000.beton" in captured.err
