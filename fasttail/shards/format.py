"""What lies in a folder of shards, and `dataset.json`, which says so.

    dataset.json         `Meta`; written last, so a folder without one is not finished
    train-00000.beton    a part: image bytes and labels in a container (`beton.py`, `tar.py`)
    train.index/*.npy    the class-index table: where each sample lies, samples grouped by class;
                         where points of its JPEG begin (the seek index)
    train.cache/         images of the smallest classes, decoded: see `cache.py`
    rejected.csv         images that were left out, if any
    damaged.csv          damaged images that could be decoded and are stored re-encoded, if any

See docs/shards.md.
"""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fasttail.errors import UserError

FORMAT = "fasttail-shards"
VERSION = 2
READ = (1, VERSION)  # shards of version 1 have no seek index, and may have a tail of raw pixels
META_FILE = "dataset.json"
REJECTED_FILE = "rejected.csv"
DAMAGED_FILE = "damaged.csv"
WORK_DIR = ".convert"
MAX_META_BYTES = 64 << 20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PartMeta(_Strict):
    """One file of a split. `digest`: SHA-256 of its samples' places and contents' crc32."""

    file: str
    bytes: int = Field(ge=0)
    samples: int = Field(ge=0)
    digest: str


class SeekMeta(_Strict):
    """The seek index of a split's JPEGs: the version of kernels/seek.h, a point every so many
    bytes."""

    version: Literal[1] = 1
    spacing: int = Field(ge=1)


class SplitMeta(_Strict):
    """One split: its files, the SHA-256 of each column of its table, its seek index if it has
    one."""

    samples: int = Field(ge=1)
    parts: tuple[PartMeta, ...]
    columns: dict[str, str]
    seek: SeekMeta | None = None


class Meta(_Strict):
    """`dataset.json`. `digest` identifies the data set's content, whatever container holds it.

    `kinds`: of each split, how many images are stored "as is", as "raw" pixels, as
    `image.BASELINE`, or re-encoded, by what they were ("PNG RGBA"); what EXIF says to turn apart,
    with `image.IGNORED` or `image.APPLIED` after it.
    """

    format: Literal["fasttail-shards"]
    version: int
    written_by: str
    container: Literal["beton", "tar"]
    name: str
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    splits: dict[str, SplitMeta]
    digest: str
    made: dict[str, str | int | float | bool | None]
    notes: tuple[str, ...]
    rejected: dict[str, int]
    kinds: dict[str, dict[str, int]]


def part_name(split: str, number: int, suffix: str) -> str:
    """`train-00000.beton`"""
    return f"{split}-{number:05d}{suffix}"


def read_meta(folder: Path) -> Meta:
    """`dataset.json` of a folder of shards.

    Raises `UserError` if it is missing, of another version, or not what fasttail writes.
    """
    path = folder / META_FILE
    if not path.is_file():
        if (folder / WORK_DIR).is_dir():
            raise UserError(
                f"{folder} is not finished: converting it was interrupted; run the same "
                "fasttail convert again, it takes up what is done"
            )
        raise UserError(f"{folder} holds no shards (no {META_FILE}): make them by fasttail convert")
    if path.stat().st_size > MAX_META_BYTES:
        raise UserError(f"{path}: more than {MAX_META_BYTES >> 20} MiB: not written by fasttail")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: not written by fasttail (its format is not {FORMAT!r})")
    if content.get("version") not in READ:
        raise UserError(
            f"{path}: shard format {content.get('version')!r}, written by "
            f"{content.get('written_by')!r}; this fasttail reads and writes format {VERSION}: "
            "convert the data set again, or use the fasttail that wrote it"
        )
    if content["version"] == 1:
        content.pop("raw", None)  # the table's modes tell it
    try:
        return Meta.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg']}") from None
