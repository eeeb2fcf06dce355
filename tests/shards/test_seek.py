"""The seek index beside the table: made on the way or later, the same; read again by verify."""

import json
import shutil
from pathlib import Path

import numpy as np
import photos
import pytest

from fasttail import kernels, shards
from fasttail.config import ConvertConfig
from fasttail.errors import UserError
from fasttail.shards import Split
from fasttail.shards.columns import SEEK, digest
from fasttail.shards.convert import convert
from fasttail.shards.seek import add_seek
from fasttail.shards.tarindex import index_tars
from fasttail.shards.verify import verify

pytestmark = pytest.mark.skipif(not kernels.available(), reason=kernels.why_missing())

SPACING = 300
CFG = ConvertConfig(jobs=2, part_size=30_000, seek_spacing=SPACING, progressive="keep")


def samples() -> list[tuple[str, bytes, int]]:
    """JPEGs, pixels, what has to be re-encoded, and a bad one."""
    found = photos.jpegs((9, 6, 5))
    found.insert(2, ("c0/bad.jpg", b"\xff\xd8\xff no image", 0))
    found.insert(9, ("c1/small.png", photos.encoded(3, "PNG", size=(20, 30)), 1))
    found.append(("c2/x.png", photos.encoded(3, "PNG"), 2))
    found.append(("c2/progressive.jpg", photos.encoded(4, progressive=True), 2))
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seek")
    index = photos.index(folder / "in", samples())
    for form in ("beton", "tar"):
        cfg = CFG.model_copy(update={"format": form, "on_bad": "skip"})
        convert(index, folder / form, cfg)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "beton", tmp_path / "beton")


def words_of(split: Split, i: int) -> np.ndarray:
    assert split.seek is not None
    words, starts = split.seek
    return words[starts[i] : starts[i + 1]]


def rewrite(folder: Path, change) -> None:
    meta = json.loads((folder / "dataset.json").read_text())
    change(meta)
    (folder / "dataset.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("form", ["beton", "tar"])
def test_a_conversion_makes_the_index_of_every_jpeg(made: Path, form: str) -> None:
    split = shards.open(made / form).split("train")
    assert len(split) == 23
    assert len(split.part_paths) > 2
    assert split.meta.seek is not None
    assert split.meta.seek.spacing == SPACING
    for i in range(len(split)):
        if split.modes_N[i] == 1 or i == len(split) - 1:  # pixels; the progressive one
            assert len(words_of(split, i)) == 0
            continue
        expected = kernels.jpeg_seek(split.bytes(i), SPACING)
        assert len(expected) > 3
        np.testing.assert_array_equal(words_of(split, i), expected)
    assert not verify(made / form).problems


def test_the_index_is_not_part_of_the_content(made: Path, tmp_path: Path) -> None:
    index = photos.index(tmp_path / "in", photos.jpegs((3, 2)))
    with_index = convert(index, tmp_path / "a", CFG)
    for name, options in {"b": {"seek_spacing": 0}, "c": {"check": "header"}}.items():
        without = convert(index, tmp_path / name, CFG.model_copy(update=options))
        assert without.split("train").seek is None
        assert not (tmp_path / name / "train.index/seek.npy").exists()
        assert without.digest == with_index.digest
        assert not verify(tmp_path / name).problems


def test_indexing_shards_that_exist_gives_what_the_conversion_gives(
    copy: Path, tmp_path: Path
) -> None:
    made = {name: (copy / f"train.index/{name}.npy").read_bytes() for name in SEEK}
    before = json.loads((copy / "dataset.json").read_text())
    add_seek(copy, 1000)
    assert (copy / "train.index/seek.npy").stat().st_size < len(made["seek"])
    assert not verify(copy).problems
    add_seek(copy, SPACING)
    assert {name: (copy / f"train.index/{name}.npy").read_bytes() for name in SEEK} == made
    assert json.loads((copy / "dataset.json").read_text()) == before
    assert not (copy / ".convert").exists()
    assert add_seek(copy, 0).split("train").seek is None
    assert not any((copy / f"train.index/{name}.npy").exists() for name in SEEK)


def test_shards_of_the_first_format_are_read_and_can_get_an_index(copy: Path, made: Path) -> None:
    def first_format(meta: dict) -> None:
        split = meta["splits"]["train"]
        del split["seek"], split["columns"]["seek"], split["columns"]["seek_starts"]
        meta["version"], meta["raw"] = 1, None

    rewrite(copy, first_format)
    for name in SEEK:
        (copy / f"train.index/{name}.npy").unlink()
    old = shards.open(copy)
    assert old.split("train").seek is None
    assert not verify(copy).problems
    new = add_seek(copy, SPACING)
    assert new.meta.version == 2
    assert new.digest == old.digest == shards.open(made / "beton").digest
    assert len(words_of(new.split("train"), 0)) > 3


def test_tars_that_are_indexed_in_place_get_an_index_too(made: Path, tmp_path: Path) -> None:
    tars = sorted((made / "tar").glob("*.tar"))
    split = index_tars(tars, tmp_path / "table", CFG).split("train")
    converted = shards.open(made / "tar").split("train")
    assert split.seek is not None
    by_bytes = {converted.bytes(i).tobytes(): i for i in range(len(converted))}
    for i in range(len(split)):
        other = by_bytes[split.bytes(i).tobytes()]
        np.testing.assert_array_equal(words_of(split, i), words_of(converted, other))
    assert not verify(tmp_path / "table").problems
    index_tars(tars, tmp_path / "later", CFG.model_copy(update={"seek_spacing": 0}))
    later = add_seek(tmp_path / "later", SPACING).split("train")
    np.testing.assert_array_equal(later.column("seek"), split.column("seek"))


def test_an_index_is_at_most_a_hundredth_and_a_half_of_the_jpegs(tmp_path: Path) -> None:
    photo = [(f"c0/{i}.jpg", photos.encoded(i, size=(375, 500), quality=95), 0) for i in range(3)]
    split = convert(photos.index(tmp_path / "in", photo), tmp_path / "out", ConvertConfig(jobs=1))
    columns = sum(split.split("train").column(name).nbytes for name in SEEK)
    assert 0 < columns <= 0.015 * split.split("train").sizes_N.sum()


def test_verify_makes_the_points_again(copy: Path) -> None:
    # An index that fits another encoding of the picture, sealed by a digest.
    split = shards.open(copy).split("train")
    assert split.seek is not None
    words, starts = (np.array(column) for column in split.seek)
    words[starts[4] + 2] += np.uint64(1)
    words[starts[20] + 1] += np.uint64(1)
    np.save(copy / "train.index/seek.npy", words)
    assert verify(copy).problems == ["train.index/seek.npy is not what was written"]
    seal = {"seek": digest(words)}
    rewrite(copy, lambda meta: meta["splits"]["train"]["columns"].update(seal))
    (problem,) = verify(copy).problems
    assert problem.startswith("train.index: 2 seek indices are not what the JPEGs give")
    assert problem.endswith("samples 4, 20")


def test_a_damaged_jpeg_gets_no_index(copy: Path) -> None:
    split = shards.open(copy).split("train")
    path, at = split.part_paths[split.parts_N[5]], int(split.offsets_N[5] + split.sizes_N[5] // 2)
    content = bytearray(path.read_bytes())
    content[at : at + 2] = b"\xff\xd9"
    path.write_bytes(content)
    before = (copy / "dataset.json").read_bytes()
    with pytest.raises(UserError, match=r"sample 5 \(class 0 'c0', from c0/5\.jpg\): "):
        add_seek(copy, SPACING)
    assert (copy / "dataset.json").read_bytes() == before
    assert not (copy / ".convert").exists()
