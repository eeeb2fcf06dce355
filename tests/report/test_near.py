"""Near copies across splits, among photographs that a test makes."""

import json
from pathlib import Path

import numpy as np
import pytest
import smallsets
from photos import photo
from PIL import Image

from fasttail import datasets, shards
from fasttail.config import ConvertConfig
from fasttail.datasets.base import ArrayImages, Index, SplitIndex
from fasttail.report import near
from fasttail.report.inspect import Inspection, inspect, show
from fasttail.shards.convert import convert


def shifted(image: np.ndarray) -> np.ndarray:
    """The next frame of a video: a pixel to the side, a little brighter, a little noise."""
    noise = np.random.default_rng(0).integers(-4, 5, image.shape)
    return (np.roll(image, 1, axis=1).astype(np.int64) + 3 + noise).clip(0, 255).astype(np.uint8)


def smaller(image: np.ndarray) -> np.ndarray:
    """Its thumbnail, enlarged to its size."""
    small = Image.fromarray(image).resize((48, 36))
    return np.asarray(small.resize((image.shape[1], image.shape[0])))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train has 12 photos and a flat image; test 3 others, 4 near copies and another flat one."""
    photos = np.stack([photo(seed, 72, 96) for seed in range(15)])
    flat = np.full((1, 72, 96, 3), 120, np.uint8)
    test_NHWC = np.stack(
        [*photos[12:], photos[3], shifted(photos[5]), smaller(photos[7]), shifted(photos[9])]
    )
    images = {"train": [photos[:12], flat], "test": [test_NHWC, flat + 1]}
    splits = {
        name: SplitIndex(ArrayImages(np.concatenate(parts), name), np.zeros(len(parts[0]) + 1, int))
        for name, parts in images.items()
    }
    index = Index("photos", ("a",), splits, (0.5,) * 3, (0.2,) * 3)
    out = tmp_path_factory.mktemp("shards") / "photos"
    convert(index, out, ConvertConfig(jobs=1))
    return out


def test_frames_thumbnails_and_copies_are_found_and_nothing_else(folder: Path) -> None:
    found = near.find(shards.open(folder))
    assert found.across == {"train, test": 4}
    assert found.examples["train, test"] == [(3, 3), (5, 4), (7, 5), (9, 6)]
    assert found.looked_at == {"train": 12, "test": 7}, "what is flat shows nothing"


def test_of_a_large_split_some_are_looked_at_and_the_words_say_how_many(folder: Path) -> None:
    found = near.find(shards.open(folder), limit=5)
    assert found.looked_at["train"] <= 5
    assert found.across["train, test"] < 4
    told = str(near.find(shards.open(folder)))
    assert told == "4 of 7 images of test that were looked at look like one of 12 of train"


def test_a_hash_is_which_points_are_brighter_than_their_right_neighbours() -> None:
    grey_MHW = np.random.default_rng(0).uniform(0, 255, (3, 16, 18))
    for grey_HW, got in zip(grey_MHW, near.difference_hash(grey_MHW), strict=True):
        bits = [
            grey_HW[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].sum()
            > grey_HW[2 * r : 2 * r + 2, 2 * c + 2 : 2 * c + 4].sum()
            for r in range(8)
            for c in range(8)
        ]
        octets = [
            sum(bit << (7 - k) for k, bit in enumerate(bits[at : at + 8])) for at in range(0, 64, 8)
        ]
        assert int.from_bytes(bytes(octets), "little") == int(got)


def test_inspect_warns_and_names_the_option(folder: Path, capsys: pytest.CaptureFixture) -> None:
    show(folder, as_json=True, seconds=0.01)
    assert json.loads(capsys.readouterr().out)["near"]["across"] == {"train, test": 4}
    show(folder, as_json=False, seconds=0.01)
    text = " ".join(capsys.readouterr().out.split())
    assert "WARNING: 4 of 7 images of test" in text
    assert "--group-by" in text


def test_inspect_warns_of_files_in_series_unless_it_was_said_what_belongs_together(
    tmp_path: Path,
) -> None:
    for split, frames in (("train", range(5)), ("test", range(5, 8))):
        paths = [f"fish/dive_{dive}_{frame:05d}.png" for dive in range(4) for frame in frames]
        smallsets.write_images(tmp_path / "in" / split, paths)

    def made(name: str, **options: str) -> Inspection:
        cfg = ConvertConfig(jobs=1, val_fraction=0, **options)
        convert(datasets.index("folder", tmp_path / "in", cfg), tmp_path / name, cfg)
        return inspect(shards.open(tmp_path / name))

    (note,) = made("dives").notes
    assert "100% of test's images continue a numbered series" in note
    assert not made("grouped", group_by="[0-9]+.png").notes
