"""What a data set is before it is converted: images by number, labels, class names. No tensors.

Each data set is one module with `index(source, cfg) -> Index`.

    FileImages   image files under a folder
    TarImages    members of tar files (see `tars.py`)
    ArrayImages  pixels that are in memory already
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from zlib import crc32

import numpy as np

from fasttail.datasets.namelist import Names
from fasttail.datasets.spool import forget, scratch
from fasttail.errors import UserError

# Files whose content is stored byte for byte if it is what the name says.
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
MAX_FILE_BYTES = 1 << 30  # a larger file is no image
PROBE_BYTES = 4096
# What is looked for in folders. A file with another name is no image of the data set.
IMAGE_SUFFIXES = (
    *JPEG_SUFFIXES,
    *(".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".jp2", ".j2k"),
)


@dataclass(frozen=True)
class Facts:
    """What is known of N images before one is read.

    bytes_N  int64, the size of the file or of the pixels
    plain_N  bool, whether those bytes are expected to be stored as they are
    stamp_N  int64, a number that changes when the image does (-1: it is not there)
    """

    bytes_N: np.ndarray
    plain_N: np.ndarray
    stamp_N: np.ndarray

    def cut(self, start: int, stop: int) -> "Facts":
        """Those of the images from `start` on, in arrays of their own."""
        return self.take(np.arange(start, stop))

    def take(self, which_N: np.ndarray) -> "Facts":
        """Those of the images at these positions, in this order."""
        return Facts(self.bytes_N[which_N], self.plain_N[which_N], self.stamp_N[which_N])


class Images(Protocol):
    """Images by number. Picklable: `pick` makes the small piece that goes to a worker process."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """What a person knows image i by: its path under the source, or e.g. `digits[12]`."""
        ...

    def read(self, i: int) -> bytes | np.ndarray:
        """Image i as an image file's bytes, or as pixels uint8 [H, W, 3].

        Raises `OSError` if it can't be read.
        """
        ...

    def probe(self, i: int) -> bytes:
        """A few bytes that tell most images of one size apart: of the middle, or a checksum.

        Raises `OSError` if it can't be read.
        """
        ...

    def pick(self, which_N: np.ndarray) -> "Images":
        """The images at these positions, in this order, without the others."""
        ...

    def facts(self) -> Facts: ...


@dataclass(frozen=True)
class Expected:
    """Images that have to be what they were when they were listed: `read` looks, and hands their
    size and stamp to `refuse`."""

    bytes_N: np.ndarray
    stamp_N: np.ndarray

    def take(self, which_N: np.ndarray) -> "Expected":
        return Expected(self.bytes_N[which_N], self.stamp_N[which_N])

    def refuse(self, what: object, i: int, size: int, stamp: int) -> None:
        """Raises `UserError` if image i, which is in the file `what`, is another one now."""
        if size != self.bytes_N[i] or stamp != self.stamp_N[i]:
            was = f"{self.bytes_N[i]:,} bytes" if self.stamp_N[i] >= 0 else "not there"
            now = f"{size:,}" if size != self.bytes_N[i] else "written to since"
            raise UserError(
                f"{what} has changed since the source was listed: it was {was}, and is {now}: "
                "list the source again with fasttail convert --plan, or without --plan convert "
                "again; what has not changed is not made again"
            )


def expecting(images: Images, facts: Facts) -> Images:
    """The same images, which `read` refuses once they are no longer what `facts` say of them, if
    images of their kind can tell: those with a field `expected`."""
    if not hasattr(images, "expected"):
        return images
    expected = Expected(facts.bytes_N, facts.stamp_N)
    return replace(images, expected=expected)  # type: ignore[type-var] - dataclasses have fields


@dataclass(frozen=True)
class FileImages:
    """Image files under a root; `paths` are relative to it.

    `inside`: the paths come out of a file, so an image that is a symbolic link out of the root is
    refused when it is read. (That the paths themselves stay inside is for the reader of that file
    to see to: `paths.refuse_outside`.)
    """

    root: Path
    paths: Sequence[str]
    inside: bool = False
    expected: Expected | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        return self.paths[i]

    def read(self, i: int) -> bytes:
        with self._open(i) as (fd, found):
            if self.expected is not None:
                path = f"{self.root}/{self.paths[i]}"
                self.expected.refuse(path, i, found.st_size, found.st_mtime_ns)
            return _read_all(fd, found.st_size)

    def probe(self, i: int) -> bytes:
        with self._open(i) as (fd, found):
            return os.pread(fd, PROBE_BYTES, max(found.st_size - PROBE_BYTES, 0) // 2)

    @contextmanager
    def _open(self, i: int) -> Iterator[tuple[int, os.stat_result]]:
        """(file descriptor, what is known of the file) of image i."""
        path = f"{self.root}/{self.paths[i]}"
        # O_NONBLOCK: opening a named pipe would wait for a writer for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise OSError("no regular file")
            if found.st_size > MAX_FILE_BYTES:
                raise OSError(f"{found.st_size} bytes: too large for an image")
            if self.inside and Path(path).is_symlink():
                real = Path(path).resolve()
                if not real.is_relative_to(self.root.resolve()):
                    raise OSError(f"a symbolic link that leaves {self.root}")
            yield fd, found
        finally:
            os.close(fd)

    def pick(self, which_N: np.ndarray) -> "FileImages":
        if isinstance(self.paths, Names):
            paths: Sequence[str] = self.paths.pick(which_N)
        else:
            paths = tuple(self.paths[int(i)] for i in which_N)
        expected = self.expected and self.expected.take(which_N)
        return FileImages(self.root, paths, self.inside, expected)

    def facts(self) -> Facts:
        n = len(self)
        bytes_N = scratch(n, np.int64)
        stamp_N = scratch(n, np.int64, -1)
        plain_N = scratch(n, np.bool_)

        def look(start: int) -> None:
            for i, path in enumerate(self.paths[start : start + 4096], start):
                try:
                    found = os.stat(f"{self.root}/{path}")  # noqa: PTH116 - ten times as fast
                except OSError:
                    continue  # the conversion will say why
                bytes_N[i], stamp_N[i] = found.st_size, found.st_mtime_ns
                is_jpeg = path.lower().endswith(JPEG_SUFFIXES)
                plain_N[i] = is_jpeg and found.st_size <= MAX_FILE_BYTES
            forget(bytes_N, stamp_N, plain_N)

        # Threads are for network file systems, where each answer takes its time.
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(look, range(0, n, 4096)))
        return Facts(bytes_N, plain_N, stamp_N)


def _read_all(fd: int, size: int) -> bytes:
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    pieces = [data]  # Linux reads at most 2 GiB at once, and files may grow
    while piece := os.read(fd, 1 << 24):
        pieces.append(piece)
    return b"".join(pieces)


@dataclass(frozen=True)
class ArrayImages:
    """Images that are in memory already: `pixels_NHWC` is uint8 [N, H, W, 3].

    Image i is known as `what[i]`, or as `what[ids_N[i]]` where ids are given.
    """

    pixels_NHWC: np.ndarray
    what: str
    ids_N: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pixels_NHWC)

    def name(self, i: int) -> str:
        return f"{self.what}[{i if self.ids_N is None else self.ids_N[i]}]"

    def read(self, i: int) -> np.ndarray:
        return self.pixels_NHWC[i]

    def probe(self, i: int) -> bytes:
        pixels = self.pixels_NHWC[i].reshape(-1)
        start = max(len(pixels) - PROBE_BYTES, 0) // 2
        return pixels[start : start + PROBE_BYTES].tobytes()

    def pick(self, which_N: np.ndarray) -> "ArrayImages":
        ids_N = np.asarray(which_N) if self.ids_N is None else self.ids_N[which_N]
        return ArrayImages(self.pixels_NHWC[which_N], self.what, ids_N)

    def facts(self) -> Facts:
        n, h, w, _ = self.pixels_NHWC.shape
        return Facts(
            bytes_N=np.full(n, h * w * 3, np.int64),
            plain_N=np.ones(n, bool),
            stamp_N=np.array([crc32(image.tobytes()) for image in self.pixels_NHWC], np.int64),
        )


@dataclass(frozen=True)
class SplitIndex:
    """The images of one split and their labels int64 [N], each in 0..C-1.

    `groups_N` int64 [N], where groups are known: images with one number belong together, and no
    two splits have images of one (`splits.py`). `facts`, where they were looked up already: on a
    network file system that takes its time.
    """

    images: Images
    labels_N: np.ndarray
    groups_N: np.ndarray | None = None
    facts: Facts | None = None

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels_N):
            raise ValueError(f"{len(self.images)} images but {len(self.labels_N)} labels")

    def take(self, which_N: np.ndarray) -> "SplitIndex":
        """The samples at these positions, in this order."""
        groups_N = None if self.groups_N is None else self.groups_N[which_N]
        facts = None if self.facts is None else self.facts.take(which_N)
        return SplitIndex(self.images.pick(which_N), self.labels_N[which_N], groups_N, facts)


@dataclass(frozen=True)
class Index:
    """A data set, found but not yet converted.

    `splits` maps "train" and, where there are any, "val" and "test" to their samples. `mean` and
    `std` are per channel, of pixels scaled to 0..1, and are what training normalises by; None has
    them measured on train while it is converted.
    """

    name: str
    class_names: tuple[str, ...]
    splits: Mapping[str, SplitIndex]
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    notes: tuple[str, ...] = ()
    val_fraction: float = 0.0

    def __post_init__(self) -> None:
        if "train" not in self.splits:
            raise UserError(f"{self.name}: no train split was found")
        for split, found in self.splits.items():
            if not len(found.labels_N):
                raise UserError(f"{self.name}: {split} has no image: add images, or leave it out")
        for name in self.class_names:
            if not name.isprintable():
                raise UserError(f"{self.name}: the name of class {name!a} can't be printed")
        counts_C = self.counts("train")
        if len(counts_C) > len(self.class_names):
            raise ValueError(f"label {len(counts_C) - 1} but {len(self.class_names)} class names")
        empty = [self.class_names[c] for c in np.flatnonzero(counts_C == 0)]
        if empty:
            shown = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
            raise UserError(
                f"{self.name}: train has no image of {len(empty)} of {len(self.class_names)} "
                f"classes ({shown}): add images, or take the classes out"
            )

    def counts(self, split: str) -> np.ndarray:
        """Images per class of a split, int64 [C]."""
        return np.bincount(self.splits[split].labels_N, minlength=len(self.class_names))
