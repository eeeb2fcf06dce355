"""Whether a file of shards that came from a store is what was written."""

from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
from numpy.lib import format as npy

from fasttail.shards import columns, table

if TYPE_CHECKING:
    from fasttail.shards.reader import Split


def wrong_column(path: Path, digest: str | None) -> str | None:
    """What is wrong with a column's file, by its SHA-256 in dataset.json; None if nothing is."""
    try:
        with path.open("rb") as file:
            npy.read_magic(file)
            npy.read_array_header_1_0(file)
            start = file.tell()
        values = np.memmap(path, np.uint8, "r", start) if path.stat().st_size > start else b""
    except (OSError, ValueError) as error:
        return f"no .npy file: {error}"
    return None if columns.digest(values) == digest else "its digest is not dataset.json's"


def wrong_part(path: Path, split: "Split", part: int) -> str | None:
    """What is wrong with a part's file, by its size in dataset.json and each sample's crc32; None
    if nothing is."""
    about, size = split.meta.parts[part], path.stat().st_size
    if size != about.bytes:
        return f"{size} bytes, but it was written with {about.bytes}"
    # Samples lie in the order of their parts: whether these are the part's, its digest says.
    first, last = np.searchsorted(split.parts_N, np.array([part, part + 1], split.parts_N.dtype))
    rows = {name: split.column(name)[first:last] for name in (*columns.CONTENT, "offsets")}
    if last - first != about.samples or table.part_digest(rows) != about.digest:
        return "its digest in dataset.json is not that of the table"
    content = np.memmap(path, np.uint8, "r")
    for k, (start, length) in enumerate(zip(rows["offsets"], rows["sizes"], strict=True)):
        if crc32(content[start : start + length].data) != rows["crc32"][k]:
            return f"the checksum of sample {first + k} differs from the table's"
    return None
