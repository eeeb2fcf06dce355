"""Image files -> uint8 batches, on the very path that training's images took.

    file -> `shards.image.prepare`: the form that convert would store    (convert's own processes)
         -> a plan of its evaluation box -> the engine that decodes on the CPU

A file that is no image is told apart before a batch is made, so it costs nobody else anything; one
that crashes its decoder or holds it up costs a process, as it does in convert.
"""

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from fasttail import engines
from fasttail.datasets.base import FileImages
from fasttail.datasets.folder import image_files
from fasttail.engines import ffcv
from fasttail.engines.base import Batch
from fasttail.engines.source import InMemory
from fasttail.plan import EvalEpoch, View
from fasttail.shards.beton import Beton
from fasttail.shards.image import Rule, Stored
from fasttail.shards.pool import Pool
from fasttail.shards.worker import Done, Task

AT_A_TIME = 16  # images that a process is given


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
    paths: Iterable[str],
    rule: Rule,
    view: View,
    *,
    batch_size: int,
    threads: int,
    timeout_s: float,
) -> Generator[Decoded]:
    """Reads, checks and decodes files, `batch_size` at a time, the next while the last is used;
    memory does not grow with their number. `threads` 0: as many as there are cores. What takes
    longer than `timeout_s` is a bad image."""
    threads = threads or len(os.sched_getaffinity(0))
    queue: deque[Future[tuple[Photo, ...]]] = deque()
    left, first = iter(paths), 0
    with (
        Pool(threads, rule, Beton(), timeout_s) as pool,
        ThreadPoolExecutor(1, thread_name_prefix="fasttail-read") as reading,
    ):
        try:
            while True:
                chunk = list(islice(left, batch_size))
                if chunk:
                    queue.append(reading.submit(read, pool, chunk, first))
                    first += len(chunk)
                if not queue:
                    return
                if not chunk or len(queue) == 2:
                    photos = queue.popleft().result()
                    yield Decoded(photos, decode(photos, view, threads))
        finally:
            reading.shutdown(wait=True, cancel_futures=True)


def read(pool: Pool, paths: Sequence[str], first: int) -> tuple[Photo, ...]:
    """Files, checked and in the form that convert would store; `first` numbers them, so that the
    pool knows one from another. Never raises for a bad file."""
    # Against the root: `FileImages` puts its folder before every path.
    files = FileImages(Path("/"), tuple(str(Path(path).absolute()) for path in paths))
    photos: dict[int, Photo] = {}

    def tasks() -> Iterator[Task]:
        for start in range(0, len(paths), AT_A_TIME):
            which = np.arange(start, min(start + AT_A_TIME, len(paths)))
            no = np.zeros(len(which), bool)
            yield Task(first + start, "hand", files.pick(which), which, measured_K=no)

    def take(task: Task, done: Done) -> None:
        start = task.number - first
        for k, stored in done.handed.items():
            photos[start + k] = Photo(paths[start + k], stored)
        for k, why in done.rejected:
            path = paths[start + k]
            why = "a folder without images" if Path(path).is_dir() else why
            photos[start + k] = Photo(path, None, why)

    pool.run(tasks(), take)
    return tuple(photos[i] for i in range(len(paths)))


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
