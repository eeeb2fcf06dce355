"""`parquet`: a table of paths and labels, or of images and labels.

The Hugging Face hub distributes sets as parquet files with the images inside: a column of
`{bytes, path}`, the classes' names in the schema, `train-00000-of-00012.parquet` and so on in a
folder. --source is such a folder, or one file. Files are read a row group at a time.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from fasttail.config import ConvertConfig
from fasttail.datasets.base import MAX_FILE_BYTES, Facts
from fasttail.datasets.namelist import Names
from fasttail.datasets.tables import Table, column, find, refuse_large
from fasttail.datasets.webdataset import split_of
from fasttail.errors import MissingExtra, UserError

if TYPE_CHECKING:
    import pyarrow

JPEG_START = b"\xff\xd8\xff"


@dataclass(frozen=True)
class ParquetImages:
    """Images in a column of parquet files: N of them, each a row of `rows_N` (`_ROW`). Of an image
    that is not there, size and crc32 are 0."""

    files: tuple[Path, ...]
    column: str
    rows_N: np.ndarray
    paths: Names

    def __len__(self) -> int:
        return len(self.rows_N)

    def name(self, i: int) -> str:
        at = self.rows_N[i]
        place = f"{self.files[at['file']].name}/{at['row_group']}/{at['row']}"
        return f"{place}/{self.paths[i]}" if self.paths[i] else place

    def read(self, i: int) -> bytes:
        at = self.rows_N[i]
        if not 0 < at["size"] <= MAX_FILE_BYTES:
            raise OSError(f"{at['size']} bytes: no image")
        held = _row_group(self.files[at["file"]], int(at["row_group"]), self.column)
        data = held[int(at["row"])].as_py() or b""
        if crc32(data) != at["crc32"]:
            raise OSError("it is not what it was")
        return data

    def probe(self, i: int) -> bytes:
        return self.rows_N["crc32"][i].tobytes()

    def pick(self, which_N: np.ndarray) -> "ParquetImages":
        paths = self.paths.pick(np.asarray(which_N))
        return ParquetImages(self.files, self.column, self.rows_N[which_N], paths)

    def facts(self) -> Facts:
        rows_N = self.rows_N
        return Facts(rows_N["size"], rows_N["plain"], rows_N["crc32"].astype(np.int64))


@lru_cache(maxsize=1)  # images are converted in their order; a row group may be large
def _row_group(path: Path, number: int, name: str) -> "pyarrow.Array":
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        return _parts(file.read_row_group(number, columns=[name]).column(name))[0]


def read(source: Path | None, cfg: ConvertConfig) -> tuple[Path, dict[str, Table]]:
    """(root of the images, table of each split). Raises `UserError` for whatever does not fit."""
    if find_spec("pyarrow") is None:
        raise MissingExtra("--dataset parquet", "pyarrow", "parquet")
    root, named = _find(source, cfg.lists)
    return root, {
        split: _read(named[split], cfg) for split in ("train", "val", "test") if split in named
    }


def _find(source: Path | None, tables: Path | None) -> tuple[Path, dict[str, list[Path]]]:
    """(root of the images, files of each split): in a folder, those that are named after one."""
    at = tables or source
    named: dict[str, list[Path]] = {}
    if source is not None and at is not None and at.is_dir():
        for path in sorted(at.rglob("*.parquet")):
            if split := split_of(path):
                named.setdefault(split, []).append(path)
        if "train" in named:
            return source, named
    root, files = find(source, tables, "parquet")
    return root, {split: [path] for split, path in files.items()}


# An image's place, and what is seen of it when its row is read.
_ROW = np.dtype("i4, i4, i4, i8, u4, ?")
_ROW.names = ("file", "row_group", "row", "size", "crc32", "plain")


def _read(files: list[Path], cfg: ConvertConfig) -> Table:
    """One split's rows, in the order of the files."""
    from pyarrow import ArrowException, parquet

    image, label = cfg.columns
    labels: list[str] = []
    groups: list[str] = []
    listed: list[str] = []
    rows: list[tuple[int, int, int, int, int, bool]] = []
    names: list[str] = []
    for number, path in enumerate(files):
        try:
            with parquet.ParquetFile(path) as file:
                schema = file.schema_arrow
                image = _image_column(schema, cfg.columns[0])
                wanted = [image, label, *([cfg.group_column] if cfg.group_column else [])]
                for name in wanted:
                    column(path, schema.names, name)
                inside = _holds_images(path, image, schema.field(image).type)
                names = _class_names(schema, label)
                for row_group in range(file.num_row_groups):
                    table = file.read_row_group(row_group, columns=wanted)
                    labels += _texts(path, table.column(label), len(labels))
                    if cfg.group_column:
                        groups += _texts(path, table.column(cfg.group_column), len(groups))
                    if not inside:
                        listed += _texts(path, table.column(image), len(listed))
                        continue
                    data, inner = _parts(table.column(image))
                    listed += [one or "" for one in inner]
                    for row, one in enumerate(data):
                        held = one.as_buffer() or b""
                        plain = bytes(held[:3]) == JPEG_START
                        rows.append((number, row_group, row, len(held), crc32(held), plain))
        except (OSError, ArrowException) as error:
            raise UserError(f"{path}: cannot be read: {error}") from None
    images = Names.of(listed)
    if rows:
        images = ParquetImages(tuple(files), image, np.array(rows, _ROW), images)
    return Table(files[0], images, labels, groups or None, class_names=names)


def _image_column(schema: "pyarrow.Schema", name: str) -> str:
    """The column of that name; where there is none, the only one that holds images."""
    from pyarrow import types

    holding = [f.name for f in schema if types.is_struct(f.type) and "bytes" in _fields(f.type)]
    return holding[0] if name not in schema.names and len(holding) == 1 else name


def _holds_images(path: Path, name: str, kind: "pyarrow.DataType") -> bool:
    """Whether a column holds images, or else their paths."""
    from pyarrow import types

    if types.is_string(kind) or types.is_large_string(kind):
        refuse_large(path)
        return False
    if types.is_binary(kind) or types.is_large_binary(kind):
        return True
    if types.is_struct(kind) and "bytes" in _fields(kind):
        return True
    raise UserError(f"{path}: the column {name!r} holds {kind}: no images, and no paths of images")


def _fields(kind: "pyarrow.DataType") -> list[str]:
    return [kind.field(k).name for k in range(kind.num_fields)]


def _parts(images: "pyarrow.ChunkedArray") -> tuple["pyarrow.Array", Sequence[str | None]]:
    """(the images' bytes, their names) of a column."""
    from pyarrow import types

    whole = images.combine_chunks()
    if not types.is_struct(whole.type):
        return whole, [None] * len(whole)
    fields = _fields(whole.type)
    parts = dict(zip(fields, whole.flatten(), strict=True))
    names = parts["path"].to_pylist() if "path" in parts else [None] * len(whole)
    return parts["bytes"], names


def _texts(path: Path, values: "pyarrow.ChunkedArray", before: int) -> list[str]:
    texts = values.cast("string").to_pylist()
    if None in texts:
        row = before + texts.index(None) + 1
        raise UserError(f"{path}: row {row} has no path, label or group")
    return [text.strip() for text in texts]


def _class_names(schema: "pyarrow.Schema", label: str) -> list[str]:
    """The names that the `datasets` package keeps beside a schema; none if it did not write it."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        return []
