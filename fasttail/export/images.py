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

import torch

from fasttail import engines
from fasttail.datasets.base import FileImages
from fasttail.datasets.folder import image_files
from fasttail.engines import ffcv
from fasttail.engines.base import Batch
from fasttail.engines.source import InMemory
from fasttail.plan import EvalEpoch, View
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
    good = [(photo.path, photo.stored) for photo in photos if photo.stored is not None]
    if not good:
        return None
    paths, stored = zip(*good, strict=True)
    source = InMemory(
        paths,
        [image.data for image in stored],
        [image.mode for image in stored],
        [(image.height, image.width) for image in stored],
    )
    host = torch.device("cpu")
    name = "ffcv" if ffcv.available() else "reference"
    with closing(engines.make(name, source, device=host, threads=threads)) as engine:
        (batch,) = engine.run(EvalEpoch(source, view=view, batch_size=len(source)))
    return batch
