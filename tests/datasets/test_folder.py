import os
from pathlib import Path

import numpy as np
import pytest
import smallsets

from fasttail import datasets
from fasttail.config import ConvertConfig
from fasttail.datasets.base import Index
from fasttail.datasets.namelist import Names
from fasttail.errors import UserError


def folder(root: Path, **options: float) -> Index:
    return datasets.index("folder", root, ConvertConfig(**options))


def test_val_is_held_out_of_train_and_said_so(tmp_path: Path) -> None:
    index = folder(smallsets.folder(tmp_path), val_fraction=0.4)
    assert index.counts("train").tolist() == [4, 2, 1]
    assert index.counts("val").tolist() == [2, 2, 1]
    assert any("held out of train" in note and "follow train" in note for note in index.notes)


def test_a_val_that_is_there_is_used(tmp_path: Path) -> None:
    smallsets.folder(tmp_path)
    smallsets.write_images(tmp_path, ["valid/ant/v.jpg", "valid/cat/v.jpg"])
    index = folder(tmp_path)
    assert index.counts("train").tolist() == [6, 4, 2]
    assert index.counts("val").tolist() == [1, 0, 1]
    assert not index.notes


def test_classes_without_a_train_folder_are_all_train(tmp_path: Path) -> None:
    smallsets.write_images(tmp_path, [f"{c}/{i}.jpg" for c in "ab" for i in range(10)])
    index = folder(tmp_path)
    assert set(index.splits) == {"train", "val"}
    assert index.counts("train").tolist() == [9, 9]


def test_deeper_images_are_found_and_other_files_are_not(tmp_path: Path) -> None:
    smallsets.folder(tmp_path)
    smallsets.write_images(tmp_path, ["train/ant/deep/er/x.PNG", "train/ant/.hidden.jpg"])
    (tmp_path / "train/ant/notes.txt").write_text("no image")
    (tmp_path / "train/ant/loop").symlink_to(tmp_path / "train")
    index = folder(tmp_path, val_fraction=0)
    assert index.counts("train").tolist() == [7, 4, 2]


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    smallsets.folder(tmp_path)
    (tmp_path / "train/dodo").mkdir()
    with pytest.raises(UserError, match="train/dodo has no image"):
        folder(tmp_path)


def test_a_class_in_test_that_train_lacks_is_named(tmp_path: Path) -> None:
    smallsets.folder(tmp_path)
    smallsets.write_images(tmp_path, ["test/dodo/1.jpg"])
    with pytest.raises(UserError, match="test/dodo: train has no class 'dodo'"):
        folder(tmp_path)


def test_a_folder_without_classes_says_what_is_expected(tmp_path: Path) -> None:
    smallsets.write_images(tmp_path, ["1.jpg"])
    with pytest.raises(UserError, match="train/<class>/<image>"):
        folder(tmp_path)


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smallsets.folder(tmp_path)

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(UserError, match=r"Permission denied"):
        folder(tmp_path)


def test_names_that_are_not_unicode_survive(tmp_path: Path) -> None:
    smallsets.folder(tmp_path)
    (tmp_path / "train/ant").joinpath("\udce9t\udce9.jpg").write_bytes(smallsets.image_bytes(1))
    images = folder(tmp_path, val_fraction=0).splits["train"].images
    names = [images.name(i) for i in range(len(images))]
    assert "train/ant/\udce9t\udce9.jpg" in names
    assert images.read(names.index("train/ant/\udce9t\udce9.jpg"))


def test_names_are_picked_in_any_order_and_number() -> None:
    names = [f"{'x' * (i % 7)}{i}é" for i in range(70_000)]
    packed = Names.of(names)
    which = np.random.default_rng(0).integers(0, len(names), 140_000)
    picked = packed.pick(which)
    assert [picked[k] for k in range(0, 140_000, 999)] == [names[i] for i in which[::999]]
    assert list(packed[5:9]) == names[5:9]
    assert packed[-1] == names[-1]
    with pytest.raises(IndexError):
        _ = packed[70_000]


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines"])
def test_a_class_folder_whose_name_cannot_be_printed_is_named(tmp_path: Path, name: bytes) -> None:
    train = smallsets.folder(tmp_path) / "train"
    (train / "bee").rename(train / os.fsdecode(name))
    with pytest.raises(UserError, match="name that can't be printed: say its encoding"):
        folder(tmp_path)


def test_a_class_folder_in_another_encoding_is_read_when_it_is_named(tmp_path: Path) -> None:
    train = smallsets.folder(tmp_path) / "train"
    for split in ("train", "test"):
        (tmp_path / split / "bee").rename(tmp_path / split / os.fsdecode(b"F\xfcchse"))
    index = datasets.index("folder", tmp_path, ConvertConfig(encoding="latin-1"))
    assert "Füchse" in index.class_names
    images = index.splits["train"].images
    assert sum(images.name(i).startswith("train/F") for i in range(len(images))) > 1
    assert all(images.read(i) for i in range(len(images)))
    assert train.is_dir()


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_empty_split_is_named_before_train_is_converted(tmp_path: Path, split: str) -> None:
    smallsets.folder(tmp_path)
    (tmp_path / split).rename(tmp_path / "away") if split == "test" else None
    (tmp_path / split / "ant").mkdir(parents=True)
    with pytest.raises(UserError, match=f"{split} has no image: add images, or remove the folder"):
        folder(tmp_path)


def test_splits_are_found_whatever_their_capitals(tmp_path: Path) -> None:
    smallsets.folder(tmp_path)
    for name in ("train", "test"):
        (tmp_path / name).rename(tmp_path / name.capitalize())
    index = folder(tmp_path)
    assert index.class_names == ("ant", "bee", "cat")
    assert set(index.splits) == {"train", "val", "test"}
    smallsets.write_images(tmp_path, ["train/ant/1.jpg"])
    with pytest.raises(UserError, match="both called train's: rename one"):
        folder(tmp_path)
