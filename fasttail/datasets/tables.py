"""`csv` and `parquet`: tables of paths and labels, the columns by name.

--source is the file of train, or a folder with train.csv, and if there are any val.csv and test.csv
(`.parquet` likewise); paths are relative to that folder. What labels may be: `labels.py`.
"""

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fasttail.config import ConvertConfig
from fasttail.datasets import paths
from fasttail.datasets.base import FileImages, Index, SplitIndex
from fasttail.datasets.folder import with_val
from fasttail.datasets.labels import classes
from fasttail.datasets.namelist import Names
from fasttail.errors import MissingExtra, UserError

VAL_FRACTION = 0.1
MAX_TABLE_BYTES = 4 << 30
MAX_BLANK_LINES = 1_000_000
_FILES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def index(source: Path | None, cfg: ConvertConfig, *, name: str) -> Index:
    """The data set that a table describes. Raises `UserError` for whatever does not fit."""
    root, files = _find(source, name)
    read = _read_csv if name == "csv" else _read_parquet
    tables = {split: read(path, cfg) for split, path in files.items()}
    class_names = classes(tables["train"].labels, tables["train"].where)
    number = {label: c for c, label in enumerate(class_names)}
    splits = {}
    for split, table in tables.items():
        strange = next((i for i, label in enumerate(table.labels) if label not in number), None)
        if strange is not None:
            raise UserError(
                f"{table.where(strange)} has label {table.labels[strange]!r}, a class that train "
                "lacks: add it to train, or take it out"
            )
        layouts = paths.in_encoding(cfg.encoding)
        located = paths.locate(root, table.names, layouts, table.file)
        paths.refuse_outside(root, located, table.file)
        labels_N = np.array([number[label] for label in table.labels], np.int64)
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


@dataclass(frozen=True)
class _Table:
    """The rows of a table: paths and labels as they are written. `lines`: where they stand, in a
    file that has lines."""

    file: Path
    names: Names
    labels: list[str]
    lines: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if not self.labels:
            raise UserError(f"{self.file} lists no image")

    def where(self, i: int) -> str:
        at = f"row {i + 1}" if self.lines is None else f"line {self.lines[i]}"
        return f"{self.file}: {at}"


def _read_csv(path: Path, cfg: ConvertConfig) -> _Table:
    _refuse_large(path)
    labels, lines = [], array("q")
    encoding = cfg.encoding or "utf-8-sig"
    try:
        with path.open(newline="", encoding=encoding, errors="surrogateescape") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            at = [_column(path, header, column) for column in cfg.columns]

            def listed() -> Iterator[str]:
                blank = 0
                for row in rows:
                    if not row:
                        blank += 1
                        if blank > MAX_BLANK_LINES:
                            raise UserError(f"{path}: {blank} empty lines: no table of paths")
                        continue
                    if len(row) <= max(at):
                        raise UserError(f"{path}: line {rows.line_num} has {len(row)} columns")
                    labels.append(row[at[1]].strip())
                    lines.append(rows.line_num)
                    yield row[at[0]]

            names = Names.of(listed())
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return _Table(path, names, labels, lines)


def _read_parquet(path: Path, cfg: ConvertConfig) -> _Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingExtra("--dataset parquet", "pyarrow", "parquet") from None
    _refuse_large(path)
    try:
        file = parquet.ParquetFile(path)
        header = file.schema_arrow.names
        for column in cfg.columns:
            _column(path, header, column)
        table = file.read(columns=list(cfg.columns))
        listed = table.column(cfg.columns[0]).cast("string").to_pylist()
        labels = table.column(cfg.columns[1]).cast("string").to_pylist()
    except (OSError, ArrowException) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    for number, (name, label) in enumerate(zip(listed, labels, strict=True), 1):
        if name is None or label is None:
            raise UserError(f"{path}: row {number} has no path or no label")
    return _Table(path, Names.of(listed), [label.strip() for label in labels])


def _column(path: Path, header: list[str], name: str) -> int:
    if name not in header:
        raise UserError(
            f"{path} has no column {name!r}: it has {', '.join(header) or 'none'}; name the two by "
            "--columns PATH LABEL"
        )
    if header.count(name) > 1:
        raise UserError(f"{path} has {header.count(name)} columns {name!r}: rename one")
    return header.index(name)


def _refuse_large(path: Path) -> None:
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise UserError(f"{path}: more than {MAX_TABLE_BYTES >> 30} GiB: no table of paths")
