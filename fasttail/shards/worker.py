"""A worker process of the conversion: reads, checks and writes one chunk of images at a time.

It is started as a process of its own, without torch or numba, and does what `pool.Pool` sends it.
A decoder may crash or hang on a hostile image; the pool then sees from `Status` which image it was.

    Task  -> for every image: read, prepare, crc32, write to its slot or to the spool
    Done  <- where each went, which were rejected and why

An image whose stored size was known beforehand (a JPEG file that goes in as it is) is written to its
slot in the part. Any other is appended to the worker's spool file, from where the part's tail is
filled in the images' order: so the file's bytes do not depend on how many workers there are.
"""

import ctypes
import fcntl
import mmap
import os
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
from multiprocessing.connection import Connection
from zlib import crc32

import numpy as np

from fasttail.datasets.base import Images
from fasttail.shards.containers import Container
from fasttail.shards.image import BIG_PIXELS, Rule, dimensions, pixels_of, prepare
from fasttail.shards.jpeg import BadImage

ABSENT, SLOT, SPOOL, REJECTED = 0, 1, 2, 3
ROW = np.dtype(
    [
        ("state", "u1"),
        ("mode", "u1"),
        ("lead", "<u2"),  # bytes of framing before the image's own
        ("height", "<i4"),
        ("width", "<i4"),
        ("crc32", "<u4"),
        ("size", "<i8"),  # of the image's own bytes
        ("at", "<i8"),  # where its framing begins, in the part or in the spool
    ]
)
MAX_ADDRESS_BYTES = 6 << 30  # a decoder that wants more is refused the memory


@dataclass(frozen=True)
class Task:
    """A chunk of K images of one part. `slots_K`: where each may be written, -1 for nowhere."""

    number: int
    part: str
    spool: str
    images: Images
    first: int  # the split's number of the chunk's first image
    labels_K: np.ndarray
    slots_K: np.ndarray
    rooms_K: np.ndarray
    raw_K: np.ndarray
    measured_K: np.ndarray
    skip: dict[int, str] = field(default_factory=dict)  # images that killed a worker, and how
    only_dimensions: bool = False


@dataclass(frozen=True)
class Done:
    """What became of a chunk. `sums`: of the measured images, pixels, and per channel their sum and
    the sum of their squares."""

    number: int
    rows_K: np.ndarray
    rejected: tuple[tuple[int, str], ...]
    kinds: dict[str, int]
    sums: tuple[int, ...]


@dataclass(frozen=True)
class Failed:
    """The chunk could not be written: the disk is full, or something is wrong with this program."""

    number: int
    errno: int | None
    text: str


class Status:
    """What a worker is doing, in memory that its parent sees: task, image, since when it decodes."""

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
    connection, status = Connection(connection_fd), Status(status_fd)
    try:
        rule, container = connection.recv()
        worker = Worker(rule, container, status, lock_fd)
        while True:
            task = connection.recv()
            connection.send(worker.run(task))
    except (EOFError, ConnectionError):
        return  # the parent is done, or gone


class Worker:
    """Does tasks. Holds the two files open that it writes to."""

    def __init__(self, rule: Rule, container: Container, status: Status, lock_fd: int) -> None:
        self.rule = rule
        self.container = container
        self.status = status
        # Opened anew: a lock belongs to an opening, and this one was opened by the parent.
        self.lock_fd = os.open(f"/proc/self/fd/{lock_fd}", os.O_RDWR | os.O_CLOEXEC)
        self._open: dict[str, tuple[str, int]] = {}
        self._now = (0, 0)

    def run(self, task: Task) -> Done | Failed:
        try:
            return self._dimensions(task) if task.only_dimensions else self._store(task)
        except OSError as error:
            return Failed(task.number, error.errno, f"{error}")
        except Exception:  # noqa: BLE001 - it is sent to the parent, which raises it
            return Failed(task.number, None, traceback.format_exc())
        finally:
            self.status.set(task.number, -1, 0.0)

    def _store(self, task: Task) -> Done:
        part = self._file("part", task.part, os.O_WRONLY)
        rows = np.zeros(len(task.labels_K), ROW)
        rejected, kinds, sums = [], {}, [0] * 7
        for k in range(len(rows)):
            row = rows[k]
            try:
                if k in task.skip:
                    raise BadImage(task.skip[k])
                source = self._read(task, k)
                self._decoding(task.number, k)
                stored = prepare(source, self.rule, raw=bool(task.raw_K[k]), big=self._big)
                if task.measured_K[k]:
                    _measure(sums, pixels_of(stored.mode, stored.height, stored.width, stored.data))
            except BadImage as error:
                row["state"] = REJECTED
                rejected.append((k, str(error)))
                if task.slots_K[k] >= 0:
                    self._fill(part, int(task.slots_K[k]), int(task.rooms_K[k]))
                continue
            finally:
                self.status.set(task.number, k, 0.0)
            kinds[stored.kind] = kinds.get(stored.kind, 0) + 1
            row["mode"], row["height"], row["width"] = stored.mode, stored.height, stored.width
            row["crc32"], row["size"] = crc32(stored.data), len(stored.data)
            before, after = self.container.frame(
                task.first + k,
                len(stored.data),
                stored.mode,
                stored.height,
                stored.width,
                int(task.labels_K[k]),
            )
            row["lead"] = len(before)
            total = len(before) + len(stored.data) + len(after)
            slot, room = int(task.slots_K[k]), int(task.rooms_K[k])
            if slot >= 0 and total == room:
                row["state"], row["at"] = SLOT, slot
                fd = part
            else:
                if slot >= 0:
                    self._fill(part, slot, room)
                fd = self._file("spool", task.spool, os.O_WRONLY | os.O_CREAT)
                row["state"] = SPOOL
                row["at"] = os.lseek(fd, 0, os.SEEK_END)
            _write(fd, [before, stored.data, after] if before else [stored.data], int(row["at"]))
        return Done(task.number, rows, tuple(rejected), kinds, tuple(sums))

    def _dimensions(self, task: Task) -> Done:
        rows = np.zeros(len(task.labels_K), ROW)
        rejected = []
        for k in range(len(rows)):
            try:
                if k in task.skip:
                    raise BadImage(task.skip[k])
                source = self._read(task, k)
                self._decoding(task.number, k)
                rows[k]["height"], rows[k]["width"] = dimensions(source, self.rule)
            except BadImage as error:
                rejected.append((k, str(error)))
            finally:
                self.status.set(task.number, k, 0.0)
        return Done(task.number, rows, tuple(rejected), {}, (0,) * 7)

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
        """One process at a time decodes a big image: memory. The wait does not count as decoding."""
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

    def _fill(self, part: int, slot: int, room: int) -> None:
        if filler := self.container.fill(room):
            _write(part, [filler], slot)

    def _file(self, what: str, path: str, flags: int) -> int:
        opened, fd = self._open.get(what, ("", -1))
        if opened != path:
            if fd >= 0:
                os.close(fd)
            fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
            self._open[what] = (path, fd)
        return fd


def _measure(sums: list[int], pixels_HWC: np.ndarray) -> None:
    values = pixels_HWC.reshape(-1, 3)
    counts = [np.bincount(values[:, c], minlength=256) for c in range(3)]
    levels = np.arange(256)
    sums[0] += len(values)
    for c in range(3):
        sums[1 + c] += int(counts[c] @ levels)
        sums[4 + c] += int(counts[c] @ levels**2)


def _write(fd: int, pieces: list[bytes], at: int) -> None:
    written = os.pwritev(fd, pieces, at)
    total = sum(map(len, pieces))
    while written < total:  # a signal, or more than 2 GiB
        rest = b"".join(pieces)[written:]
        done = os.pwrite(fd, rest, at + written)
        written += done
