"""Keeping images of the smallest classes decoded, as far as a budget reaches.

An image of a class of n images is drawn in proportion to n^(q - 1), q = 1 for instance-balanced,
1/2 for square-root, 0 for class-balanced sampling. For every q < 1 that falls with n: so the images
of the smallest classes are the ones that are decoded most often.
"""

import os
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from zlib import crc32

import numpy as np

from fasttail import atomic, kernels
from fasttail.errors import CorruptSample, UserError
from fasttail.shards import cache
from fasttail.shards.cache import COLUMNS, Cache, CacheMeta
from fasttail.shards.columns import JPG, stored
from fasttail.shards.reader import Split
from fasttail.shards.reader import open as open_shards
from fasttail.shards.threads import in_order
from fasttail.shards.workdir import WorkDir

SPLIT = "train"
_CHUNK = 16  # samples that a thread decodes in one go: they wait in memory
Progress = Callable[[str, int, int], None]


def order(labels_N: np.ndarray) -> np.ndarray:
    """Sample ids, those of the smallest class first (ties by class), ascending within a class."""
    counts_C = np.bincount(labels_N)
    rank_C = np.empty(len(counts_C), np.int64)
    rank_C[np.argsort(counts_C, kind="stable")] = np.arange(len(counts_C))
    return np.argsort(rank_C[labels_N], kind="stable")


def share_of_draws(labels_N: np.ndarray, kept: np.ndarray, q: float) -> float:
    """What share of an epoch's draws falls on the kept images (their ids, or bool [N]), with p_j
    proportional to n_j^q."""
    counts_C = np.bincount(labels_N).astype(np.float64)
    kept_C = np.bincount(labels_N[kept], minlength=len(counts_C))
    there_C = counts_C > 0
    p_C = np.where(there_C, counts_C**q * there_C, 0)
    return float((p_C[there_C] * kept_C[there_C] / counts_C[there_C]).sum() / p_C.sum())


def keep(shards: Path, budget: int | str, progress: Progress | None = None) -> Cache | None:
    """Makes the cache of train's tail, unless it is there. `budget`: bytes, or "10%" of the images.
    None if no image can be kept.

    Raises `UserError` if an image is damaged, or the kernel or room is missing.
    """
    opened = open_shards(shards)
    split = opened.split(SPLIT)
    folder = cache.folder_of(shards, SPLIT)
    there = _known(split)
    if there is not None and there.meta.budget == budget:
        return there
    if not kernels.available():
        raise UserError(f"keeping images decoded needs fasttail's kernel: {kernels.why_missing()}")
    work = WorkDir(shards)
    with work.held():
        made = work.temporary(folder.name)
        try:
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            images = _write(split, made, opened.digest, budget, progress)
            remove(shards)
            if images:
                atomic.rename(made, folder)
        except OSError as error:
            raise atomic.explain(error, folder, "run the same command again") from error
        finally:
            work.remove()
    return split.cache


def remove(shards: Path) -> bool:
    """Removes the cache of shards; false if there is none."""
    folder = cache.folder_of(shards, SPLIT)
    if not folder.is_dir():
        return False
    gone = folder.with_name(f".{folder.name}.tmp")  # a kill leaves no half of one under its name
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone)
    return True


def _known(split: Split) -> Cache | None:
    try:
        return split.cache
    except UserError:  # of other shards, or damaged: it is made again
        return None


def _write(
    split: Split, made: Path, digest: str, budget: int | str, progress: Progress | None
) -> int:
    """Writes a cache to the folder `made`; returns how many images it holds."""
    ids, most = order(np.asarray(split.labels_N)), sys.maxsize
    if isinstance(budget, str):
        ids = ids[: int(len(ids) * float(budget.rstrip("%")) / 100)]
    else:
        most = budget
    ids = ids[split.modes_N[ids] == JPG]
    rows: list[tuple[int, int, int, int]] = []  # by COLUMNS
    end = 0
    decoded = _decoded(split, ids, progress)
    with closing(decoded), (made / cache.PLANES_FILE).open("wb") as file:
        for i, planes, crc in decoded:
            if end + len(planes) > most:
                break
            rows.append((i, end, len(planes), crc))
            end += file.write(planes.data)
        file.flush()
        os.fsync(file.fileno())
    if not rows:
        return 0
    columns = dict(zip(COLUMNS, zip(*sorted(rows), strict=True), strict=True))
    meta = CacheMeta(
        shards=digest,
        budget=budget,
        images=len(rows),
        bytes=end,
        columns={
            name: stored(np.array(columns[name], dtype), made / f"{name}.npy", dtype)
            for name, dtype in COLUMNS.items()
        },
    )
    with atomic.whole_file(made / cache.META_FILE) as file:
        file.write(meta.model_dump_json(indent=1).encode() + b"\n")
    return len(rows)


def _decoded(
    split: Split, ids: np.ndarray, progress: Progress | None
) -> Generator[tuple[int, np.ndarray, int]]:
    """Each of these samples with its planes and their crc32, but for those that can't have any: a
    JPEG that is progressive, say."""

    def look(start: int, stop: int) -> list[tuple[int, np.ndarray, int]]:
        images = [(int(i), planes_of(split, int(i))) for i in ids[start:stop]]
        return [(i, planes, crc32(planes.data)) for i, planes in images if len(planes)]

    with closing(in_order(len(ids), look, _CHUNK)) as chunks:
        for stop, images in chunks:
            yield from images
            if progress is not None:
                progress("decoded", stop, len(ids))


def planes_of(split: Split, i: int) -> np.ndarray:
    """What the cache holds of sample i, uint8, empty if it can't. Raises `CorruptSample`."""
    try:
        return kernels.jpeg_planes(split.bytes(i))
    except ValueError as error:
        raise CorruptSample(f"{split.where(i)}: {error}") from None
