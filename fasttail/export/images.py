"""Image files -> uint8 batches, on the very path that training's images took.

    file -> `shards.image.prepare`: the form that convert would store    (threads)
         -> a plan of its evaluation box -> the engine that decodes on the CPU

A file that is no image is told apart before a batch is made, so it costs nobody else anything.
"""

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import numpy as np
import torch

from fasttail import engines
from fasttail.datasets.base import FileImages
from fasttail.datasets.folder import image_files
from fasttail.engines import ffcv
from fasttail.engines.base import Batch, BatchPlan
from fasttail.plan import View
from fasttail.shards.image import BIG_PIXELS, Big, Rule, Stored, prepare
from fasttail.shards.jpeg import BadImage


@dataclass(frozen=True)
class Photo:
    """A file that was read: as convert would store it, or None and why not."""

    path: str
    stored: Stored | None
    reason: str = ""


@dataclass(frozen=True)
class Decoded:
    """Some files in the order they were named; `batch` has those that are images, in that order,
    and is None if there are none."""

    photos: tuple[Photo, ...]
    batch: Batch | None


def find(named: Iterable[str], stdin: BinaryIO) -> Iterator[str]:
    """The files that are meant: each as named; of a folder the image files below it, in the order
    of their names; for `-` the lines of `stdin`. A folder without images stands for itself, and is
    then reported as any bad image."""
    for name in named:
        if name == "-":
            lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in stdin)
            yield from find((line for line in lines if line not in ("", "-")), stdin)
        elif Path(name).is_dir():
            below = image_files(name)
            yield next(below, name)
            yield from below
        else:
            yield name


def batches(
    paths: Iterable[str], rule: Rule, view: View, *, batch_size: int, threads: int
) -> Generator[Decoded]:
    """Reads, checks and decodes files, `batch_size` at a time, the next while the last is used;
    memory does not grow with their number. `threads` 0: as many as there are cores."""
    threads = threads or len(os.sched_getaffinity(0))
    big_images = threading.Lock()  # one at a time: memory

    @contextmanager
    def big(pixels: int) -> Iterator[None]:
        if pixels <= BIG_PIXELS:
            yield
            return
        with big_images:
            yield

    pool = ThreadPoolExecutor(threads, thread_name_prefix="fasttail-read")
    queue: deque[list[Future[Photo]]] = deque()
    left = iter(paths)
    try:
        while True:
            chunk = [pool.submit(read, path, rule, big) for path in islice(left, batch_size)]
            if chunk:
                queue.append(chunk)
            if not queue:
                return
            if not chunk or len(queue) == 2:
                photos = tuple(future.result() for future in queue.popleft())
                yield Decoded(photos, decode(photos, view, threads))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def read(path: str, rule: Rule, big: Big) -> Photo:
    """One file, checked and in the form that convert would store. Never raises for a bad file."""
    if Path(path).is_dir():
        return Photo(path, None, "a folder without images")
    try:
        # Against the root: `FileImages` puts its folder before every path.
        source = FileImages(Path("/"), (str(Path(path).absolute()),)).read(0)
        return Photo(path, prepare(source, rule, raw=False, decode=True, big=big))
    except OSError as error:
        return Photo(path, None, f"cannot be read: {error.strerror or error}")
    except BadImage as error:
        return Photo(path, None, str(error))


def decode(photos: Sequence[Photo], view: View, threads: int) -> Batch | None:
    """The view of those that are images, in host memory; labels are all 0."""
    stored = [photo for photo in photos if photo.stored is not None]
    if not stored:
        return None
    source = PhotoSource(stored)
    host = torch.device("cpu")
    name = "ffcv" if ffcv.available() else "reference"
    with closing(engines.make(name, source, device=host, threads=threads)) as engine:
        (batch,) = engine.run(_One(source, view))
    return batch


class PhotoSource:
    """Files in memory as an engine's `Source`: each is a part of its own."""

    def __init__(self, photos: Sequence[Photo]) -> None:
        stored = [photo.stored for photo in photos if photo.stored is not None]
        self._data = [np.frombuffer(image.data, np.uint8) for image in stored]
        self.part_paths = [Path(photo.path) for photo in photos]
        self.heights_N = np.array([image.height for image in stored], np.int32)
        self.widths_N = np.array([image.width for image in stored], np.int32)
        self.modes_N = np.array([image.mode for image in stored], np.uint8)
        self.parts_N = np.arange(len(stored), dtype=np.int32)
        self.offsets_N = np.zeros(len(stored), np.int64)
        self.sizes_N = np.array([len(image.data) for image in stored], np.int64)
        self.crc32_N = np.array([crc32(image.data) for image in stored], np.uint32)

    def __len__(self) -> int:
        return len(self._data)

    def part_bytes(self, part: int) -> np.ndarray:
        return self._data[part]

    def bytes(self, i: int) -> np.ndarray:
        return self._data[i]

    def where(self, i: int) -> str:
        return str(self.part_paths[i])


class _One:
    """The plan of one batch: every image once, by the evaluation's fixed view."""

    steps = 1

    def __init__(self, source: PhotoSource, view: View) -> None:
        self.out_hw = view.out_hw
        self.max_batch = len(source)
        # A fixed view draws nothing: no seed and no epoch change it.
        self._boxes_B4 = view.at(seed=0, epoch=0).boxes(0, source.heights_N, source.widths_N)

    def batch(self, step: int) -> BatchPlan:
        ids_B = np.arange(self.max_batch)
        flips_B = np.zeros(self.max_batch, np.bool_)
        return BatchPlan(ids_B, np.zeros_like(ids_B), self._boxes_B4, flips_B)
