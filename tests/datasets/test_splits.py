import re
from pathlib import Path

import numpy as np
import pytest
import smallsets

from fasttail import datasets
from fasttail.config import ConvertConfig
from fasttail.datasets.base import ArrayImages, FileImages, Index, SplitIndex
from fasttail.datasets.splits import SERIES, divide, hold_out, with_copies
from fasttail.errors import UserError
from fasttail.shards.convert import convert

VAL = (2, 0)


def labels_of(counts: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def names(index: Index, split: str) -> list[str]:
    images = index.splits[split].images
    return [images.name(i) for i in range(len(images))]


def folder(root: Path, **options: object) -> Index:
    return datasets.index("folder", root, ConvertConfig.model_validate(options))


def tracks(root: Path, classes: str = "ab", each: int = 12, frames: int = 5) -> Path:
    """Folders of videos' frames: `each` tracks of a class."""
    paths = [
        f"{name}/fish_{100 * c + t:04d}_{frame:05d}.jpg"
        for c, name in enumerate(classes)
        for t in range(each)
        for frame in range(frames)
    ]
    smallsets.write_images(root, paths)
    return root


def test_holding_out_leaves_every_class_an_image() -> None:
    labels_N = labels_of([1, 2, 10, 100])
    held_N = hold_out(labels_N, np.arange(113), 0.5, VAL)
    assert np.bincount(labels_N[held_N], minlength=4).tolist() == [0, 1, 5, 50]


def test_single_images_are_drawn_as_they_always_were() -> None:
    """A seed means the same val as in shards that were made before there were groups."""
    labels_N = np.array([0, 1] * 20 + [1] * 9)
    expected = [
        np.random.default_rng((2, 7, c)).permutation(np.flatnonzero(labels_N == c))[:n]
        for c, n in ((0, 5), (1, 7))
    ]
    held_N = hold_out(labels_N, np.arange(49), 0.25, (2, 7))
    assert np.flatnonzero(held_N).tolist() == sorted(np.concatenate(expected).tolist())


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_held_out_whole_and_near_the_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels_N = rng.permutation(labels_of([400, 90, 30, 12]))
    groups_N = rng.integers(0, 150, len(labels_N)) * 1000  # several classes in each
    held_N = hold_out(labels_N, groups_N, 0.2, (2, seed))
    assert not set(groups_N[held_N]) & set(groups_N[~held_N])
    share_C = np.bincount(labels_N[held_N], minlength=4) / np.bincount(labels_N)
    assert np.allclose(share_C, 0.2, atol=[0.02, 0.05, 0.1, 0.2])
    assert set(labels_N[~held_N]) == set(range(4))


def test_a_class_of_large_groups_gives_its_smallest_one_up_if_most_stays() -> None:
    labels_N = labels_of([40, 40, 40])
    groups_N = np.repeat(np.arange(9), [15, 15, 10, 20, 20, 0, 40, 0, 0])
    held_N = hold_out(labels_N, groups_N, 0.1, VAL)
    assert np.bincount(labels_N[held_N], minlength=3).tolist() == [10, 20, 0]
    assert set(groups_N[held_N][:10]) == {2}


def test_copies_are_one_group_and_images_of_one_size_are_not(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    pixels[4] = pixels[1]
    pixels[5] = pixels[0]
    pixels[5, 0, 0, 0] ^= 1  # the piece from the middle is the same
    groups_N = with_copies(ArrayImages(pixels, "x"), np.full(6, 4800), np.array([0, 1, 2, 3, 4, 3]))
    assert groups_N.tolist() == [0, 1, 2, 3, 1, 3]
    files = [f"{i}.bin" for i in range(6)]
    for i, file in enumerate(files):
        (tmp_path / file).write_bytes(pixels[i].tobytes())
    (tmp_path / "6.bin").symlink_to(tmp_path / "gone")
    images = FileImages(tmp_path, (*files, "6.bin"))
    sizes_N = images.facts().bytes_N
    assert with_copies(images, sizes_N, np.arange(7)).tolist() == [0, 1, 2, 3, 1, 5, 6]


def test_no_image_is_asked_twice_for_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smallsets.write_images(tmp_path / "in", [f"{c}/{i}.jpg" for c in "ab" for i in range(9)])
    looked_up, facts = [], FileImages.facts

    def watched(images: FileImages) -> object:
        looked_up.extend(images.paths)
        return facts(images)

    monkeypatch.setattr(FileImages, "facts", watched)
    cfg = ConvertConfig(val_fraction=0.2, jobs=1)
    convert(datasets.index("folder", tmp_path / "in", cfg), tmp_path / "out", cfg)
    assert len(looked_up) == len(set(looked_up)) == 18


def test_copies_of_one_image_are_never_in_two_splits(tmp_path: Path) -> None:
    smallsets.write_images(tmp_path, [f"{c}/{i}.jpg" for c in "ab" for i in range(20)])
    for i in range(20):
        (tmp_path / f"a/copy{i}.jpg").write_bytes((tmp_path / f"a/{i}.jpg").read_bytes())
    for seed in range(3):
        index = folder(tmp_path, val_fraction=0.3, test_fraction=0.2, seed=seed)
        assert len(names(index, "val")) > 8
        assert len(names(index, "test")) > 6
        seen = {
            split: {name.replace("copy", "") for name in names(index, split)}
            for split in index.splits
        }
        for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
            assert not seen[a] & seen[b]


def test_groups_by_the_path_never_straddle(tmp_path: Path) -> None:
    pattern = r"(fish_\d+)_"
    index = folder(tracks(tmp_path), group_by=pattern, val_fraction=0.2, test_fraction=0.2)
    of = {
        split: {re.findall(pattern, name)[0] for name in names(index, split)}
        for split in index.splits
    }
    assert {split: len(found) for split, found in of.items()} == {"train": 16, "val": 4, "test": 4}
    assert len(set().union(*of.values())) == 24
    assert not any("WARNING" in note for note in index.notes)


def test_the_whole_match_is_the_group_where_nothing_is_captured(tmp_path: Path) -> None:
    index = folder(tracks(tmp_path), group_by=r"fish_\d+", val_fraction=0.25)
    assert all(len(names(index, split)) % 5 == 0 for split in index.splits)


def test_a_path_without_a_group_is_named(tmp_path: Path) -> None:
    smallsets.write_images(tracks(tmp_path), ["a/other.jpg"])
    with pytest.raises(UserError, match=r"--group-by .* finds nothing in 'a/other.jpg'"):
        folder(tmp_path, group_by=r"fish_\d+")


def test_groups_in_two_splits_of_the_source_are_refused(tmp_path: Path) -> None:
    smallsets.write_images(
        tmp_path, [f"train/{c}/fish_1{c}_{i}.jpg" for c in "12" for i in range(3)]
    )
    smallsets.write_images(tmp_path, ["test/1/fish_11_9.jpg", "test/1/fish_31_9.jpg"])
    with pytest.raises(UserError, match=r"1 images of test .* train has .*fish_11_9.jpg.*held out"):
        folder(tmp_path, group_by=r"fish_\d+")


def test_series_of_files_in_train_and_val_are_warned_of(tmp_path: Path) -> None:
    index = folder(tracks(tmp_path), val_fraction=0.2)
    warning = next(note for note in index.notes if note.startswith("WARNING"))
    assert "100% of val's images continue" in warning
    assert SERIES in warning
    grouped = folder(tmp_path, val_fraction=0.2, group_by=SERIES)
    assert not any(note.startswith("WARNING") for note in grouped.notes)


@pytest.mark.parametrize(
    "paths",
    [
        [f"{c}/IMG_{i:04d}.jpg" for c in "ab" for i in range(30)],
        [f"{c}/n0144{c}_{i}.jpg" for c in "12" for i in range(30)],
        [f"{i % 2}/{np.random.default_rng(i).bytes(8).hex()}.jpg" for i in range(60)],
        [f"{c}/{i}.jpg" for c in "ab" for i in range(30)],
    ],
    ids=["a camera's numbers", "a class's numbers", "digests", "numbers"],
)
def test_numbered_files_are_no_series_by_themselves(paths: list[str], tmp_path: Path) -> None:
    smallsets.write_images(tmp_path, paths)
    assert not any("WARNING" in note for note in folder(tmp_path, val_fraction=0.2).notes)


def test_frames_in_both_splits_make_val_look_easy() -> None:
    """What groups are for: the nearest neighbour of a frame is the next frame."""
    rng = np.random.default_rng(0)
    tracks, frames, classes = 60, 8, 3
    label_T = np.arange(tracks) % classes
    centre_TD = rng.normal(size=(tracks, 16)) + 0.4 * np.eye(classes, 16)[label_T]
    features_ND = np.repeat(centre_TD, frames, 0) + 0.1 * rng.normal(size=(tracks * frames, 16))
    labels_N, track_N = np.repeat(label_T, frames), np.repeat(np.arange(tracks), frames)

    def accuracy(groups_N: np.ndarray) -> float:
        held_N = hold_out(labels_N, groups_N, 0.25, VAL)
        away = ((features_ND[held_N, None] - features_ND[~held_N]) ** 2).sum(-1)
        return float((labels_N[~held_N][away.argmin(1)] == labels_N[held_N]).mean())

    assert accuracy(np.arange(len(labels_N))) > 0.95
    assert accuracy(track_N) < 0.6


def test_a_table_may_have_a_column_of_groups(tmp_path: Path) -> None:
    rows = [(f"{c}/{p}_{i}.jpg", c, f"patient {p}") for c in "ab" for p in range(8) for i in "xyz"]
    smallsets.write_images(tmp_path, [path for path, *_ in rows])
    lines = ["path,label,patient", *(",".join(row) for row in rows)]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    cfg = ConvertConfig(group_column="patient", val_fraction=0.25)
    index = datasets.index("csv", tmp_path, cfg)
    patients = {
        split: {name.split("/")[1].split("_")[0] for name in names(index, split)}
        for split in ("train", "val")
    }
    assert len(patients["val"]) >= 2
    assert not patients["train"] & patients["val"]
    with pytest.raises(UserError, match="no column 'camera'"):
        datasets.index("csv", tmp_path, ConvertConfig(group_column="camera"))
    with pytest.raises(UserError, match="not both"):
        datasets.index("csv", tmp_path, ConvertConfig(group_column="patient", group_by="x"))
    with pytest.raises(UserError, match="only csv and parquet have columns"):
        folder(tracks(tmp_path / "other"), group_column="patient")


def test_the_shards_say_how_they_were_split(tmp_path: Path) -> None:
    cfg = ConvertConfig(group_by=r"fish_\d+", test_fraction=0.2, jobs=1)
    shards = convert(datasets.index("folder", tracks(tmp_path / "in"), cfg), tmp_path / "out", cfg)
    assert shards.meta.made["group_by"] == r"fish_\d+"
    assert shards.meta.made["test_fraction"] == 0.2


def test_fractions_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave train nothing"):
        folder(tracks(tmp_path), val_fraction=0.5, test_fraction=0.5)
    with pytest.raises(ValueError, match="no regular expression"):
        ConvertConfig(group_by="(")


def test_a_fraction_of_a_split_that_is_there_is_told() -> None:
    images = ArrayImages(np.zeros((4, 2, 2, 3), np.uint8), "x")
    split = SplitIndex(images, np.array([0, 0, 1, 1]))
    index = Index("x", ("a", "b"), {"train": split, "val": split}, None, None)
    divided = divide(index, ConvertConfig(val_fraction=0.5))
    assert divided.notes == ("val: the source has one, so --val-fraction holds nothing out",)
