"""What is a class and what is none, in tables, tars and lists alike: said before the conversion."""

import csv
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import smallsets

from fasttail import datasets
from fasttail.config import ConvertConfig
from fasttail.datasets.base import Index
from fasttail.errors import UserError


def as_csv(root: Path, rows: list[tuple[str, str]]) -> None:
    with (root / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])


def as_parquet(root: Path, rows: list[tuple[str, str]]) -> None:
    pa = pytest.importorskip("pyarrow", reason="the parquet extra")
    from pyarrow import parquet

    table = pa.table({"path": [r[0] for r in rows], "label": [r[1] for r in rows]})
    parquet.write_table(table, root / "train.parquet")


def as_tar(root: Path, rows: list[tuple[str, str]]) -> None:
    with tarfile.open(root / "train.tar", "w") as tar:
        for number, (path, label) in enumerate(rows):
            smallsets.add(tar, f"{number:04d}.jpg", (root / path).read_bytes())
            smallsets.add(tar, f"{number:04d}.cls", label.encode())


def as_list(root: Path, rows: list[tuple[str, str]]) -> None:
    (root / "train.txt").write_text("".join(f"{path} {label}\n" for path, label in rows))


FORMS: dict[str, Callable[[Path, list[tuple[str, str]]], None]] = {
    "csv": as_csv,
    "parquet": as_parquet,
    "webdataset": as_tar,
    "list": as_list,
}


def labelled(root: Path, form: str, labels: list[str]) -> Index:
    paths = [f"{i}.jpg" for i in range(len(labels))]
    smallsets.write_images(root, paths)
    FORMS[form](root, list(zip(paths, labels, strict=True)))
    return datasets.index(form, root, ConvertConfig(val_fraction=0))


@pytest.mark.parametrize("form", FORMS)
def test_numbers_are_classes_in_their_order_wherever_they_begin(tmp_path: Path, form: str) -> None:
    index = labelled(tmp_path, form, ["10", "1", "7", "1"])
    assert index.class_names == ("1", "7", "10")
    assert index.splits["train"].labels_N.tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize("form", ["csv", "parquet", "webdataset"])
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["ant", "", "bee"], "no label"),
        (["ant", " ", "bee"], "no label"),
        (["0", "-1", "1"], "'-1' is no class"),
        (["0", "nan", "1"], "'nan' is no class"),
        (["ant", "NaN", "bee"], "'NaN' is no class"),
        (["0.0", "1.0"], "'0.0' is no class"),
        (["0", "1", "ant"], "'ant', but .* has '0': labels are all numbers"),
        (["7", "07"], "each written in one way"),
        (["0", "9" * 5000], "a label of 5000 digits"),
        (["ant", "\x1b[31mred"], "can't be printed"),
    ],
)
def test_what_cannot_be_a_label_is_refused_and_its_place_named(
    tmp_path: Path, form: str, labels: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        labelled(tmp_path, form, labels)
    places = {"csv": r"train.csv: line", "parquet": "train.parquet: row", "webdataset": "train.tar"}
    assert places[form] in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("line", ["a.jpg -1", "a.jpg nan", "a.jpg ant", "a.jpg"])
def test_lists_have_numbers_only(tmp_path: Path, line: str) -> None:
    smallsets.write_images(tmp_path, ["a.jpg"])
    (tmp_path / "train.txt").write_text(f"a.jpg 0\n{line}\n")
    with pytest.raises(UserError, match="line 2"):
        datasets.index("list", tmp_path, ConvertConfig())


EXCEL = "path,label\nB\xe4r/1.jpg,B\xe4r\nF\xfcchse/1.jpg,F\xfcchse\n"


@pytest.mark.parametrize("on_disk", ["utf-8", "cp1252"])
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_table_in_another_encoding_is_read_when_it_is_named(
    tmp_path: Path, encoding: str, on_disk: str
) -> None:
    if (encoding, on_disk) == ("utf-16", "cp1252"):
        pytest.skip("then no program would have made both")
    for name in ("B\xe4r", "F\xfcchse"):
        smallsets.write_images(tmp_path, [f"{os.fsdecode(name.encode(on_disk))}/1.jpg"])
    (tmp_path / "train.csv").write_bytes(EXCEL.encode(encoding))
    if encoding == "cp1252":
        with pytest.raises(UserError, match=r"train\.csv: line 2: the label b'B\\xe4r' can't be"):
            datasets.index("csv", tmp_path, ConvertConfig())
    else:
        with pytest.raises(UserError, match=r"train\.csv"):
            datasets.index("csv", tmp_path, ConvertConfig())
    index = datasets.index("csv", tmp_path, ConvertConfig(val_fraction=0, encoding=encoding))
    assert index.class_names == ("B\xe4r", "F\xfcchse")
    assert index.splits["train"].images.read(1)


def test_a_list_whose_folders_cannot_be_printed_is_refused_or_read_in_its_encoding(
    tmp_path: Path,
) -> None:
    folder = os.fsdecode(b"F\xfcchse")
    smallsets.write_images(tmp_path, [f"{folder}/1.jpg"])
    (tmp_path / "train.txt").write_bytes(b"F\xfcchse/1.jpg 0\n")
    with pytest.raises(UserError, match=r"train\.txt: image 1: .*say its encoding"):
        datasets.index("list", tmp_path, ConvertConfig(val_fraction=0))
    index = datasets.index("list", tmp_path, ConvertConfig(val_fraction=0, encoding="latin-1"))
    assert index.class_names == ("F\xfcchse",)
    assert index.splits["train"].images.read(0)


@pytest.mark.parametrize("form", ["csv", "list"])
def test_a_byte_order_mark_is_no_part_of_the_first_path_and_is_told(
    tmp_path: Path, form: str
) -> None:
    smallsets.write_images(tmp_path, ["1.jpg"])
    text = "path,label\n1.jpg,ant\n" if form == "csv" else "1.jpg 0\n"
    name = "train.csv" if form == "csv" else "train.txt"
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    index = datasets.index(form, tmp_path, ConvertConfig(val_fraction=0))
    assert index.splits["train"].images.name(0) == "1.jpg"
    assert index.notes == (f"{tmp_path / name}: its byte-order mark is left out of the first line",)
    (tmp_path / name).write_text(text)
    assert datasets.index(form, tmp_path, ConvertConfig(val_fraction=0)).notes == ()


def test_an_encoding_that_there_is_not_is_named() -> None:
    for given in ("klingon", "hex", "rot13"):
        with pytest.raises(ValueError, match=f"'{given}' is no encoding"):
            ConvertConfig(encoding=given)


@pytest.mark.parametrize("form", ["csv", "list"])
def test_a_file_of_empty_lines_is_refused_before_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr("fasttail.datasets.lists.MAX_BLANK_LINES", 1000)
    monkeypatch.setattr("fasttail.datasets.tables.MAX_BLANK_LINES", 1000)
    name = "train.csv" if form == "csv" else "train.txt"
    (tmp_path / name).write_text("path,label\n" * (form == "csv") + "\n" * 2000)
    with pytest.raises(UserError, match=r"empty lines|no list of images"):
        datasets.index(form, tmp_path, ConvertConfig())


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_repeated_column_is_named(tmp_path: Path, form: str) -> None:
    smallsets.write_images(tmp_path, ["1.jpg"])
    if form == "csv":
        (tmp_path / "train.csv").write_text("path,label,label\n1.jpg,a,b\n")
    else:
        pa = pytest.importorskip("pyarrow", reason="the parquet extra")
        from pyarrow import parquet

        arrays = [pa.array([x]) for x in ("1.jpg", "a", "b")]
        table = pa.Table.from_arrays(arrays, names=["path", "label", "label"])
        parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(UserError, match="has 2 columns 'label': rename one"):
        datasets.index(form, tmp_path, ConvertConfig())


def test_a_class_of_any_data_set_has_a_name_that_can_be_printed() -> None:
    from fasttail.datasets.base import ArrayImages, SplitIndex

    np = pytest.importorskip("numpy")
    split = SplitIndex(ArrayImages(np.zeros((1, 2, 2, 3), np.uint8), "x"), np.zeros(1, np.int64))
    with pytest.raises(UserError, match=r"class '\\x1b\[2J' can't be printed"):
        Index("mine", ("\x1b[2J",), {"train": split}, None, None)
    empty = split.take(np.zeros(0, np.int64))
    with pytest.raises(UserError, match="mine: val has no image"):
        Index("mine", ("a",), {"train": split, "val": empty}, None, None)


def tar_bytes(root: Path) -> bytes:
    root.mkdir(exist_ok=True)
    return (smallsets.tars(root) / "train-0000.tar").read_bytes()


def test_what_follows_a_tars_end_is_not_lost_without_a_word(tmp_path: Path) -> None:
    tar = tar_bytes(tmp_path)
    (tmp_path / "train-0000.tar").write_bytes(tar + bytes(4096))
    whole = datasets.index("webdataset", tmp_path, ConvertConfig(val_fraction=0))
    assert whole.counts("train").tolist() == [6, 4, 2]
    (tmp_path / "train-0000.tar").write_bytes(tar + tar)
    with pytest.raises(UserError, match=rf"follows its end mark, at byte {len(tar)}: tars that"):
        datasets.index("webdataset", tmp_path, ConvertConfig())


@pytest.mark.parametrize("key", ["size", "path"])
def test_a_number_of_5000_digits_in_a_tars_attributes_is_damage(tmp_path: Path, key: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("1.jpg")
        info.pax_headers = {"size": "9" * 5000} if key == "size" else {"comment": "x"}
        tar.addfile(info)
    content = out.getvalue()
    if key == "path":  # a length of an attribute that int() would refuse
        content = content.replace(b"13 comment=x\n", b"9" * 13)
    (tmp_path / "train.tar").write_bytes(content)
    with pytest.raises(UserError, match=r"train\.tar: (the member|attributes) at byte"):
        datasets.index("webdataset", tmp_path, ConvertConfig())


def test_a_member_of_a_tar_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    size = 1 << 40
    header = tarfile.TarInfo("1.jpg")
    header.size = size
    with (tmp_path / "train.tar").open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.seek(512 + size)
        label = tarfile.TarInfo("1.cls")
        label.size = 1
        file.write(label.tobuf() + b"0".ljust(512, b"\0") + bytes(1024))
    images = (
        datasets.index("webdataset", tmp_path, ConvertConfig(val_fraction=0)).splits["train"].images
    )
    assert not images.facts().plain_N[0]
    with pytest.raises(OSError, match="too large for an image"):
        images.read(0)
