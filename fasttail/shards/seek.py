"""`fasttail index --seek`: the seek index of shards that exist. No image is copied or changed.

A conversion makes it on the way (`worker.py`). What is made, and what it is for: kernels/seek.h.
"""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from fasttail import atomic, kernels
from fasttail.errors import CorruptSample, UserError
from fasttail.shards.columns import JPG, SEEK, stored
from fasttail.shards.format import META_FILE, VERSION, SeekMeta, SplitMeta
from fasttail.shards.reader import Shards, Split
from fasttail.shards.reader import open as open_shards
from fasttail.shards.threads import in_order
from fasttail.shards.workdir import WorkDir

Progress = Callable[[str, int, int], None]


def points(split: Split, i: int, spacing: int) -> np.ndarray:
    """Sample i's seek index, uint64 [words], made from its bytes; empty for pixels, for a JPEG that
    can't have one, and for a spacing of 0. Raises `CorruptSample`."""
    if split.modes_N[i] != JPG or not spacing:
        return np.empty(0, np.uint64)
    try:
        return kernels.jpeg_seek(split.bytes(i), spacing)
    except ValueError as error:
        raise CorruptSample(f"{split.where(i)}: {error}") from None


def add_seek(folder: Path, spacing: int, progress: Progress | None = None) -> Shards:
    """Makes the seek index of every split, in place of one that is there, and opens the shards;
    `spacing` 0 removes it.

    Raises `UserError` if a JPEG is damaged, or the kernel or room is missing.
    """
    if not kernels.available():
        raise UserError(f"a seek index needs fasttail's kernel: {kernels.why_missing()}")
    shards = open_shards(folder)
    work = WorkDir(folder)
    with work.held():
        try:
            splits = [shards.split(name) for name in shards.split_names]
            files = [work.temporary(f"{split.name}.seek") for split in splits]
            starts = [
                _write(split, file, spacing, progress)
                for split, file in zip(splits, files, strict=True)
            ]
            # While its files are replaced, dataset.json knows of no index.
            _describe(shards, {split.name: _without(split.meta) for split in splits})
            described = {
                split.name: _placed(split, file, starts_N1, spacing)
                for split, file, starts_N1 in zip(splits, files, starts, strict=True)
            }
            _describe(shards, described)
        except OSError as error:
            raise atomic.explain(error, folder, "run the same command again") from error
        finally:
            work.remove()
    return open_shards(folder)


def _write(split: Split, path: Path, spacing: int, progress: Progress | None) -> np.ndarray:
    """Writes the words of all samples to a file; returns where each one's begin, int64 [N + 1]."""

    def look(start: int, stop: int) -> tuple[bytes, list[int]]:
        found = [points(split, i, spacing) for i in range(start, stop)]
        return np.concatenate(found).tobytes(), list(map(len, found))

    counts = [0]
    with path.open("wb") as file, closing(in_order(len(split), look)) as chunks:
        for stop, (words, lengths) in chunks:
            file.write(words)
            counts += lengths
            if progress is not None:
                progress(split.name, stop, len(split))
    return np.cumsum(counts, dtype=np.int64)


def _placed(split: Split, file: Path, starts_N1: np.ndarray, spacing: int) -> SplitMeta:
    """Puts the index beside a split's table; returns what dataset.json then says of the split."""
    meta = _without(split.meta)
    paths = {name: split.dir / f"{split.name}.index" / f"{name}.npy" for name in SEEK}
    if not starts_N1[-1]:
        for path in paths.values():
            path.unlink(missing_ok=True)
        return meta
    digests = {}
    for name, column in {"seek": np.memmap(file, np.uint64, "r"), "seek_starts": starts_N1}.items():
        with atomic.whole_path(paths[name]) as path:
            digests[name] = stored(column, path, SEEK[name])
    update = {"columns": {**meta.columns, **digests}, "seek": SeekMeta(spacing=spacing)}
    return meta.model_copy(update=update)


def _without(meta: SplitMeta) -> SplitMeta:
    columns = {name: digest for name, digest in meta.columns.items() if name not in SEEK}
    return meta.model_copy(update={"columns": columns, "seek": None})


def _describe(shards: Shards, splits: dict[str, SplitMeta]) -> None:
    meta = shards.meta.model_copy(update={"splits": splits, "version": VERSION})
    with atomic.whole_file(shards.dir / META_FILE) as file:
        file.write(meta.model_dump_json(indent=1).encode() + b"\n")
