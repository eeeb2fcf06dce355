"""The tar container: WebDataset shards, one sample after the other.

    000000812.jpg | 000000812.cls | 000000813.jpg | 000000813.cls | ...

Every reader of WebDataset shards reads them, and with the index file that is written beside each
(`train-00000.idx`, version 1.2) DALI's `fn.readers.webdataset` does. Raw pixels are `.ppm` members:
the table points behind their text header. Where an image was left out there is a member without a
dot in its name, which readers pass over.
"""

from dataclasses import dataclass

import numpy as np

from fasttail.shards.beton import write_all
from fasttail.shards.columns import JPG, RAW

SUFFIX = ".tar"
BLOCK = 512
_GAP = "__left_out__"
_EXTENSIONS = {JPG: "jpg", RAW: "ppm"}


@dataclass(frozen=True)
class Tar:
    """How samples are laid into a tar file."""

    suffix: str = SUFFIX

    def start(self, num_samples: int) -> int:
        return 0

    def room(self, size: int, mode: int) -> int:
        # A raw image's text header has as many digits as its size: not known yet.
        return 0 if mode == RAW else BLOCK + _up(size) + 2 * BLOCK

    def begin_chunk(self, cursor: int) -> int:
        return cursor

    def place(self, cursor: int, room: int) -> int:
        return cursor

    def frame(
        self, key: int, size: int, mode: int, height: int, width: int, label: int
    ) -> tuple[bytes, bytes]:
        prefix = b"P6\n%d %d\n255\n" % (width, height) if mode == RAW else b""
        member = len(prefix) + size
        cls = b"%d" % label
        before = header(f"{_key(key)}.{_EXTENSIONS[mode]}", member) + prefix
        after = _pad(member) + header(f"{_key(key)}.cls", len(cls)) + cls + _pad(len(cls))
        return before, after

    def fill(self, room: int) -> bytes:
        return header(_GAP, room - BLOCK)

    def finish(self, fd: int, end: int, columns: dict[str, np.ndarray]) -> int:
        write_all(fd, bytes(2 * BLOCK), end)
        return end + 2 * BLOCK

    def companion(
        self, columns: dict[str, np.ndarray], keys_N: np.ndarray
    ) -> tuple[str, bytes] | None:
        """DALI's index: for every sample its members' extension, offset, size and name, in the
        file's order."""
        lines = [f"v1.2 {len(keys_N)}"]
        order_N = np.argsort(columns["offsets"])
        for key, label, mode, height, width, offset, size in zip(
            keys_N[order_N].tolist(),
            *(
                columns[c][order_N].tolist()
                for c in ("labels", "modes", "heights", "widths", "offsets", "sizes")
            ),
            strict=True,
        ):
            before, after = self.frame(key, size, mode, height, width, label)
            start, member = offset - (len(before) - BLOCK), size + len(before) - BLOCK
            cls_at = offset + size + len(after) - BLOCK
            name, extension = _key(key), _EXTENSIONS[mode]
            lines.append(
                f"{extension} {start} {member} {name}.{extension} "
                f"cls {cls_at} {len(str(label))} {name}.cls"
            )
        return ".idx", "\n".join((*lines, "")).encode()


def header(name: str, size: int) -> bytes:
    """The block before a member: ustar, mode 644, no owner, no time, so that bytes are the same."""
    fields = (
        (name.encode(), 100),
        (b"0000644\0", 8),
        (b"0000000\0", 8),
        (b"0000000\0", 8),
        (b"%011o\0" % size, 12),
        (b"00000000000\0", 12),
        (b" " * 8, 8),  # the checksum counts itself as blanks
        (b"0", 1),
        (b"", 100),
        (b"ustar\00000", 8),
    )
    block = b"".join(value.ljust(length, b"\0") for value, length in fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _key(number: int) -> str:
    return f"{number:09d}"


def _up(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _pad(size: int) -> bytes:
    return bytes(_up(size) - size)
