"""`fasttail index`: the class-index table over tar shards that exist. No image is copied.

Every sample's bytes are read once, by the conversion's worker processes: for its crc32, and for the
check that is asked for. What the engines can't read where it is (PNG, CMYK, ...) is a bad image.
"""

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from fasttail import atomic
from fasttail.config import ConvertConfig
from fasttail.datasets.base import Index, SplitIndex
from fasttail.datasets.tars import TarImages
from fasttail.datasets.webdataset import by_split, from_tars
from fasttail.errors import UserError
from fasttail.shards import format, parts, rows
from fasttail.shards.columns import digest
from fasttail.shards.convert import Progress
from fasttail.shards.manifest import (
    MEASURED_IMAGES,
    Manifest,
    ManifestPart,
    jobs_for,
    names_of,
    rule_from,
)
from fasttail.shards.merge import merge
from fasttail.shards.pool import Pool
from fasttail.shards.reader import Shards
from fasttail.shards.reader import open as open_shards
from fasttail.shards.rows import Gathered
from fasttail.shards.tar import Tar
from fasttail.shards.task import join_seek
from fasttail.shards.workdir import WorkDir
from fasttail.shards.worker import Done, Task


def index_tars(
    tars: list[Path], out: Path, cfg: ConvertConfig, progress: Progress | None = None
) -> Shards:
    """Writes table and dataset.json over `tars` to the folder `out` and opens it.

    A tar's split is told by its name, or its folder's: `val-0001.tar`, `val/0001.tar`; train
    otherwise. Raises `UserError` if a tar is missing or broken, images are bad (and `on_bad` is
    "fail"), or `out` holds shards already.
    """
    missing = [path for path in tars if not path.is_file()]
    if missing:
        raise UserError(f"no file {missing[0]}: name the tars that are to be indexed")
    if (out / format.META_FILE).exists():
        raise UserError(f"{out} holds shards already: choose another --out, or remove it")
    grouped = by_split(sorted(path.resolve() for path in tars))
    index = from_tars(out.resolve().name, grouped, cfg)
    # What is not copied stays as it is.
    cfg = cfg.model_copy(update={"format": "tar", "progressive": "keep"})
    work = WorkDir(out)
    with work.held():
        try:
            made = _look(index, work, cfg, progress)
            about = Manifest(
                origin="fasttail index",
                name=index.name,
                class_names=index.class_names,
                mean=index.mean,
                std=index.std,
                notes=index.notes,
                config=cfg.model_dump(mode="json"),
                key=digest(json.dumps([str(path) for path in tars])),
                parts=tuple(made),
            )
            merge(work, about)
        except OSError as error:
            raise atomic.explain(error, out) from error
    return open_shards(out)


def _look(
    index: Index,
    work: WorkDir,
    cfg: ConvertConfig,
    progress: Progress | None,
) -> list[ManifestPart]:
    """Reads every sample and keeps the tars' rows. Returns the tars as parts."""
    total = sum(len(split.labels_N) for split in index.splits.values())
    seen = 0
    made: list[ManifestPart] = []
    with Pool(jobs_for(cfg), rule_from(cfg), Tar(), cfg.image_timeout_s) as pool:
        for name, split in index.splits.items():
            gathered = Gathered.of(len(split.labels_N))

            def take(
                task: Task, done: Done, gathered: Gathered = gathered, name: str = name
            ) -> None:
                nonlocal seen
                gathered.take(task.number, done)
                seen += len(done.rows_K)
                if progress is not None:
                    progress(name, seen, total)

            pool.run(_tasks(name, split, work), take)
            assert isinstance(split.images, TarImages)
            gathered.rows_K["at"] = split.images.offsets_N
            made += _by_tar(name, split, split.images, gathered, work)
    return made


def _chunks(images: TarImages) -> Iterator[tuple[int, int]]:
    """(start, stop) of every chunk: each is of one tar."""
    starts = np.searchsorted(images.files_N, np.arange(len(images.files) + 1)).tolist()
    for start, stop in pairwise(starts):
        for a in range(start, stop, parts.CHUNK_IMAGES):
            yield a, min(stop, a + parts.CHUNK_IMAGES)


def _tasks(name: str, split: SplitIndex, work: WorkDir) -> Iterator[Task]:
    n = len(split.labels_N)
    measured_N = np.zeros(n, bool)
    if name == "train":
        measured_N[:: max(1, -(-n // MEASURED_IMAGES))] = True
    assert isinstance(split.images, TarImages)
    for a, b in _chunks(split.images):
        ids = np.arange(a, b)
        yield Task(
            number=a,
            kind="look",
            images=split.images.pick(ids),
            labels_K=split.labels_N[ids],
            measured_K=measured_N[ids],
            seek=str(_seek(work, name, a)),
        )


def _seek(work: WorkDir, split: str, chunk_start: int) -> Path:
    return work.temporary(f"{split}.seek-{chunk_start}")


def _by_tar(
    name: str, split: SplitIndex, images: TarImages, gathered: Gathered, work: WorkDir
) -> list[ManifestPart]:
    """Keeps the rows of each tar, since a tar is a part."""
    names = names_of(images)
    found = []
    for number, path in enumerate(images.files):
        inside = np.flatnonzero(images.files_N == number)
        if not len(inside):
            continue
        a, b = int(inside[0]), int(inside[-1]) + 1
        of_tar = Gathered(gathered.rows_K[a:b])
        of_tar.rejected = [(k - a, why) for k, why in gathered.rejected if a <= k < b]
        of_tar.damaged = [(k - a, why) for k, why in gathered.damaged if a <= k < b]
        if not found:
            of_tar.kinds, of_tar.sums = gathered.kinds, gathered.sums
        part = ManifestPart(split=name, number=len(found), start=a, images=b - a, key=str(path))
        starts = [start for start, _ in _chunks(images) if a <= start < b]
        join_seek(work.seek(part.name), [_seek(work, name, start) for start in starts])
        file, size = os.path.relpath(path, work.out.resolve()), path.stat().st_size
        rows.save(
            work.rows(part.name), part.key, of_tar, split.labels_N[a:b], names[a:b], file, size
        )
        found.append(part)
    return found
