"""The tail cache: images that are kept decoded, in a folder beside the shards.

    train.cache/
      cache.json     `CacheMeta`: of which shards it is, and its columns' digests
      *.npy          K samples by id: where each lies in planes.bin, how many bytes, their crc32
      planes.bin     each sample as kernels/planes.c has it

It is made from the JPEGs (`tail.py`) and may be thrown away at will: the shards are whole without.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fasttail.errors import UserError
from fasttail.shards.columns import digest, mapped

META_FILE = "cache.json"
PLANES_FILE = "planes.bin"
COLUMNS = {
    "ids": np.dtype("<i8"),
    "offsets": np.dtype("<i8"),
    "sizes": np.dtype("<i8"),
    "crc32": np.dtype("<u4"),
}


class CacheMeta(BaseModel):
    """`cache.json`. `shards` is the digest of the data set that the samples are of, `columns` the
    SHA-256 of each column."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["fasttail-cache"] = "fasttail-cache"
    version: Literal[1] = 1
    shards: str
    budget: int | str
    images: int = Field(ge=1)
    bytes: int = Field(ge=1)
    columns: dict[str, str]


@dataclass(frozen=True)
class Cache:
    """K samples of a split, decoded. Arrays are memory-mapped, in the order of the samples' ids."""

    meta: CacheMeta
    ids_K: np.ndarray
    offsets_K: np.ndarray
    sizes_K: np.ndarray
    crc32_K: np.ndarray
    planes: np.ndarray  # uint8 [bytes]


def folder_of(shards: Path, split: str) -> Path:
    """Where a split's cache lies."""
    return shards / f"{split}.cache"


def open_cache(shards: Path, split: str, samples: int, shards_digest: str) -> Cache | None:
    """The cache of a split of so many samples, or None if it has none.

    Raises `UserError` if it is of other shards, or not what was written.
    """
    folder = folder_of(shards, split)
    if not folder.is_dir():
        return None
    advice = f"make it again by fasttail cache {shards}, or remove it by --remove"
    try:
        meta = CacheMeta.model_validate_json((folder / META_FILE).read_bytes())
        columns = {
            name: mapped(folder / f"{name}.npy", dtype, meta.images)
            for name, dtype in COLUMNS.items()
        }
        planes = np.memmap(folder / PLANES_FILE, np.uint8, mode="r")
    except (OSError, ValueError) as error:  # pydantic's is a ValueError
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(f"{folder} can't be read ({reason}): {advice}") from None
    if meta.shards != shards_digest:
        raise UserError(f"{folder} is of other shards: {advice}")
    ids_K, offsets_K, sizes_K, crc32_K = columns.values()
    whole = {name: digest(column) for name, column in columns.items()} == meta.columns
    inside = ids_K[0] >= 0 and ids_K[-1] < samples and bool((np.diff(ids_K) > 0).all())
    if not whole or not inside or len(planes) != meta.bytes:
        raise UserError(f"{folder} is not what was written: {advice}")
    return Cache(meta, ids_K, offsets_K, sizes_K, crc32_K, planes.view(np.ndarray))
