"""`csv` and `parquet`: tables of paths and labels, the columns by name.

--source is the file of train, or a folder with train.csv, and if there are any val.csv and test.csv
(`.parquet` likewise); paths are relative to that folder. Labels may be numbers or texts: the
classes are train's different labels, numbers in their order, texts in alphabetical order.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fasttail.config import ConvertConfig
from fasttail.datasets import paths
from fasttail.datasets.base import FileImages, Index, SplitIndex
from fasttail.datasets.folder import with_val
from fasttail.datasets.namelist import Names
from fasttail.errors import MissingExtra, UserError

VAL_FRACTION = 0.1
MAX_TABLE_BYTES = 4 << 30
_FILES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def index(source: Path | None, cfg: ConvertConfig, *, name: str) -> Index:
    """The data set that a table describes. Raises `UserError` for whatever does not fit."""
    root, files = _find(source, name)
    read = _read_csv if name == "csv" else _read_parquet
    columns = {split: read(path, cfg.columns) for split, path in files.items()}
    class_names = _classes(columns["train"][1])
    number = {label: c for c, label in enumerate(class_names)}
    splits = {}
    for split, (names, labels) in columns.items():
        strange = next((i for i, label in enumerate(labels) if label not in number), None)
        if strange is not None:
            raise UserError(
                f"{files[split]}: row {strange + 1} has label {labels[strange]!r}, a class that "
                "train lacks: add it to train, or take it out"
            )
        located = paths.locate(root, names, (paths.as_listed,), files[split])
        paths.refuse_outside(root, located, files[split])
        labels_N = np.array([number[label] for label in labels], np.int64)
        splits[split] = SplitIndex(FileImages(root, located, inside=True), labels_N)
    fraction = VAL_FRACTION if cfg.val_fraction is None else cfg.val_fraction
    splits, notes = with_val(splits, fraction, cfg.seed)
    return Index(root.resolve().name, class_names, splits, None, None, notes)


def _find(source: Path | None, kind: str) -> tuple[Path, dict[str, Path]]:
    if source is None:
        raise UserError(f"--dataset {kind} needs --source: the table, or the folder it is in")
    if source.is_file():
        return source.parent, {"train": source}
    files = {
        split: source / f"{name}.{kind}"
        for split, names in _FILES.items()
        for name in reversed(names)
        if (source / f"{name}.{kind}").is_file()
    }
    if "train" not in files:
        raise UserError(f"{source} is no {kind} file and has no train.{kind}: name it by --source")
    return source, files


def _classes(labels: list[str]) -> tuple[str, ...]:
    different = set(labels)
    if all(label.isdecimal() and label.isascii() for label in different):
        return tuple(sorted(different, key=int))
    return tuple(sorted(different))


def _read_csv(path: Path, columns: tuple[str, str]) -> tuple[Names, list[str]]:
    _refuse_large(path)
    labels: list[str] = []
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            at = [_column(path, header, column) for column in columns]

            def listed() -> Iterator[str]:
                for row in rows:
                    if not row:
                        continue
                    if len(row) <= max(at):
                        raise UserError(f"{path}: line {rows.line_num} has {len(row)} columns")
                    labels.append(row[at[1]])
                    yield row[at[0]]

            names = Names.of(listed())
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return _not_empty(path, names), labels


def _read_parquet(path: Path, columns: tuple[str, str]) -> tuple[Names, list[str]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingExtra("--dataset parquet", "pyarrow", "parquet") from None
    _refuse_large(path)
    try:
        file = parquet.ParquetFile(path)
        header = file.schema_arrow.names
        for column in columns:
            _column(path, header, column)
        table = file.read(columns=list(columns))
        listed = table.column(columns[0]).cast("string").to_pylist()
        labels = table.column(columns[1]).cast("string").to_pylist()
    except (OSError, ArrowException) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    for number, (name, label) in enumerate(zip(listed, labels, strict=True), 1):
        if name is None or label is None:
            raise UserError(f"{path}: row {number} has no path or no label")
    return _not_empty(path, Names.of(listed)), labels


def _column(path: Path, header: list[str], name: str) -> int:
    if name not in header:
        raise UserError(
            f"{path} has no column {name!r}: it has {', '.join(header) or 'none'}; name the two by "
            "--columns PATH LABEL"
        )
    return header.index(name)


def _refuse_large(path: Path) -> None:
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise UserError(f"{path}: more than {MAX_TABLE_BYTES >> 30} GiB: no table of paths")


def _not_empty(path: Path, names: Names) -> Names:
    if not len(names):
        raise UserError(f"{path} lists no image")
    return names
