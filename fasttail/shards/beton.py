"""The .beton container: FFCV's file format, version 2, written and read by our own code.

    header | 2 field descriptions | metadata of every sample | image bytes ... | allocation table

Layout, all little-endian, from FFCV 1.0.2's `types.py` and `fields/`: see the dtypes below. What
stock FFCV asks of the image bytes: its page cache (`os_cache=False`) takes a sample out of one
page, so no sample may straddle one; a page's size is a power of two; both of its readers look a
sample's size up in the allocation table by its place. A sample larger than a page begins at a
multiple of the next power of two above its size, and the header then says that larger page size: so
both readers read every file that is written here.

Between samples there may be gaps: up to a page's end, and where an image was left out.
"""

import os
from dataclasses import dataclass

import numpy as np

from fasttail.errors import UserError

SUFFIX = ".beton"
FFCV_VERSION = 2
PAGE = 8 << 20  # FFCV's own default
ALIGN = 4096

HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)
FIELD = np.dtype([("type_id", "u1"), ("name", "u1", 16), ("arguments", "u1", 1024)], align=True)
# A packed struct in an aligned one: the image's 13 bytes, 3 of padding, the label.
SAMPLE = np.dtype(
    [
        (
            "image",
            np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")]),
        ),
        ("label", "<i8"),
    ],
    align=True,
)
ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
_FIELDS = (("image", 2), ("label", 1))  # name, FFCV's type: RGBImageField, IntField
_METADATA_AT = HEADER.itemsize + len(_FIELDS) * FIELD.itemsize


@dataclass(frozen=True)
class Beton:
    """How samples are laid into a .beton file."""

    suffix: str = SUFFIX

    def start(self, num_samples: int) -> int:
        """Where the first image may lie, for a file of up to so many samples."""
        return _up(_METADATA_AT + num_samples * SAMPLE.itemsize, ALIGN)

    def room(self, size: int, mode: int) -> int:
        """Bytes that an image of `size` bytes takes in the file; 0 if that is not known yet."""
        return size

    def begin_chunk(self, cursor: int) -> int:
        """Where a chunk of images may begin: processes that write two chunks share no page of
        memory, which network file systems would mind."""
        return _up(cursor, ALIGN)

    def place(self, cursor: int, room: int) -> int:
        """Where the next sample begins, if the file is filled up to `cursor`."""
        if room > PAGE:
            return _up(cursor, 1 << (room - 1).bit_length())
        if cursor // PAGE != (cursor + room - 1) // PAGE:
            return _up(cursor, PAGE)
        return cursor

    def frame(
        self, key: int, size: int, mode: int, height: int, width: int, label: int
    ) -> tuple[bytes, bytes]:
        """What goes right before and right after the image's bytes."""
        return b"", b""

    def fill(self, room: int) -> bytes:
        """What stands at the beginning of a gap."""
        return b""

    def finish(self, fd: int, end: int, columns: dict[str, np.ndarray]) -> int:
        """Writes what surrounds the images, which reach up to `end`; returns the file's size."""
        head, table = self.surroundings(end, columns)
        write_all(fd, head, 0)
        write_all(fd, table, end)
        os.ftruncate(fd, end + len(table))
        return end + len(table)

    def companion(
        self, columns: dict[str, np.ndarray], keys_N: np.ndarray
    ) -> tuple[str, bytes] | None:
        return None

    def surroundings(self, end: int, columns: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
        """(header, descriptions and metadata; allocation table) for samples in their order."""
        n = len(columns["labels"])
        header = np.zeros((), HEADER)
        header["version"], header["num_fields"] = FFCV_VERSION, len(_FIELDS)
        largest = int(columns["sizes"].max())
        header["page_size"] = max(PAGE, 1 << (largest - 1).bit_length())
        header["num_samples"], header["alloc_table_ptr"] = n, end
        fields = np.zeros(len(_FIELDS), FIELD)
        for field, (name, type_id) in zip(fields, _FIELDS, strict=True):
            field["type_id"] = type_id
            field["name"][: len(name)] = np.frombuffer(name.encode(), np.uint8)
        samples = np.zeros(n, SAMPLE)
        samples["image"]["mode"] = columns["modes"]
        samples["image"]["width"] = columns["widths"]
        samples["image"]["height"] = columns["heights"]
        samples["image"]["data_ptr"] = columns["offsets"]
        samples["label"] = columns["labels"]
        allocations = np.zeros(n, ALLOCATION)
        allocations["sample_id"] = np.arange(n)
        allocations["ptr"], allocations["size"] = columns["offsets"], columns["sizes"]
        head = header.tobytes() + fields.tobytes() + samples.tobytes()
        return head, allocations.tobytes()


def read_end(part: np.ndarray, file: str) -> int:
    """Where the images of a .beton end and the allocation table begins. `part` uint8 [bytes].

    Raises `UserError` if it is none that this fasttail reads.
    """
    if len(part) < _METADATA_AT:
        raise UserError(f"{file}: {len(part)} bytes: too short to be a .beton file")
    header = part[: HEADER.itemsize].view(HEADER)[0]
    if header["version"] != FFCV_VERSION:
        raise UserError(
            f"{file}: .beton version {header['version']}: fasttail reads and writes FFCV's version "
            f"{FFCV_VERSION}"
        )
    return int(header["alloc_table_ptr"])


def sample_of(at: int) -> int | None:
    """Whose metadata the byte at `at` belongs to, or None before the first's."""
    return None if at < _METADATA_AT else (at - _METADATA_AT) // SAMPLE.itemsize


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def write_all(fd: int, data: bytes, at: int) -> None:
    """`pwrite`, however many turns it takes."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written
