"""A worker process of the conversion: reads, checks and writes one chunk of images at a time.

It is started as a process of its own, without torch or numba, and does what `pool.Pool` sends it.
A decoder may crash or hang on a hostile image; the pool then sees from `Status` which image it was.

    Task  -> for every image: read, prepare, crc32, write to its slot or to the spool
    Done  <- where each went, which were rejected and why

An image whose stored size was known beforehand (a JPEG file that goes in as it is) is written to
its slot in the part. Any other is appended to the chunk's spool file, from where the part's tail is
filled in the images' order: so the file's bytes do not depend on how many workers there are.
"""

import ctypes
import fcntl
import mmap
import os
import pickle
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isqrt
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np
from PIL import Image

from fasttail.datasets.base import Images
from fasttail.errors import UserError
from fasttail.shards import program
from fasttail.shards.columns import RAW
from fasttail.shards.containers import Container
from fasttail.shards.image import (
    APPLIED,
    BIG_PIXELS,
    IGNORED,
    Rule,
    Stored,
    pixels_of,
    ppm_header,
    prepare,
)
from fasttail.shards.jpeg import BadImage

ABSENT, SLOT, SPOOL, REJECTED = 0, 1, 2, 3
ROW = np.dtype(
    [
        ("state", "u1"),
        ("mode", "u1"),
        ("lead", "<u2"),  # bytes of framing before the image's own
        ("trail", "<u2"),  # and after
        ("height", "<i4"),
        ("width", "<i4"),
        ("crc32", "<u4"),
        ("seek", "<u4"),  # words of its seek index
        ("size", "<i8"),  # of the image's own bytes
        ("at", "<i8"),  # where its framing begins, in the part or in the spool
    ]
)
MEASURED_PIXELS = 1 << 14  # of an image, about, where mean and std are measured
MAX_ADDRESS_BYTES = 6 << 30  # a decoder that wants more is refused the memory


@dataclass(frozen=True)
class Place:
    """Where a chunk of K images goes. `slots_K`: where each may be written, -1 for nowhere."""

    part: str
    spool: str
    first: int  # the split's number of the chunk's first image
    slots_K: np.ndarray
    rooms_K: np.ndarray


@dataclass(frozen=True)
class Task:
    """A chunk of K images.

    "store": to be written to `place`. "look": they stay where they are, and only what is known of
    them comes back. "hand": what would be stored comes back. `seek`: the file for the words of
    their seek indices, if there are to be any.
    """

    number: int
    kind: Literal["store", "look", "hand"]
    images: Images
    labels_K: np.ndarray
    measured_K: np.ndarray
    seek: str = ""
    place: Place | None = None
    skip: dict[int, str] = field(default_factory=dict)  # images that killed a worker, and how


@dataclass(frozen=True)
class Done:
    """What became of a chunk. `sums`: of the measured images, pixels, and per channel their sum and
    the sum of their squares. `handed`: of "hand", images by their place."""

    number: int
    rows_K: np.ndarray
    rejected: list[tuple[int, str]]
    damaged: list[tuple[int, str]]  # stored, re-encoded
    kinds: dict[str, int]
    sums: list[int]
    handed: dict[int, Stored] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """The chunk could not be written: the disk is full, or something is wrong with this program."""

    errno: int | None
    text: str
    mistake: bool = False  # the user's: one line, no traceback


class Status:
    """What a worker does, in memory that its parent sees: task, image, since when it decodes."""

    _LAYOUT = struct.Struct("<qqd")

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, self._LAYOUT.size)

    def set(self, task: int, image: int, since: float) -> None:
        """`since` 0: it is not decoding. `image` -1: between two chunks."""
        self._LAYOUT.pack_into(self._memory, 0, task, image, since)

    def get(self) -> tuple[int, int, float]:
        return self._LAYOUT.unpack_from(self._memory, 0)

    def close(self) -> None:
        self._memory.close()


def main() -> None:
    """The process: its arguments are CONNECTION_FD STATUS_FD LOCK_FD PARENT_PID."""
    connection_fd, status_fd, lock_fd, parent = map(int, sys.argv[1:5])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when it ends
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: not to outlive the parent
    if os.getppid() != parent:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_BYTES, MAX_ADDRESS_BYTES))
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # the rule's own limit holds
    connection, status = Connection(connection_fd), Status(status_fd)
    try:
        rule, container, started_by = connection.recv()
        program.lend(started_by)
        _silence_libraries()
        worker = Worker(rule, container, status, lock_fd)
        while True:
            connection.send(_answer(worker, connection.recv_bytes()))
    except (EOFError, ConnectionError):
        return  # the parent is done, or gone


def _silence_libraries() -> None:
    """libtiff and others complain on stderr about every bad image; the list of rejected ones tells.
    What Python has to say is still heard."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _answer(worker: "Worker", packed: bytes) -> Done | Failed:
    """What became of a task, which may be of a class that can't be found here."""
    try:
        return worker.run(pickle.loads(packed))  # noqa: S301 - from the parent
    except UserError as error:
        return Failed(None, str(error), mistake=True)
    except Exception:  # noqa: BLE001 - it is sent to the parent, which raises it
        return Failed(None, traceback.format_exc())


class Worker:
    """Does tasks. Holds the two files open that it writes to."""

    def __init__(self, rule: Rule, container: Container, status: Status, lock_fd: int) -> None:
        self.rule = rule
        self.container = container
        self.status = status
        # Opened again: a lock belongs to an opening, and this one was opened by the parent.
        self.lock_fd = os.open(f"/proc/self/fd/{lock_fd}", os.O_RDWR | os.O_CLOEXEC)
        self._libc = ctypes.CDLL(None)
        self._open: dict[str, tuple[str, int]] = {}
        self._seeks: list[bytes] = []  # of the chunk's images, in their order
        self._now = (0, 0)

    def run(self, task: Task) -> Done | Failed:
        rows = np.zeros(len(task.labels_K), ROW)
        done = Done(task.number, rows, [], [], {}, [0] * 7)
        do = {"store": self._store, "look": self._look, "hand": self._hand}[task.kind]
        self._seeks.clear()
        try:
            for k in range(len(rows)):
                try:
                    if k in task.skip:
                        raise BadImage(task.skip[k])
                    source = self._read(task, k)
                    self._decoding(task.number, k)
                    do(task, k, source, done)
                except BadImage as error:
                    rows[k]["state"] = REJECTED
                    done.rejected.append((k, str(error)))
                    self._leave_empty(task.place, k)
                finally:
                    self.status.set(task.number, k, 0.0)
            self._begin_writeback(task.place)
            if task.seek and self.rule.seek_spacing:
                Path(task.seek).write_bytes(b"".join(self._seeks))
        except OSError as error:
            return Failed(error.errno, f"{error}")
        finally:
            self.status.set(task.number, -1, 0.0)
        return done

    def _store(self, task: Task, k: int, source: bytes | np.ndarray, done: Done) -> None:
        stored = self._prepare(task, k, source)
        self._note(task, k, stored, done)
        assert task.place is not None
        place, row = task.place, done.rows_K[k]
        before, after = self.container.frame(
            place.first + k,
            len(stored.data),
            stored.mode,
            stored.height,
            stored.width,
            int(task.labels_K[k]),
        )
        row["lead"], row["trail"] = len(before), len(after)
        slot = int(place.slots_K[k])
        if slot >= 0 and len(before) + len(stored.data) + len(after) == place.rooms_K[k]:
            row["state"], row["at"] = SLOT, slot
            fd = self._file("part", place.part, os.O_WRONLY)
        else:
            self._leave_empty(place, k)
            fd = self._file("spool", place.spool, os.O_WRONLY | os.O_CREAT)
            row["state"], row["at"] = SPOOL, os.lseek(fd, 0, os.SEEK_END)
        self.status.set(task.number, k, 0.0)
        pieces = [piece for piece in (before, stored.data, after) if piece]
        _write(fd, pieces, int(row["at"]))

    def _look(self, task: Task, k: int, source: bytes | np.ndarray, done: Done) -> None:
        assert isinstance(source, bytes)
        header = ppm_header(source)
        if header is None:
            stored = self._prepare(task, k, source)
            if stored.kind != "as is":
                raise BadImage(
                    stored.damage
                    or "no JPEG that can be used where it is: fasttail convert --dataset webdataset"
                )
        else:
            lead, height, width = header
            stored = Stored(RAW, height, width, source[lead:], "raw")
            done.rows_K[k]["lead"] = lead
        self._note(task, k, stored, done)
        done.rows_K[k]["state"] = SLOT

    def _hand(self, task: Task, k: int, source: bytes | np.ndarray, done: Done) -> None:
        done.handed[k] = self._prepare(task, k, source)

    def _prepare(self, task: Task, k: int, source: bytes | np.ndarray) -> Stored:
        return prepare(source, self.rule, decode=bool(task.measured_K[k]), big=self._big)

    def _note(self, task: Task, k: int, stored: Stored, done: Done) -> None:
        row = done.rows_K[k]
        row["mode"], row["height"], row["width"] = stored.mode, stored.height, stored.width
        row["crc32"], row["size"] = crc32(stored.data), len(stored.data)
        if task.measured_K[k]:
            _measure(done.sums, pixels_of(stored.mode, stored.height, stored.width, stored.data))
        if stored.damage:
            done.damaged.append((k, stored.damage))
        kind = stored.kind
        if stored.turned:
            kind += APPLIED if self.rule.exif == "apply" else IGNORED
        done.kinds[kind] = done.kinds.get(kind, 0) + 1
        row["seek"] = len(stored.seek) // 8
        self._seeks.append(stored.seek)

    def _leave_empty(self, place: Place | None, k: int) -> None:
        """A container may want to know where a slot is not used."""
        if place is None or place.slots_K[k] < 0:
            return
        if filler := self.container.fill(int(place.rooms_K[k])):
            fd = self._file("part", place.part, os.O_WRONLY)
            _write(fd, [filler], int(place.slots_K[k]))

    def _begin_writeback(self, place: Place | None) -> None:
        """Has the kernel write the chunk to disk while the next is worked on: the fsync at a part's
        end then has little left to do. Where that is not possible, nothing is lost."""
        if place is None or not (place.slots_K >= 0).any():
            return
        fd = self._file("part", place.part, os.O_WRONLY)
        start = int(place.slots_K[place.slots_K >= 0][0])
        end = int((place.slots_K + place.rooms_K).max())
        write = 2  # SYNC_FILE_RANGE_WRITE
        self._libc.sync_file_range(fd, ctypes.c_int64(start), ctypes.c_int64(end - start), write)

    def _read(self, task: Task, k: int) -> bytes | np.ndarray:
        self.status.set(task.number, k, 0.0)
        try:
            return task.images.read(k)
        except OSError as error:
            raise BadImage(f"cannot be read: {error.strerror or error}") from None

    def _decoding(self, task: int, k: int) -> None:
        self._now = (task, k)
        self.status.set(task, k, time.monotonic())

    @contextmanager
    def _big(self, pixels: int) -> Iterator[None]:
        """One process at a time decodes a big image: memory. Waiting does not count as decoding."""
        if pixels <= BIG_PIXELS:
            yield
            return
        self.status.set(*self._now, 0.0)
        fcntl.flock(self.lock_fd, fcntl.LOCK_EX)
        try:
            self._decoding(*self._now)
            yield
        finally:
            fcntl.flock(self.lock_fd, fcntl.LOCK_UN)

    def _file(self, what: str, path: str, flags: int) -> int:
        opened, fd = self._open.get(what, ("", -1))
        if opened != path:
            if fd >= 0:
                os.close(fd)
            fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
            self._open[what] = (path, fd)
        return fd


def _measure(sums: list[int], pixels_HWC: np.ndarray) -> None:
    """Adds an image's pixels; of a large image those of a grid, as exact integers, whose sum does
    not depend on the order in which images are measured."""
    step = max(1, isqrt(pixels_HWC.shape[0] * pixels_HWC.shape[1] // MEASURED_PIXELS))
    values = pixels_HWC[::step, ::step].reshape(-1, 3).astype(np.uint32)
    sums[0] += len(values)
    for c in range(3):
        sums[1 + c] += int(values[:, c].sum(dtype=np.uint64))
        sums[4 + c] += int(np.square(values[:, c]).sum(dtype=np.uint64))


def _write(fd: int, pieces: list[bytes], at: int) -> None:
    written = os.pwritev(fd, pieces, at)
    total = sum(map(len, pieces))
    while written < total:  # a signal, or more than 2 GiB
        rest = b"".join(pieces)[written:]
        done = os.pwrite(fd, rest, at + written)
        written += done
