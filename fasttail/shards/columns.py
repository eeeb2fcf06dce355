"""The columns of the class-index table, and what their values mean. Light: workers import it."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from fasttail.datasets.spool import BLOCK

JPG, RAW = 0, 1

# The table's columns, one .npy file each: N samples, C classes.
COLUMNS = {
    "indptr": np.dtype("<i8"),  # [C + 1]: class c's samples are samples[indptr[c]:indptr[c + 1]]
    "samples": np.dtype("<i8"),  # [N]: sample ids grouped by class
    "labels": np.dtype("<i4"),  # [N]
    "heights": np.dtype("<i4"),  # [N], pixels
    "widths": np.dtype("<i4"),  # [N], pixels
    "modes": np.dtype("u1"),  # [N]: JPG or RAW
    "parts": np.dtype("<i4"),  # [N]: which of the split's files
    "offsets": np.dtype("<i8"),  # [N]: where in it, bytes
    "sizes": np.dtype("<i8"),  # [N], bytes
    "crc32": np.dtype("<u4"),  # [N], of those bytes
    "names": np.dtype("u1"),  # [bytes]: the source names, one after the other
    "name_starts": np.dtype("<i8"),  # [N + 1]
}
# Columns that a table may have besides: the seek index of its JPEGs.
SEEK = {
    "seek": np.dtype("<u8"),  # [words]: each JPEG's points, as kernels/seek.h has them
    "seek_starts": np.dtype("<i8"),  # [N + 1]: where each sample's begin
}
# The columns that say what a sample is, wherever it lies.
CONTENT = ("labels", "heights", "widths", "modes", "sizes", "crc32")


def mapped(path: Path, dtype: np.dtype, length: int | None) -> np.memmap:
    """A column's file, memory-mapped: `length` values, or any number where it is None.

    Raises `ValueError` or `OSError` if it holds anything else than that. Of its content no byte is
    read, and nothing in it is run.
    """
    with path.open("rb") as file:
        try:
            if npy.read_magic(file) != (1, 0):
                raise ValueError("not the version of .npy that fasttail writes")
            shape, fortran, found = npy.read_array_header_1_0(file)
        except Exception as error:  # noqa: BLE001 - a hostile header raises whatever Python raises
            raise ValueError(f"no .npy file: {error}") from None
        start, end = file.tell(), file.seek(0, 2)
    wanted = shape if length is None else (length,)
    if found != dtype or shape != wanted or len(shape) != 1 or fortran:
        raise ValueError(f"{found} {list(shape)}, not {dtype} {list(wanted)}")
    if end - start != shape[0] * dtype.itemsize:
        raise ValueError(f"{end - start} bytes of values, not {shape[0] * dtype.itemsize}")
    return np.memmap(path, dtype, "r", start, shape)


class ColumnFile:
    """A column's file, written piece by piece: `length` values in all."""

    def __init__(self, path: Path, dtype: np.dtype, length: int) -> None:
        self._dtype = dtype
        self._hash = hashlib.sha256((length * dtype.itemsize).to_bytes(8, "little"))
        self._file = path.open("wb")
        about = {"descr": dtype.str, "fortran_order": False, "shape": (length,)}
        npy.write_array_header_1_0(self._file, about)

    def write(self, piece: np.ndarray) -> None:
        data = np.ascontiguousarray(piece, self._dtype).view(np.uint8).data
        self._hash.update(data)
        self._file.write(data)

    def close(self) -> str:
        """The column is on disk afterwards. Returns its SHA-256."""
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._hash.hexdigest()


def stored(column: np.ndarray, path: Path, dtype: np.dtype) -> str:
    """Writes a column so that it is on disk; returns its SHA-256."""
    file = ColumnFile(path, dtype, len(column))
    file.write(column)
    return file.close()


def blocks(path: Path, dtype: np.dtype) -> Iterator[np.ndarray]:
    """A column's values, read from its file some at a time: mapped, they would fill the memory."""
    with path.open("rb") as file:
        npy.read_magic(file)
        npy.read_array_header_1_0(file)
        while len(block := np.fromfile(file, dtype, BLOCK)):
            yield block


def digest(*pieces: np.ndarray | str | bytes) -> str:
    """SHA-256 of arrays and texts, each with its length, so that no two sequences collide.

    Arrays must be contiguous."""
    h = hashlib.sha256()
    for piece in pieces:
        data = piece.encode("utf-8", "surrogateescape") if isinstance(piece, str) else piece
        data = memoryview(data)  # type: ignore[arg-type] - arrays have a buffer since numpy 1
        h.update(data.nbytes.to_bytes(8, "little"))
        h.update(data)
    return h.hexdigest()
