"""What holds for every data set: one contract, one small source each."""

from pathlib import Path

import numpy as np
import pytest
import smallsets

from fasttail import datasets
from fasttail.config import ConvertConfig
from fasttail.datasets.base import Index
from fasttail.errors import UserError

SOURCES = {
    "digits": lambda root: None,
    "folder": smallsets.folder,
    "cifar10-lt": smallsets.cifar10,
    "cifar100-lt": smallsets.cifar100,
    "imagenet-lt": lambda root: smallsets.lists(root, "ImageNet_LT_", "train/"),
    "places-lt": lambda root: smallsets.lists(root, "Places_LT_", "train/"),
    "inat2018": smallsets.inat,
    "list": smallsets.lists,
    "csv": lambda root: smallsets.table(root, "csv"),
    "parquet": lambda root: smallsets.table(root, "parquet"),
    "webdataset": smallsets.tars,
}
CFG = ConvertConfig(allow_partial=True, imbalance=5, val_fraction=0.25)


@pytest.fixture(params=SOURCES)
def found(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path | None, Index]:
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="the parquet extra")
    source = SOURCES[request.param](tmp_path)
    return request.param, source, datasets.index(request.param, source, CFG)


def test_there_is_a_source_for_every_data_set() -> None:
    assert set(SOURCES) == set(datasets.names())


def test_contract(found: tuple[str, Path | None, Index]) -> None:
    name, _, index = found
    assert {"train", "test"} <= set(index.splits) or name == "inat2018"
    everything: list[str] = []
    for split in index.splits.values():
        n = len(split.images)
        assert n == len(split.labels_N) > 0
        assert split.labels_N.dtype == np.int64
        assert 0 <= split.labels_N.min() <= split.labels_N.max() < len(index.class_names)
        everything += [split.images.name(i) for i in range(n)]
        facts = split.images.facts()
        assert len(facts.bytes_N) == len(facts.plain_N) == len(facts.stamp_N) == n
        which = np.arange(n)[::-2]
        picked = split.images.pick(which)
        for k in (0, len(which) - 1):
            assert picked.name(k) == split.images.name(int(which[k]))
            one, other = picked.read(k), split.images.read(int(which[k]))
            assert type(one) is type(other)
            assert np.array_equal(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8))
            assert facts.bytes_N[which[k]] == np.frombuffer(one, np.uint8).size
    assert (index.counts("train") > 0).all()
    if name not in ("cifar10-lt", "cifar100-lt"):  # there, names are positions in a split's files
        assert len(set(everything)) == len(everything), "an image is in two splits"


def test_the_same_twice(found: tuple[str, Path | None, Index]) -> None:
    name, source, index = found
    again = datasets.index(name, source, CFG)
    for split, one in index.splits.items():
        other = again.splits[split]
        names = [one.images.name(i) for i in range(len(one.images))]
        assert names == [other.images.name(i) for i in range(len(other.images))]
        assert np.array_equal(one.labels_N, other.labels_N)


def test_labels_belong_to_their_images(found: tuple[str, Path | None, Index]) -> None:
    name, _, index = found
    if name not in ("folder", "list", "csv", "parquet", "inat2018", "places-lt", "imagenet-lt"):
        pytest.skip("its images have no class in their path")
    for split in index.splits.values():
        for i, label in enumerate(split.labels_N):
            assert f"/{index.class_names[label]}/" in "/" + split.images.name(i)


def test_an_unknown_data_set_names_the_choices() -> None:
    with pytest.raises(UserError, match=r"did you mean 'inat2018'.*digits, folder"):
        datasets.index("inat2019", None, ConvertConfig())


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"digits"}))
def test_a_missing_folder_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        datasets.index(name, tmp_path / "nowhere", ConvertConfig())
    with pytest.raises(UserError, match="--source"):
        datasets.index(name, None, ConvertConfig())
