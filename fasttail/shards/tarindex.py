"""`fasttail index`: the class-index table over tar shards that exist. No image is copied.

Every sample's bytes are read once, by the conversion's worker processes: for its crc32, and for the
check that is asked for. What the engines can't read where it is (PNG, CMYK, ...) is a bad image.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from fasttail import atomic
from fasttail.config import ConvertConfig
from fasttail.datasets.base import Index, SplitIndex
from fasttail.datasets.namelist import Names
from fasttail.datasets.tars import TarImages
from fasttail.datasets.webdataset import by_split, from_tars
from fasttail.errors import UserError
from fasttail.shards import finish, format, parts
from fasttail.shards.columns import digest
from fasttail.shards.convert import MEASURED_IMAGES, Progress, jobs_for, rule_from
from fasttail.shards.pool import Pool
from fasttail.shards.reader import Shards
from fasttail.shards.reader import open as open_shards
from fasttail.shards.tar import Tar
from fasttail.shards.workdir import PartRows, WorkDir
from fasttail.shards.worker import ROW, Done, Task


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
            results = _look(index, grouped, work, cfg, progress)
            names = {split: _names(index, split) for split in results}
            key = digest(json.dumps([str(path) for path in tars]))
            finish.finish(index, work, cfg, results, names, key)
        except OSError as error:
            raise atomic.explain(error, out) from error
    return open_shards(out)


def _look(
    index: Index,
    tars: Mapping[str, list[Path]],
    work: WorkDir,
    cfg: ConvertConfig,
    progress: Progress | None,
) -> dict[str, list[PartRows]]:
    total = sum(len(split.labels_N) for split in index.splits.values())
    seen = 0
    results = {}
    with Pool(jobs_for(cfg), rule_from(cfg), Tar(), cfg.image_timeout_s) as pool:
        for name, split in index.splits.items():
            rows = PartRows(np.zeros(len(split.labels_N), ROW))

            def take(task: Task, done: Done, rows: PartRows = rows, name: str = name) -> None:
                nonlocal seen
                rows.take(task.number, done)
                seen += len(done.rows_K)
                if progress is not None:
                    progress(name, seen, total)

            pool.run(_tasks(name, split, work), take)
            assert isinstance(split.images, TarImages)
            rows.rows_K["at"] = split.images.offsets_N
            results[name] = _by_tar(rows, split.images, work)
            # In the order of the images, of whichever tar.
            starts = range(0, len(rows.rows_K), parts.CHUNK_IMAGES)
            results[name][0].seek = finish.join_seek(work, name, starts)
    return results


def _tasks(name: str, split: SplitIndex, work: WorkDir) -> Iterator[Task]:
    n = len(split.labels_N)
    measured_N = np.zeros(n, bool)
    if name == "train":
        measured_N[:: max(1, -(-n // MEASURED_IMAGES))] = True
    for a in range(0, n, parts.CHUNK_IMAGES):
        ids = np.arange(a, min(n, a + parts.CHUNK_IMAGES))
        yield Task(
            number=a,
            kind="look",
            images=split.images.pick(ids),
            labels_K=split.labels_N[ids],
            measured_K=measured_N[ids],
            seek=str(work.seek(name, a)),
        )


def _by_tar(rows: PartRows, images: TarImages, work: WorkDir) -> list[PartRows]:
    """One `PartRows` a tar, since a tar is a part."""
    found = []
    for number, path in enumerate(images.files):
        inside = np.flatnonzero(images.files_N == number)
        if not len(inside):
            continue
        a, b = int(inside[0]), int(inside[-1]) + 1
        part = PartRows(rows.rows_K[a:b])
        part.rejected = [(k - a, why) for k, why in sorted(rows.rejected) if a <= k < b]
        part.damaged = [(k - a, why) for k, why in sorted(rows.damaged) if a <= k < b]
        part.file = os.path.relpath(path, work.out.resolve())
        part.file_bytes = path.stat().st_size
        found.append(part)
    found[0].kinds, found[0].sums = rows.kinds, rows.sums
    return found


def _names(index: Index, split: str) -> Names:
    images = index.splits[split].images
    return Names.of(images.name(i) for i in range(len(images)))
