"""The tail cache: made from the shards at any time, thrown away at any time, never believed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import photos
import pytest
import smalldisk

from fasttail import kernels, shards
from fasttail.config import ConvertConfig
from fasttail.errors import UserError
from fasttail.shards import tail
from fasttail.shards.convert import convert
from fasttail.shards.verify import verify

pytestmark = pytest.mark.skipif(not kernels.available(), reason=kernels.why_missing())

CFG = ConvertConfig(jobs=2, part_size=60_000)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    convert(
        photos.index(folder / "in", photos.jpegs((20, 6, 3))),
        folder / "out",
        CFG,
    )
    return folder / "out"


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "out")


def kept(folder: Path) -> dict[int, bytes]:
    """What the cache holds, by sample id."""
    cache = shards.open(folder).split("train").cache
    assert cache is not None
    ends = cache.offsets_K + cache.sizes_K
    return {
        int(i): cache.planes[a:b].tobytes()
        for i, a, b in zip(cache.ids_K, cache.offsets_K, ends, strict=True)
    }


def test_the_smallest_classes_are_kept_as_the_decoder_makes_them(copy: Path) -> None:
    tail.keep(copy, "20%")
    split = shards.open(copy).split("train")
    assert list(kept(copy)) == [20, 21, 26, 27, 28]
    for i, planes in kept(copy).items():
        assert planes == kernels.jpeg_planes(split.bytes(i)).tobytes()
    assert not verify(copy).problems


def test_a_budget_in_bytes_is_kept(copy: Path) -> None:
    split = shards.open(copy).split("train")
    sizes = [len(kernels.jpeg_planes(split.bytes(i))) for i in (26, 27, 28, 20, 21)]
    tail.keep(copy, sum(sizes) + 10)
    assert sorted(kept(copy)) == [20, 21, 26, 27, 28]
    assert (copy / "train.cache/planes.bin").stat().st_size == sum(sizes)
    tail.keep(copy, sum(sizes[:3]))
    assert sorted(kept(copy)) == [26, 27, 28]
    assert tail.keep(copy, 10) is None
    assert not (copy / "train.cache").exists(), "nothing fits, so there is none"


def test_the_shards_are_the_same_with_a_budget_and_without(tmp_path: Path) -> None:
    index = photos.index(tmp_path / "in", photos.jpegs((8, 4)))
    convert(index, tmp_path / "plain", CFG)
    convert(index, tmp_path / "kept", CFG.model_copy(update={"raw_budget": "30%"}))
    assert len(kept(tmp_path / "kept")) == 3
    later = tmp_path / "plain"
    tail.keep(later, "30%")
    assert photos.tree(later) == photos.tree(tmp_path / "kept")
    assert tail.remove(tmp_path / "kept")
    assert not tail.remove(tmp_path / "kept")
    assert not (tmp_path / "kept/train.cache").exists()


def test_what_is_there_is_not_made_again(copy: Path) -> None:
    tail.keep(copy, "20%")
    before = (copy / "train.cache/planes.bin").stat().st_mtime_ns
    tail.keep(copy, "20%")
    assert (copy / "train.cache/planes.bin").stat().st_mtime_ns == before
    (copy / "train.cache/cache.json").write_text("{}")
    tail.keep(copy, "20%")
    assert len(kept(copy)) == 5


def test_a_cache_of_other_shards_is_refused_and_made_again(copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    convert(photos.index(tmp_path / "in", photos.jpegs((9, 3))), other, CFG)
    tail.keep(other, "20%")
    shutil.copytree(other / "train.cache", copy / "train.cache")
    with pytest.raises(UserError, match=r"train\.cache is of other shards: make it again by"):
        _ = shards.open(copy).split("train").cache
    assert any("of other shards" in problem for problem in verify(copy).problems)
    tail.keep(copy, "20%")
    assert list(kept(copy)) == [20, 21, 26, 27, 28]


@pytest.mark.parametrize("name", ["ids.npy", "offsets.npy", "crc32.npy", "cache.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_cache_is_refused(copy: Path, name: str, damage: str) -> None:
    tail.keep(copy, "20%")
    path = copy / "train.cache" / name
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[-20] ^= 1
        path.write_bytes(content if damage == "flipped" else content[:-30])
    with pytest.raises(UserError, match=r"train\.cache (can't be read|is not what was written)"):
        _ = shards.open(copy).split("train").cache
    assert len(verify(copy).problems) == 1


def test_verify_decodes_again(copy: Path) -> None:
    tail.keep(copy, "20%")
    path = copy / "train.cache/planes.bin"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    (problem,) = verify(copy).problems
    assert problem.startswith("train.cache: 1 decoded images are not what the JPEGs give")


def test_ids_that_cannot_be_are_refused_whoever_signed_them(copy: Path) -> None:
    tail.keep(copy, "20%")
    from fasttail.shards.columns import digest

    ids = np.array([20, 21, 26, 27, 29])
    np.save(copy / "train.cache/ids.npy", ids)
    meta = json.loads((copy / "train.cache/cache.json").read_text())
    meta["columns"]["ids"] = digest(ids)
    (copy / "train.cache/cache.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="is not what was written"):
        _ = shards.open(copy).split("train").cache


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 KiB."""
    with smalldisk.mounted(tmp_path / "disk", "600k") as disk:
        yield disk


def test_a_cache_without_room_is_not_there_and_the_shards_are_whole(
    made: Path, small_disk: Path
) -> None:
    out = shutil.copytree(made, small_disk / "out")
    with pytest.raises(UserError, match=r"train\.cache: No space left.* run the same command"):
        tail.keep(out, "100%")
    assert not (out / "train.cache").exists()
    assert not (out / ".convert").exists()
    assert not verify(out).problems
    tail.keep(out, "10%")
    assert len(kept(out)) == 2
