"""The class-index table: for every class its samples, for every sample where its bytes are."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fasttail import atomic
from fasttail.shards.columns import COLUMNS, CONTENT, SEEK, digest, stored


def group_by_class(labels_N: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(indptr int64 [C + 1], samples int64 [N]): ids by class, ascending within a class."""
    indptr = np.zeros(num_classes + 1, np.int64)
    np.cumsum(np.bincount(labels_N, minlength=num_classes), out=indptr[1:])
    # numpy sorts 16-bit keys by radix: linear in N.
    keys_N = labels_N.astype(np.uint16) if num_classes <= 1 << 16 else labels_N
    return indptr, np.argsort(keys_N, kind="stable").astype(np.int64, copy=False)


def write(
    folder: Path,
    columns: Mapping[str, np.ndarray],
    num_classes: int,
    seek: Mapping[str, Sequence[np.ndarray]] | None = None,
) -> dict[str, str]:
    """Writes the table of one split; returns every column's SHA-256.

    `columns`: all of `COLUMNS` but indptr and samples, which are made here. `seek`: those of `SEEK`
    in pieces, if there are any. The folder appears under its name only when all of it is on disk.
    """
    indptr, samples = group_by_class(columns["labels"], num_classes)
    temporary = folder.with_name(f".{folder.name}.tmp")
    _remove(temporary)
    temporary.mkdir(parents=True)

    whole = {**columns, "indptr": indptr, "samples": samples}
    pieces = {**{name: [whole[name]] for name in COLUMNS}, **(seek or {})}

    def save(name: str) -> str:
        return stored(pieces[name], temporary / f"{name}.npy", {**COLUMNS, **SEEK}[name])

    # Together, since a disk takes as long for one fsync as for a few.
    with ThreadPoolExecutor(len(pieces)) as pool:
        digests = dict(zip(pieces, pool.map(save, pieces), strict=True))
    atomic.fsync_folder(temporary)
    _remove(folder)
    atomic.rename(temporary, folder)
    return digests


def content_digest(columns: Mapping[str, np.ndarray]) -> str:
    """Identifies the samples of a split, wherever they are stored."""
    return digest(*(np.ascontiguousarray(columns[c], COLUMNS[c]) for c in CONTENT))


def part_digest(columns: Mapping[str, np.ndarray]) -> str:
    """Identifies a part: its samples and their places in it."""
    return digest(*(np.ascontiguousarray(columns[c], COLUMNS[c]) for c in (*CONTENT, "offsets")))


def _remove(folder: Path) -> None:
    if folder.is_dir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
