"""The class-index table: for every class its samples, for every sample where its bytes are."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from fasttail import atomic
from fasttail.datasets.spool import BLOCK
from fasttail.shards.columns import COLUMNS, CONTENT, SEEK, ColumnFile, blocks, digest

GROUPS = ("indptr", "samples")  # the columns that are made of the labels


def group_by_class(labels_N: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(indptr int64 [C + 1], samples int64 [N]): ids by class, ascending within a class."""
    indptr = np.zeros(num_classes + 1, np.int64)
    np.cumsum(np.bincount(labels_N, minlength=num_classes), out=indptr[1:])
    # numpy sorts 16-bit keys by radix: linear in N.
    keys_N = labels_N.astype(np.uint16) if num_classes <= 1 << 16 else labels_N
    return indptr, np.argsort(keys_N, kind="stable").astype(np.int64, copy=False)


def write(
    folder: Path,
    pieces: Iterable[Mapping[str, np.ndarray]],
    lengths: Mapping[str, int],
    num_classes: int,
) -> tuple[dict[str, str], str]:
    """Writes the table of one split; returns every column's SHA-256, and the content's digest.

    `pieces`: the columns piece by piece, so that never more than one is in memory; `lengths`: how
    many values each has in all. indptr and samples are made here. The folder appears under its name
    only when all of it is on disk.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    _remove(temporary)
    temporary.mkdir(parents=True)
    kinds = {**COLUMNS, **SEEK}
    files = {
        name: ColumnFile(temporary / f"{name}.npy", kinds[name], length)
        for name, length in lengths.items()
    }
    for piece in pieces:
        for name, file in files.items():
            file.write(piece[name])
    # Together, since a disk takes as long for one fsync as for a few.
    with ThreadPoolExecutor(len(files)) as pool:
        digests = dict(zip(files, pool.map(ColumnFile.close, files.values()), strict=True))
    digests |= _write_groups(temporary, lengths["labels"], num_classes)
    content = _digest_of_files(temporary, CONTENT)
    atomic.fsync_folder(temporary)
    _remove(folder)
    atomic.rename(temporary, folder)
    return {name: digests[name] for name in kinds if name in digests}, content


def _write_groups(folder: Path, samples: int, num_classes: int) -> dict[str, str]:
    """indptr and samples, as `group_by_class` has them, from the labels' file: a block of labels is
    sorted at a time, and each class's ids go behind those that it has already."""
    labels = folder / "labels.npy"
    indptr = np.zeros(num_classes + 1, np.int64)
    for labels_B in blocks(labels, COLUMNS["labels"]):
        indptr[1:] += np.bincount(labels_B, minlength=num_classes)
    np.cumsum(indptr, out=indptr)
    file = ColumnFile(folder / "indptr.npy", COLUMNS["indptr"], num_classes + 1)
    file.write(indptr)
    with (folder / "samples.npy").open("wb") as out:
        about = {"descr": COLUMNS["samples"].str, "fortran_order": False, "shape": (samples,)}
        npy.write_array_header_1_0(out, about)
        out.flush()
        header, ends_C = out.tell(), indptr[:-1].copy()
        for number, labels_B in enumerate(blocks(labels, COLUMNS["labels"])):
            starts, ids_B = group_by_class(labels_B, num_classes)
            ids_B = (ids_B + number * BLOCK).astype(COLUMNS["samples"])
            for c in np.flatnonzero(np.diff(starts)).tolist():
                ids = ids_B[starts[c] : starts[c + 1]]
                os.pwrite(out.fileno(), ids.data, header + 8 * int(ends_C[c]))
                ends_C[c] += len(ids)
        os.fsync(out.fileno())
    return {"indptr": file.close(), "samples": _digest_of_files(folder, ["samples"])}


def content_digest(columns: Mapping[str, np.ndarray]) -> str:
    """Identifies the samples of a split, wherever they are stored."""
    return digest(*(np.ascontiguousarray(columns[c], COLUMNS[c]) for c in CONTENT))


def part_digest(columns: Mapping[str, np.ndarray]) -> str:
    """Identifies a part: its samples and their places in it."""
    return digest(*(np.ascontiguousarray(columns[c], COLUMNS[c]) for c in (*CONTENT, "offsets")))


def _digest_of_files(folder: Path, names: Iterable[str]) -> str:
    """`digest` of columns that are written."""
    h = hashlib.sha256()
    for name in names:
        path, dtype = folder / f"{name}.npy", COLUMNS[name]
        with path.open("rb") as file:
            npy.read_magic(file)
            (length,), _, _ = npy.read_array_header_1_0(file)
        h.update((length * dtype.itemsize).to_bytes(8, "little"))
        for block in blocks(path, dtype):
            h.update(block.data)
    return h.hexdigest()


def _remove(folder: Path) -> None:
    if folder.is_dir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
