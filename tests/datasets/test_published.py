"""Lists as they are published: sizes that are checked, and the ways images are unpacked."""

import gzip
from pathlib import Path

import pytest
import smallsets

from fasttail import datasets
from fasttail.config import ConvertConfig
from fasttail.errors import UserError

PARTIAL = ConvertConfig(allow_partial=True)


@pytest.mark.parametrize(
    ("name", "stem", "numbers"),
    [
        ("places-lt", "Places_LT_", r"3 classes, published 365.*train has 12 images.*62,500"),
        ("imagenet-lt", "ImageNet_LT_", r"1,000.*115,846.*val has 6 images, published 20,000"),
        ("inat2018", "iNaturalist18_", r"8,142.*437,513.*24,426.*1000 to 2"),
    ],
)
def test_another_size_than_published_stops_with_both_numbers(
    tmp_path: Path, name: str, stem: str, numbers: str
) -> None:
    smallsets.lists(tmp_path, stem, "train/")
    with pytest.raises(UserError, match=f"{numbers}.*--allow-partial"):
        datasets.index(name, tmp_path, ConvertConfig())
    index = datasets.index(name, tmp_path, PARTIAL)
    assert index.notes[-1].startswith("WARNING")
    assert index.class_names == ("ant", "bee", "cat")
    assert "val_fraction" not in str(index.notes), "a published split is not cut"
    assert len(index.splits["train"].labels_N) == 12


def move(root: Path, rename: dict[str, str]) -> None:
    for old, new in rename.items():
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)


@pytest.mark.parametrize("layout", ["train", "data_256", "bare", "by letter"])
def test_places_is_found_however_it_was_unpacked(tmp_path: Path, layout: str) -> None:
    smallsets.lists(tmp_path, "Places_LT_", "train/")
    new = {
        "train": None,
        "data_256": "data_256/{0}",
        "bare": "{0}",
        "by letter": "data_256/{1}/{0}",
    }
    if new[layout]:
        names = {f"train/{c}": new[layout].format(c, c[0]) for c in smallsets.COUNTS}
        move(tmp_path, names)
    images = datasets.index("places-lt", tmp_path, PARTIAL).splits["test"].images
    assert all(images.read(i) for i in range(len(images)))


def test_places_test_images_are_found_in_val_256(tmp_path: Path) -> None:
    smallsets.lists(tmp_path, "Places_LT_", "train/")
    names = [f"Places365_val_{i:08}.jpg" for i in range(3)]
    smallsets.write_images(tmp_path, [f"val_256/{name}" for name in names])
    lines = [f"val/{c}/{name} {i}\n" for i, (c, name) in enumerate(zip("abc", names, strict=True))]
    (tmp_path / "Places_LT_test.txt").write_text("".join(lines))
    splits = datasets.index("places-lt", tmp_path, PARTIAL).splits
    assert splits["test"].images.name(2) == f"val_256/{names[2]}"
    assert splits["train"].images.name(0).startswith("train/")


def test_imagenets_val_need_not_be_sorted_into_classes(tmp_path: Path) -> None:
    smallsets.lists(tmp_path, "ImageNet_LT_", "train/")
    lines = [f"val/{name}/ILSVRC_{i}.JPEG" for i, name in enumerate(smallsets.COUNTS)]
    smallsets.write_images(tmp_path, [f"val/ILSVRC_{i}.JPEG" for i in range(3)])
    text = "".join(f"{path} {label}\n" for label, path in enumerate(lines))
    (tmp_path / "ImageNet_LT_test.txt").write_text(text)
    images = datasets.index("imagenet-lt", tmp_path, PARTIAL).splits["test"].images
    assert images.name(2) == "val/ILSVRC_2.JPEG"


def test_lists_may_lie_elsewhere_compressed_and_among_others(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "images", tmp_path / "lists"
    root.mkdir()
    elsewhere.mkdir()
    smallsets.lists(root, "Places_LT_", "train/")
    for file in root.glob("*.txt"):
        (elsewhere / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    (elsewhere / "ImageNet_LT_val.txt").write_text("no image 0\n")
    cfg = ConvertConfig(allow_partial=True, lists=elsewhere)
    index = datasets.index("places-lt", root, cfg)
    assert set(index.splits) == {"train", "val", "test"}


def test_images_that_are_nowhere_are_said_to_be(tmp_path: Path) -> None:
    smallsets.lists(tmp_path)
    (tmp_path / "train.txt").write_text("away/1.jpg 0\naway/2.jpg 1\n")
    with pytest.raises(
        UserError, match=r"none of the images of .*train\.txt is there.*away/1\.jpg"
    ):
        datasets.index("list", tmp_path, ConvertConfig())


def test_a_label_that_train_lacks_is_named(tmp_path: Path) -> None:
    smallsets.lists(tmp_path)
    with (tmp_path / "test.txt").open("a") as file:
        file.write("ant/test0.jpg 3\n")
    with pytest.raises(UserError, match=r"test\.txt: image 7 has label 3"):
        datasets.index("list", tmp_path, ConvertConfig())


def test_a_class_without_an_image_in_train_is_named(tmp_path: Path) -> None:
    smallsets.lists(tmp_path, "Places_LT_", "train/")
    path = tmp_path / "Places_LT_train.txt"
    kept = [line for line in path.read_text().splitlines() if not line.endswith(" 1")]
    path.write_text("\n".join(kept))
    with pytest.raises(UserError, match="train has no image of 1 of 3 classes"):
        datasets.index("places-lt", tmp_path, ConvertConfig(allow_partial=True))
