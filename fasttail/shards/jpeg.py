"""What a JPEG file says of itself before its pixels: size, coding, colour, EXIF orientation."""

import re
from dataclasses import dataclass, replace

SOI, EOI, SOS, APP1, APP14 = 0xD8, 0xD9, 0xDA, 0xE1, 0xEE
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset((*range(0xD0, 0xD8), 0x01))  # markers without a length
_PROGRESSIVE = 0xC2
_PLAIN = frozenset((0xC0, 0xC1, _PROGRESSIVE))  # the others: baseline, extended; Huffman all three
_ORIENTATION = 0x0112
# In a scan's data 0xFF is followed by 0 or a restart's number: anything else is the next segment.
_SEGMENT = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


class BadImage(Exception):
    """An image that can't be stored, and why."""


@dataclass(frozen=True, slots=True)
class Header:
    """`plain`: every decoder reads it (8-bit Huffman-coded baseline or progressive, grey or three
    components), so that the file is stored as it is."""

    height: int
    width: int
    plain: bool
    progressive: bool
    exif: tuple[int, int] | None  # where the EXIF block is


def is_jpeg(data: bytes) -> bool:
    return data[:3] == b"\xff\xd8\xff"


def read_header(data: bytes) -> Header:
    """The header of a JPEG file. Raises `BadImage` if it has none."""
    at, n = 2, len(data)
    found: Header | None = None
    exif = None
    while True:
        if at + 4 > n:
            raise BadImage(f"JPEG ends at byte {n}, within its header")
        if data[at] != 0xFF:
            raise BadImage(f"JPEG header: no marker at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
            continue
        if marker in _ALONE:
            at += 2
            continue
        if marker == SOS:
            break
        if marker in (EOI, SOI):
            raise BadImage(f"JPEG header: unexpected end or start at byte {at}")
        length = data[at + 2] << 8 | data[at + 3]
        body = at + 4
        if length < 2 or at + 2 + length > n:
            raise BadImage(f"JPEG header: segment at byte {at} reaches past the end")
        if marker in _SOF and found is None:
            if length < 8:
                raise BadImage(f"JPEG header: frame at byte {at} is too short")
            precision, components = data[body], data[body + 5]
            found = Header(
                height=data[body + 1] << 8 | data[body + 2],
                width=data[body + 3] << 8 | data[body + 4],
                plain=marker in _PLAIN and precision == 8 and components in (1, 3),
                progressive=marker == _PROGRESSIVE,
                exif=None,
            )
        elif marker == APP1 and exif is None and data[body : body + 6] == b"Exif\0\0":
            exif = (body + 6, at + 2 + length)
        at += 2 + length
    if found is None:
        raise BadImage("JPEG header: no frame before the first scan")
    if not found.height or not found.width:
        raise BadImage(f"JPEG of {found.width}x{found.height} pixels")
    return replace(found, exif=exif)


def orientation(data: bytes, exif: tuple[int, int] | None) -> int:
    """EXIF orientation 1..8; 1 (as it is) where there is none, or it makes no sense."""
    if exif is None:
        return 1
    tiff = data[exif[0] : exif[1]]
    if tiff[:2] not in (b"II", b"MM"):
        return 1
    order = "little" if tiff[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    start = number(4, 4)
    for k in range(min(number(start, 2), 512)):
        entry = start + 2 + 12 * k
        if entry + 12 > len(tiff):
            return 1
        if number(entry, 2) == _ORIENTATION:
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1


def has_end(data: bytes) -> bool:
    """Whether the file's end-of-image marker is there; bytes may follow it."""
    return data.rfind(b"\xff\xd9") > 0


def scans(data: bytes) -> int:
    """How many scans a JPEG file has, up to its end marker: each may cost a pass over all pixels,
    and take a few bytes."""
    count, at = 0, 2
    while found := _SEGMENT.search(data, at):
        at, marker = found.end(), data[found.end() - 1]
        if marker == EOI:
            break
        if marker not in _ALONE:
            at += int.from_bytes(data[at : at + 2])
        count += marker == SOS
    return count
