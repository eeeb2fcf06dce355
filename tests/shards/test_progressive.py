"""Progressive JPEGs: stored as baseline ones of the same pixels, or kept; counted either way."""

from pathlib import Path

import numpy as np
import photos
import pytest

from fasttail import kernels
from fasttail.config import ConvertConfig
from fasttail.shards import Shards, steps
from fasttail.shards.convert import convert
from fasttail.shards.image import BASELINE
from fasttail.shards.verify import verify

pytestmark = pytest.mark.skipif(not kernels.available(), reason=kernels.why_missing())

CFG = ConvertConfig(jobs=2, seek_spacing=300)
FRAME = b"\xff\xc2"  # of a progressive JPEG


def samples() -> list[tuple[str, bytes, int]]:
    return [*photos.jpegs((3, 2)), *photos.jpegs((0, 0, 3), progressive=True)]


def made(tmp_path: Path, *more: tuple[str, bytes, int], **options: object) -> Shards:
    index = photos.index(tmp_path / "in", [*samples(), *more])
    shards = convert(index, tmp_path / "out", CFG.model_copy(update=options))
    assert not verify(shards.dir).problems
    return shards


@pytest.mark.parametrize("form", ["beton", "tar"])
def test_they_become_baseline_with_a_seek_index_and_the_same_pixels(
    tmp_path: Path, form: str
) -> None:
    shards = made(tmp_path, format=form)
    split, changed = shards.split("train"), 0
    assert split.seek is not None
    for i, (_, content, _) in enumerate(samples()):
        stored = split.bytes(i).tobytes()
        assert FRAME not in stored[:700]
        assert np.diff(split.seek[1])[i] > 3
        np.testing.assert_array_equal(
            np.asarray(photos.opened(stored)), np.asarray(photos.opened(content))
        )
        assert (stored == content) == (FRAME not in content[:700])
        changed += stored != content
    assert changed == 1
    assert shards.meta.kinds["train"] == {"as is": 7, BASELINE: 1}


def test_they_are_kept_byte_for_byte_where_that_is_asked_for(tmp_path: Path) -> None:
    split = made(tmp_path, progressive="keep").split("train")
    assert [split.bytes(i).tobytes() for i in range(8)] == [content for _, content, _ in samples()]


def test_without_its_last_scans_a_file_is_kept(tmp_path: Path) -> None:
    whole = photos.encoded(9, progressive=True)
    less = whole[: whole.rindex(b"\xff\xc4")] + b"\xff\xd9"
    split = made(tmp_path, ("c0/less.jpg", less, 0)).split("train")
    assert split.bytes(8).tobytes() == less


@pytest.mark.parametrize("check", ["decode", "header"])
def test_damage_in_one_is_found_and_listed(tmp_path: Path, check: str) -> None:
    content = bytearray(photos.encoded(9, progressive=True))
    content[-30:-20] = b"\xff\xd5" * 5
    made(tmp_path, ("c0/damaged.jpg", bytes(content), 0), check=check)
    assert "c0/damaged.jpg" in (tmp_path / "out/damaged.csv").read_text()


def test_convert_says_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos.index(tmp_path / "in", samples())
    options = {"val_fraction": 0.0, "jobs": 1}
    steps.run("folder", tmp_path / "in", tmp_path / "out", options)
    said = "".join(capsys.readouterr())
    assert "train: 1 progressive JPEGs stored as baseline, the same pixels" in said
