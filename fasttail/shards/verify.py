"""`fasttail verify`: whether shards are still what was written.

every column of every table: its SHA-256, then whether the columns fit together
every part: its size, header, metadata and allocation table (.beton)
every sample: that its bytes lie in its part, apart from the others', and their crc32; then its seek
index, and what the cache holds of it, against what its bytes give now
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np

from fasttail.errors import UserError
from fasttail.shards import beton, table
from fasttail.shards.beside import Beside
from fasttail.shards.columns import COLUMNS, CONTENT, JPG, RAW, SEEK, digest
from fasttail.shards.reader import Split
from fasttail.shards.reader import open as open_shards
from fasttail.shards.threads import in_order

_SHOWN = 20  # sample ids in a message
_NAMED = 5  # source names
Progress = Callable[[str, int, int], None]


@dataclass
class Found:
    """What `verify` has read, and what is wrong, a line each."""

    samples: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)


def verify(folder: Path | str, progress: Progress | None = None) -> Found:
    """Reads all of the shards in `folder`. Raises `UserError` if there are none to read."""
    shards = open_shards(folder)
    found = Found()
    total = sum(split.samples for split in shards.meta.splits.values())
    contents: list[str] = []
    for name in shards.split_names:
        split = shards.split(name)
        columns = _columns(split, found)
        if columns is None:
            found.samples += len(split)
            continue
        contents += [name, table.content_digest(columns)]
        _verify_samples(split, columns, found, total, progress)
    all_read = len(contents) == 2 * len(shards.split_names)
    if all_read and digest(*shards.class_names, *contents) != shards.digest:
        found.problems.append("dataset.json: its digest is not that of classes and samples")
    return found


def _columns(split: Split, found: Found) -> dict[str, np.ndarray] | None:
    """The table, or None if it can't be relied on."""
    before = len(found.problems)
    columns = {}
    for name in (*COLUMNS, *(SEEK if split.meta.seek else ())):
        try:
            columns[name] = split.unchecked(name)
        except UserError as error:
            found.problems.append(str(error).split(": run ")[0])
            continue
        if digest(np.ascontiguousarray(columns[name])) != split.meta.columns.get(name):
            found.problems.append(f"{split.name}.index/{name}.npy is not what was written")
    if len(found.problems) > before:
        return None
    found.problems += [f"{split.name}.index: {what}" for what in _inconsistencies(split, columns)]
    return None if len(found.problems) > before else columns


def _inconsistencies(split: Split, columns: dict[str, np.ndarray]) -> Iterator[str]:
    labels = columns["labels"]
    if len(labels) and not 0 <= labels.min() <= labels.max() < split.num_classes:
        yield f"labels {labels.min()} to {labels.max()}, but {split.num_classes} classes"
        return
    indptr, samples = table.group_by_class(labels, split.num_classes)
    if not np.array_equal(indptr, columns["indptr"]):
        yield "indptr does not fit the labels"
    if not np.array_equal(samples, columns["samples"]):
        yield "samples are not the ids grouped by class"
    parts = columns["parts"]
    if len(parts) and not 0 <= parts.min() <= parts.max() < len(split.part_paths):
        yield f"parts {parts.min()} to {parts.max()}, but {len(split.part_paths)} files"
        return
    sizes, largest = columns["sizes"], max((part.bytes for part in split.meta.parts), default=0)
    if len(sizes) and not 0 < sizes.min() <= sizes.max() <= largest:
        yield f"sizes {sizes.min()} to {sizes.max()}, but the largest file has {largest} bytes"
        return
    modes = columns["modes"]
    if len(modes) and modes.max() > RAW:
        yield f"modes up to {modes.max()}, but there are {JPG} (JPEG) and {RAW} (pixels)"
        return
    raw = modes == RAW
    pixels = columns["heights"].astype(np.int64) * columns["widths"] * 3
    for i in np.flatnonzero(raw & (sizes != pixels))[:1]:
        yield f"{split.where(int(i))}: {sizes[i]} bytes are not its pixels"
    for name, of in (("name_starts", "names"), ("seek_starts", "seek")):
        starts = columns.get(name)
        if starts is not None and (
            starts[0] != 0 or (np.diff(starts) < 0).any() or starts[-1] != len(columns[of])
        ):
            yield f"{name} does not fit {of}"


def _verify_samples(
    split: Split,
    columns: dict[str, np.ndarray],
    found: Found,
    total: int,
    progress: Progress | None,
) -> None:
    beside = Beside(split)
    for number, meta in enumerate(split.meta.parts):
        ids = np.flatnonzero(columns["parts"] == number)
        here = {name: columns[name][ids] for name in (*CONTENT, "offsets")}
        if table.part_digest(here) != meta.digest or len(ids) != meta.samples:
            found.problems.append(f"{meta.file}: dataset.json's digest is not that of its table")
        path = split.part_paths[number]
        try:
            part = np.memmap(split.fetched_part(number), np.uint8, mode="r")
        except (OSError, ValueError, UserError) as error:
            found.problems.append(
                f"{meta.file}: {error}: samples {_ids(ids)}{_sources(split, ids)}"
            )
            found.samples += len(ids)
            continue
        if len(part) != meta.bytes:
            found.problems.append(f"{meta.file}: {len(part)} bytes, written with {meta.bytes}")
        elif path.suffix == beton.SUFFIX:
            found.problems += _beton_problems(meta.file, part, here)

        def look(k: int, data: np.ndarray, ids: np.ndarray = ids) -> None:
            beside.look(int(ids[k]), data)

        advance = functools.partial(_advance, found, split, total, progress)
        bad = _bad_samples(part, here, look, advance)
        found.bytes += int(here["sizes"].sum())
        if len(bad):
            hint = _swapped_with(split, columns, part, number) if len(bad) == len(ids) else ""
            found.problems.append(
                f"{meta.file}: {len(bad)} of {len(ids)} samples are not what was written{hint}: "
                f"samples {_ids(ids[bad])}{_sources(split, ids[bad])}"
            )
    for problem, misfits in beside.problems():
        found.problems.append(f"{problem}: samples {_ids(misfits)}" if len(misfits) else problem)


def _advance(found: Found, split: Split, total: int, progress: Progress | None, n: int) -> None:
    found.samples += n
    if progress is not None:
        progress(split.name, found.samples, total)


def _beton_problems(file: str, part: np.ndarray, here: dict[str, np.ndarray]) -> Iterator[str]:
    try:
        end = beton.read_end(part, file)
    except UserError as error:
        yield str(error)
        return
    head, allocations = beton.Beton().surroundings(end, here)
    if part[: len(head)].tobytes() != head:
        at = int(np.flatnonzero(part[: len(head)] != np.frombuffer(head, np.uint8))[0])
        where = beton.sample_of(at)
        yield f"{file}: header or metadata differs at byte {at}" + (
            "" if where is None else f" (sample {where} of this file)"
        )
    if part[end:].tobytes() != allocations:
        yield f"{file}: its allocation table is not what was written"


def _bad_samples(
    part: np.ndarray,
    here: dict[str, np.ndarray],
    good: Callable[[int, np.ndarray], None],
    advance: Callable[[int], None],
) -> np.ndarray:
    """Places among a part's samples whose bytes are not there, overlap, or have another crc32. The
    others are handed to `good`, place and bytes."""
    offsets, sizes, crc = here["offsets"], here["sizes"], here["crc32"]
    bad = (offsets < 0) | (sizes <= 0) | (sizes > len(part) - offsets)  # a sum could overflow
    by_place = np.flatnonzero(~bad)
    by_place = by_place[np.argsort(offsets[by_place], kind="stable")]
    ends = np.maximum.accumulate((offsets + sizes)[by_place])
    bad[by_place[1:][ends[:-1] > offsets[by_place[1:]]]] = True

    def look(start: int, stop: int) -> int:
        for k in range(start, stop):
            if not bad[k]:
                data = part[offsets[k] : offsets[k] + sizes[k]]
                bad[k] = crc32(data) != crc[k]  # type: ignore[arg-type] - arrays have a buffer
                if not bad[k]:
                    good(k, data)
        return stop - start

    for _, looked_at in in_order(len(sizes), look):
        advance(looked_at)
    return np.flatnonzero(bad)


def _swapped_with(
    split: Split, columns: dict[str, np.ndarray], part: np.ndarray, number: int
) -> str:
    """If a file's content is another part's: which."""
    for other in range(len(split.part_paths)):
        first = np.flatnonzero(columns["parts"] == other)[:1]
        if other == number or not len(first):
            continue
        start, size = int(columns["offsets"][first[0]]), int(columns["sizes"][first[0]])
        data = part[start : start + size]
        if crc32(data) == columns["crc32"][first[0]]:  # type: ignore[arg-type]
            return f" (it holds {split.part_paths[other].name}: were the two swapped?)"
    return ""


def _sources(split: Split, ids: np.ndarray) -> str:
    """` (from apple/1.jpg, pear/7.jpg, ...)`: what to convert again."""
    names = ", ".join(split.source_name(int(i)) for i in ids[:_NAMED])
    return f" (from {names}{', ...' if len(ids) > _NAMED else ''})"


def _ids(ids: np.ndarray) -> str:
    """`3, 17, 20-4095, ... (5000 in all)`"""
    breaks = np.flatnonzero(np.diff(ids) != 1) + 1
    runs = np.split(ids, breaks)
    texts = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:_SHOWN]]
    return ", ".join(texts) + (f", ... ({len(ids)} in all)" if len(runs) > _SHOWN else "")
