"""The class-index table is looked at when it is opened: no damage of it trains, or crashes."""

import io
import json
import pickle
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from fasttail import shards
from fasttail.cli import main
from fasttail.errors import UserError
from fasttail.shards import reader, table
from fasttail.shards.columns import COLUMNS, CONTENT, digest
from fasttail.shards.verify import verify


@pytest.fixture
def copy(blob_shards: Path, tmp_path: Path) -> Path:
    shutil.copytree(blob_shards, tmp_path / "blobs")
    return tmp_path / "blobs"


def path_of(folder: Path, name: str) -> Path:
    return folder / "train.index" / f"{name}.npy"


def seal(folder: Path, **columns: np.ndarray) -> None:
    """Writes columns of train and their digests into dataset.json, as somebody would who means
    it."""
    meta = json.loads((folder / "dataset.json").read_text())
    for name, column in columns.items():
        np.save(path_of(folder, name), column.astype(COLUMNS[name]))
        meta["splits"]["train"]["columns"][name] = digest(column.astype(COLUMNS[name]))
    split = shards.open(folder).split("train")
    whole = {name: np.array(split.unchecked(name)) for name in COLUMNS}
    for number, part in enumerate(meta["splits"]["train"]["parts"]):
        inside = whole["parts"] == number
        part["digest"] = table.part_digest({n: whole[n][inside] for n in (*CONTENT, "offsets")})
    (folder / "dataset.json").write_text(json.dumps(meta))


def npy(array: np.ndarray, **how: bool) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **how)
    return out.getvalue()


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return sys.exit, ("it ran",)


N = 78
HOSTILE = {
    "a pickle": pickle.dumps(Evil()),
    "an array of objects": npy(np.array([Evil()] * N, object), allow_pickle=True),
    "another type": npy(np.zeros(N, np.float64)),
    "big-endian": npy(np.zeros(N, ">i8")),
    "two-dimensional": npy(np.zeros((N, 1), np.int64)),
    "in Fortran's order": npy(np.zeros(N, np.int64)).replace(b"False", b"True "),
    "too short": npy(np.zeros(N - 1, np.int64)),
    "cut": npy(np.zeros(N, np.int64))[:-3],
    "longer than it says": npy(np.zeros(N, np.int64)) + b"\0" * 8,
    "a shape of 5,000 digits": npy(np.zeros(N, np.int64)).replace(b"(78,)", b"(" + b"9" * 5000),
    "a negative shape": npy(np.zeros(N, np.int64)).replace(b"(78,)", b"(-7,)"),
    "no Python": npy(np.zeros(N, np.int64)).replace(b"{'", b"(("),
    "an open string": npy(np.zeros(N, np.int64)).replace(b"'shape'", b"'''shap"),
    "a zip": b"PK\3\4" + bytes(100),
    "version 3": npy(np.zeros(N, np.int64)).replace(b"NUMPY\1", b"NUMPY\3"),
    "empty": b"",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_column_that_is_none_is_refused_and_reported(copy: Path, what: str) -> None:
    assert len(shards.open(copy).split("train")) == N
    path_of(copy, "samples").write_bytes(HOSTILE[what])
    with pytest.raises(UserError, match=r'samples\.npy: .*: run "fasttail verify'):
        _ = shards.open(copy).split("train").samples_N
    problems = verify(copy).problems
    assert len(problems) == 1
    assert "samples.npy" in problems[0]


def test_no_damage_of_a_header_makes_opening_or_verifying_fail(copy: Path) -> None:
    path = path_of(copy, "offsets")
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for at in generator.integers(0, 128, generator.integers(1, 4)):
            damaged[at] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            _ = shards.open(copy).split("train").offsets_N
        except UserError:
            refused += 1
            assert len(verify(copy).problems) == 1
    assert refused > 200


@pytest.mark.parametrize("column", sorted(COLUMNS))
def test_a_flipped_bit_is_seen_when_a_column_is_opened(copy: Path, column: str) -> None:
    content = bytearray(path_of(copy, column).read_bytes())
    content[-2] ^= 1
    path_of(copy, column).write_bytes(content)
    with pytest.raises(UserError, match=rf"{column}\.npy is not what was written: run"):
        shards.open(copy).split("train").column(column)


def test_samples_in_another_order_do_not_train(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = path_of(copy, "samples")
    np.save(path, np.load(path)[::-1].copy())
    monkeypatch.chdir(tmp_path)
    words = ["train", "--stage", "rep", "--shards", str(copy), "--config", "cifar10-lt"]
    monkeypatch.setattr(sys, "argv", ["fasttail", *words, "--set", "optim.batch_size=8"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "samples.npy is not what was written" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    "indptr",
    [[0, 40, 60, 70, 75, 79], [1, 40, 60, 70, 75, 78], [0, 40, 1 << 62, 70, 75, 78]],
)
def test_class_bounds_that_do_not_rise_from_0_to_n_are_refused_whoever_signed_them(
    copy: Path, indptr: list[int]
) -> None:
    seal(copy, indptr=np.array(indptr))
    with pytest.raises(UserError, match=r"indptr\.npy is not what was written"):
        _ = shards.open(copy).split("train").counts_C


def test_a_large_column_is_opened_without_reading_it(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(copy, "samples")
    np.save(path, np.load(path)[::-1].copy())
    monkeypatch.setattr(reader, "DIGEST_BYTES", 100)
    _ = shards.open(copy).split("train").samples_N
    monkeypatch.undo()
    with pytest.raises(UserError, match="samples"):
        _ = shards.open(copy).split("train").samples_N


def test_samples_that_overlap_are_found(copy: Path) -> None:
    split = shards.open(copy).split("train")
    offsets = np.array(split.offsets_N)
    assert not verify(copy).problems
    # 3 and 4 are told to begin within 2, and one of them long before its end.
    offsets[3], offsets[4] = offsets[2] + 1, offsets[2] + 40
    crc32 = np.array(split.crc32_N)
    part, size = split.part_bytes(0), int(split.sizes_N[3])
    for i in (3, 4):
        crc32[i] = zlib.crc32(part[offsets[i] : offsets[i] + size].tobytes())
    seal(copy, offsets=offsets, crc32=crc32)
    problems = verify(copy).problems
    assert any("2 of 78 samples are not what was written: samples 3-4" in p for p in problems)


@pytest.mark.parametrize(
    ("column", "value"),
    [("sizes", 2**63 - 1), ("sizes", -1), ("offsets", 2**63 - 1), ("modes", 9), ("parts", 4)],
)
def test_a_row_that_cannot_be_is_reported_whoever_signed_it(
    copy: Path, column: str, value: int
) -> None:
    damaged = np.array(shards.open(copy).split("train").column(column))
    damaged[7] = value
    seal(copy, **{column: damaged})
    assert any("train" in problem for problem in verify(copy).problems)


def test_inspect_refuses_labels_that_do_not_fit_the_classes(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fasttail.report.inspect import inspect

    labels = np.array(shards.open(copy).split("train").labels_N)
    assert inspect(shards.open(copy)).images["train"] == N
    labels[0] = 3
    seal(copy, labels=labels)
    with pytest.raises(UserError, match="labels do not fit its classes' sizes"):
        inspect(shards.open(copy))


def test_a_damaged_sample_is_told_with_its_source_whatever_else_is_damaged(copy: Path) -> None:
    split = shards.open(copy).split("train")
    assert split.where(3) == "train-00000.beton: sample 3 (class 0 'blob 0', from blobs[3])"
    path_of(copy, "names").write_bytes(b"")
    split = shards.open(copy).split("train")
    assert split.where(3).endswith("(class 0 'blob 0', from an unknown file)")
