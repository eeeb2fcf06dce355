"""The defaults of converting data sets, and of reading them from stores."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from fasttail.config.section import Bytes, Section, as_bytes


def _budget(given: object) -> object:
    """`"10%"` stays a share of the images, anything else is a size."""
    if isinstance(given, str) and re.fullmatch(r"\s*(\d+(\.\d+)?|\.\d+)\s*%\s*", given):
        if not 0 <= float(given.strip().rstrip("% ")) <= 100:
            raise ValueError(f"{given!r} is no share of the images: 0% to 100%")
        return given.replace(" ", "")
    return as_bytes(given)


def _encoding(given: str | None) -> str | None:
    try:
        "x".encode(given or "utf-8")
    except LookupError:
        raise ValueError(f"{given!r} is no encoding: name one as cp1252, latin-1, utf-16") from None
    return given


def _pattern(given: str | None) -> str | None:
    try:
        re.compile(given or "")
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return given


class ConvertConfig(Section):
    """How a data set becomes shards (`fasttail convert`)."""

    jobs: int = Field(default=0, ge=0, le=256, description="worker processes; 0: all usable cores")
    imbalance: float | None = Field(
        default=None,
        ge=1,
        description="imbalance factor of data sets that are made long-tailed; "
        "unset: 100 for cifar10-lt and cifar100-lt, 50 for digits",
    )
    val_fraction: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="fraction of train held out as val if there is no val; "
        "unset: 0.1 for folder, 0 for cifar10-lt and cifar100-lt, whose train split is published",
    )
    test_fraction: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="fraction of train held out as test if there is no test",
    )
    group_by: Annotated[str | None, AfterValidator(_pattern)] = Field(
        default=None,
        description="regular expression that finds an image's group in its path, by its first "
        "capture group or the whole match: images of one group are held out together",
    )
    group_column: str | None = Field(
        default=None, description="csv and parquet: the column with an image's group"
    )
    seed: int = Field(
        default=0, ge=0, description="random seed of held-out splits and of the long tail"
    )
    lists: Path | None = Field(default=None, description="folder of list files, or one list file")
    columns: tuple[str, str] = Field(
        default=("path", "label"), description="csv and parquet: the columns of paths and labels"
    )
    label_key: str | None = Field(
        default=None,
        description="webdataset: the key of the label in the .json member; unset: .cls",
    )
    encoding: Annotated[str | None, AfterValidator(_encoding)] = Field(
        default=None,
        description="text encoding of lists, tables and folder names: cp1252, latin-1, ...; "
        "unset: UTF-8",
    )
    allow_partial: bool = Field(
        default=False, description="accept a published data set with another number of images"
    )
    max_side: int | None = Field(
        default=None,
        ge=8,
        le=65500,
        description="shrink images whose longer side is above this, in pixels",
    )
    exif: Literal["ignore", "apply"] = Field(
        default="ignore", description="EXIF orientation; the published pipelines ignore it"
    )
    check: Literal["decode", "header"] = Field(
        default="decode",
        description="decode: every image is decoded once; header: only its header is read",
    )
    on_bad: Literal["fail", "skip"] = Field(
        default="fail", description="fail: bad images end the conversion; skip: they are left out"
    )
    progressive: Literal["baseline", "keep"] = Field(
        default="baseline",
        description="progressive JPEGs. baseline: as baseline JPEGs of the same pixels, which the "
        "engine ffcv decodes several times faster; keep: byte for byte",
    )
    jpeg_quality: int = Field(
        default=95, ge=1, le=100, description="JPEG quality of images that are re-encoded"
    )
    raw_below_px: int = Field(
        default=64,
        ge=0,
        description="an image that is no JPEG and has no side longer than this is stored as pixels",
    )
    seek_spacing: int = Field(
        default=576,
        ge=0,
        description="bytes of a JPEG from one point of its seek index to the next; 0: no index",
    )
    raw_budget: Annotated[int | str | None, BeforeValidator(_budget)] = Field(
        default=None,
        description="keep images of the smallest classes decoded, in a cache beside the shards: "
        "4GiB, or 10% of images",
    )
    max_pixels: int = Field(
        default=100_000_000, ge=1, description="an image with more pixels counts as bad"
    )
    image_timeout_s: float = Field(
        default=60, gt=0, description="an image that takes longer to check counts as bad"
    )
    format: Literal["beton", "tar"] = Field(
        default="beton", description="container of the shards: FFCV's .beton, or WebDataset tars"
    )
    part_size: Bytes = Field(
        default=32 * 1024**3,
        ge=1,
        description="maximum bytes of a shard",
    )


class StoresConfig(Section):
    """How files of object stores are read. The cache's place and size are FASTTAIL_CACHE's and
    FASTTAIL_CACHE_SIZE's."""

    request_bytes: int = Field(default=8 << 20, ge=1, description="asked for at a time")
    requests: int = Field(default=4, ge=1, description="at once")
    timeout_s: float = Field(default=60, gt=0, description="a call takes no longer")
    patience_s: float = Field(
        default=600, ge=0, description="how long a store that is busy or away is asked again"
    )
    longest_wait_s: float = Field(default=30, gt=0, description="between two tries")


STORES = StoresConfig()
