"""`csv` and `parquet`: tables of images and labels, the columns by name.

--source is the file of train, or a folder with train.csv and, if there are any, val.csv, test.csv.
Paths are relative to that folder, or to --source where --lists names the tables; an absolute path
has to lie below it. A parquet may hold the images themselves: `parquets.py`. What labels may be:
`labels.py`.
"""

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fasttail.config import ConvertConfig
from fasttail.datasets import paths
from fasttail.datasets.base import FileImages, Images, Index, SplitIndex
from fasttail.datasets.folder import VAL_FRACTION
from fasttail.datasets.labels import classes
from fasttail.datasets.lists import about_mark
from fasttail.datasets.namelist import Names
from fasttail.errors import UserError

MAX_TABLE_BYTES = 4 << 30
MAX_BLANK_LINES = 1_000_000
_FILES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class Table:
    """The N rows of a table: labels, and groups where there are any, as they are written; the
    images, or their paths. `lines`: where rows stand, in a file that has lines."""

    file: Path
    images: Names | Images
    labels: list[str]
    groups: list[str] | None = None
    lines: Sequence[int] | None = None
    class_names: Sequence[str] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.labels:
            raise UserError(f"{self.file} lists no image")

    def where(self, i: int) -> str:
        if not isinstance(self.images, Names):
            return self.images.name(i)
        at = f"row {i + 1}" if self.lines is None else f"line {self.lines[i]}"
        return f"{self.file}: {at}"


def index(source: Path | None, cfg: ConvertConfig, *, name: str) -> Index:
    """The data set that a table describes. Raises `UserError` for whatever does not fit."""
    if name == "csv":
        root, files = find(source, cfg.lists, name)
        tables = {split: _read_csv(path, cfg) for split, path in files.items()}
    else:
        from fasttail.datasets import parquets

        root, tables = parquets.read(source, cfg)
    class_names = classes(tables["train"].labels, tables["train"].where)
    number = {label: c for c, label in enumerate(class_names)}
    groups: dict[str, int] = {}
    splits = {}
    for split, table in tables.items():
        strange = next((i for i, label in enumerate(table.labels) if label not in number), None)
        if strange is not None:
            raise UserError(
                f"{table.where(strange)} has label {table.labels[strange]!r}, a class that train "
                "lacks: add it to train, or take it out"
            )
        labels_N = np.array([number[label] for label in table.labels], np.int64)
        groups_N = None
        if table.groups is not None:
            for text in table.groups:
                groups.setdefault(text, len(groups))
            groups_N = np.array([groups[text] for text in table.groups], np.int64)
        splits[split] = SplitIndex(_images(root, table, cfg), labels_N, groups_N)
    return Index(
        root.resolve().name,
        _named(class_names, tables["train"].class_names),
        splits,
        None,
        None,
        tuple(note for table in tables.values() for note in table.notes),
        VAL_FRACTION,
    )


def _images(root: Path, table: Table, cfg: ConvertConfig) -> Images:
    if not isinstance(table.images, Names):
        return table.images
    layouts = paths.in_encoding(cfg.encoding)
    listed = paths.relative(root, table.images)
    located = paths.locate(root, listed, layouts, table.file)
    paths.refuse_outside(root, located, table.file)
    return FileImages(root, located, inside=True)


def _named(labels: tuple[str, ...], names: Sequence[str]) -> tuple[str, ...]:
    """The classes' names, where the table has a name for each number."""
    if not all(label.isdigit() and int(label) < len(names) for label in labels):
        return labels
    named = tuple(names[int(label)] for label in labels)
    return named if len(set(named)) == len(named) else labels


def find(source: Path | None, tables: Path | None, kind: str) -> tuple[Path, dict[str, Path]]:
    """(root of the images, table of each split)."""
    if source is None:
        raise UserError(f"--dataset {kind} needs --source: the table, or the folder it is in")
    at = tables or source
    if at.is_file():
        return source if tables else at.parent, {"train": at}
    files = {
        split: at / f"{name}.{kind}"
        for split, names in _FILES.items()
        for name in reversed(names)
        if (at / f"{name}.{kind}").is_file()
    }
    if "train" not in files:
        raise UserError(f"{at} is no {kind} file and has no train.{kind}: name it by --source")
    return source, files


def _read_csv(path: Path, cfg: ConvertConfig) -> Table:
    refuse_large(path)
    labels, groups, lines = [], [], array("q")
    encoding = cfg.encoding or "utf-8-sig"
    try:
        with path.open(newline="", encoding=encoding, errors="surrogateescape") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            at = [column(path, header, name) for name in cfg.columns]
            group_at = column(path, header, cfg.group_column) if cfg.group_column else None

            def listed() -> Iterator[str]:
                blank = 0
                for row in rows:
                    if not row:
                        blank += 1
                        if blank > MAX_BLANK_LINES:
                            raise UserError(f"{path}: {blank} empty lines: no table of paths")
                        continue
                    if len(row) <= max(*at, group_at or 0):
                        raise UserError(f"{path}: line {rows.line_num} has {len(row)} columns")
                    labels.append(row[at[1]].strip())
                    lines.append(rows.line_num)
                    if group_at is not None:
                        groups.append(row[group_at])
                    yield row[at[0]]

            names = Names.of(listed())
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    in_groups = None if group_at is None else groups
    return Table(path, names, labels, in_groups, lines, notes=about_mark(path))


def column(path: Path, header: list[str], name: str) -> int:
    """Where the column is. Raises `UserError` if there is none of that name, or several."""
    if name not in header:
        raise UserError(
            f"{path} has no column {name!r}: it has {', '.join(header) or 'none'}; name the two by "
            "--columns PATH LABEL"
        )
    if header.count(name) > 1:
        raise UserError(f"{path} has {header.count(name)} columns {name!r}: rename one")
    return header.index(name)


def refuse_large(path: Path) -> None:
    """Raises `UserError` for a file that is no table of paths."""
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise UserError(f"{path}: more than {MAX_TABLE_BYTES >> 30} GiB: no table of paths")
