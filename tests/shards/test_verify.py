import json
import shutil
from pathlib import Path

import numpy as np
import photos
import pytest

from fasttail import shards
from fasttail.config import ConvertConfig
from fasttail.errors import UserError
from fasttail.shards.columns import COLUMNS
from fasttail.shards.convert import convert
from fasttail.shards.verify import verify


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    index = photos.index(folder / "in", photos.jpegs((9, 6, 5)))
    for form in ("beton", "tar"):
        cfg = ConvertConfig(jobs=1, part_size=12_000, raw_budget="15%", format=form)
        assert len(convert(index, folder / form, cfg).split("train").part_paths) > 2
    return folder


@pytest.fixture(params=["beton", "tar"])
def copy(request: pytest.FixtureRequest, made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / request.param, tmp_path / request.param)
    return tmp_path / request.param


def flip(path: Path, at: int, bit: int = 3) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def test_whole_shards_are_whole(copy: Path) -> None:
    found = verify(copy)
    assert not found.problems
    assert found.samples == 20


@pytest.mark.parametrize("sample", [0, 7, 19])
@pytest.mark.parametrize("where", ["first", "last"])
def test_a_flipped_bit_is_named_with_its_sample(copy: Path, sample: int, where: str) -> None:
    split = shards.open(copy).split("train")
    path = split.part_paths[split.parts_N[sample]]
    at = int(split.offsets_N[sample]) + (0 if where == "first" else int(split.sizes_N[sample]) - 1)
    flip(path, at)
    problems = verify(copy).problems
    assert len(problems) == 1
    assert path.name in problems[0]
    assert problems[0].endswith(f"samples {sample} (from {split.source_name(sample)})")


def test_a_truncated_file_is_named_with_the_samples_that_are_gone(copy: Path) -> None:
    split = shards.open(copy).split("train")
    path = split.part_paths[1]
    ids = np.flatnonzero(split.parts_N == 1)
    last = ids[np.argmax(split.offsets_N[ids])]
    cut = int(split.offsets_N[last]) + 10
    path.write_bytes(path.read_bytes()[:cut])
    problems = verify(copy).problems
    assert any(f"{path.name}: {cut} bytes, written with" in p for p in problems)
    assert any(f"samples {last} (from {split.source_name(last)})" in p for p in problems)
    with pytest.raises(UserError, match=r"bytes, but it was written with.*fasttail verify"):
        shards.open(copy).split("train").bytes(int(last))


def test_a_missing_part_is_named_with_its_samples(copy: Path) -> None:
    split = shards.open(copy).split("train")
    ids = np.flatnonzero(split.parts_N == 0)
    split.part_paths[0].unlink()
    (problem,) = verify(copy).problems
    assert split.part_paths[0].name in problem
    assert f"samples {ids[0]}-{ids[-1]}" in problem


def test_swapped_parts_are_seen_as_swapped(copy: Path) -> None:
    split = shards.open(copy).split("train")
    one, other = split.part_paths[:2]
    one.rename(copy / "x")
    other.rename(one)
    (copy / "x").rename(other)
    problems = "\n".join(verify(copy).problems)
    assert f"it holds {other.name}: were the two swapped?" in problems
    assert f"it holds {one.name}: were the two swapped?" in problems
    last = np.flatnonzero(split.parts_N == 1)[-1]
    assert f"-{last}" in problems


@pytest.mark.parametrize("column", sorted(COLUMNS))
def test_a_flipped_bit_in_the_table_is_named(copy: Path, column: str) -> None:
    flip(copy / "train.index" / f"{column}.npy", -1, bit=0)
    assert any(f"train.index/{column}.npy" in p for p in verify(copy).problems)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"junk" * 100])
def test_a_table_that_is_none_is_named(copy: Path, damage: bytes) -> None:
    (copy / "train.index/offsets.npy").write_bytes(damage)
    assert any("offsets.npy" in p for p in verify(copy).problems)
    with pytest.raises(UserError, match=r"offsets\.npy.*fasttail verify"):
        _ = shards.open(copy).split("train").offsets_N


def test_a_changed_label_in_the_beton_is_seen(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "beton", tmp_path / "beton")
    from fasttail.shards.beton import FIELD, HEADER, SAMPLE

    at = HEADER.itemsize + 2 * FIELD.itemsize + 2 * SAMPLE.itemsize + 16
    flip(tmp_path / "beton/train-00000.beton", at, bit=0)
    (problem,) = verify(tmp_path / "beton").problems
    assert "metadata differs" in problem
    assert "sample 2 of this file" in problem


def test_another_format_version_says_who_reads_what(copy: Path) -> None:
    meta = json.loads((copy / "dataset.json").read_text())
    meta["version"], meta["written_by"] = 7, "fasttail 9.0"
    (copy / "dataset.json").write_text(json.dumps(meta))
    with pytest.raises(
        UserError, match=r"shard format 7, written by 'fasttail 9\.0'; this fasttail reads.*2"
    ):
        shards.open(copy)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", '{"format": 3}', "\xff\xfe"])
def test_a_dataset_json_that_is_none_is_named(copy: Path, text: str) -> None:
    (copy / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset\.json"):
        shards.open(copy)


def test_a_dataset_json_that_lies_is_found_out(copy: Path) -> None:
    meta = json.loads((copy / "dataset.json").read_text())
    meta["class_names"][0] = "zebra"
    (copy / "dataset.json").write_text(json.dumps(meta))
    assert any("digest" in p for p in verify(copy).problems)
    del meta["splits"]["train"]["parts"][0]["digest"]
    (copy / "dataset.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"splits\.train\.parts\.0\.digest"):
        shards.open(copy)
