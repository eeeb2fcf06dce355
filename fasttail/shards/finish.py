"""Finishing what workers have written: a part, then the tables and dataset.json."""

import csv
import errno
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fasttail import __version__, atomic
from fasttail.config import ConvertConfig
from fasttail.datasets.base import Index
from fasttail.datasets.namelist import Names
from fasttail.errors import UserError, printable
from fasttail.shards import table
from fasttail.shards.columns import CONTENT, digest
from fasttail.shards.containers import Container
from fasttail.shards.format import (
    DAMAGED_FILE,
    FORMAT,
    META_FILE,
    REJECTED_FILE,
    VERSION,
    Meta,
    PartMeta,
    SeekMeta,
    SplitMeta,
    part_name,
)
from fasttail.shards.parts import Part
from fasttail.shards.workdir import PartRows, WorkDir
from fasttail.shards.worker import REJECTED, SPOOL

_SHOWN = 10
Three = tuple[float, float, float]


def need_space(work: WorkDir, size: int) -> None:
    """Raises `UserError` if so many bytes can't be written."""
    free = work.free_bytes()
    if size > free:
        raise UserError(
            f"{work.out}: the next part takes {_mib(size)}, only {_mib(free)} are free: make room, "
            "then run the same command again: it takes up the finished parts"
        )


def fsync(path: Path) -> None:
    """All that was written to a file is on disk afterwards."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def finish_part(
    work: WorkDir, part: Part, file: str, rows: PartRows, labels_N: np.ndarray, container: Container
) -> None:
    """Appends the spooled images and writes what surrounds them: the part is whole, and has yet to
    get its name.

    `rows` then say where in the part each image lies. A part whose images were all rejected is not
    written.
    """
    rows_K = rows.rows_K
    path = work.temporary(file)
    keep_K = rows_K["state"] != REJECTED
    if not keep_K.any():
        path.unlink()
        return
    fd = os.open(path, os.O_RDWR)
    try:
        end = _append_spooled(work, fd, part, rows_K, container)
        columns = columns_of(rows_K[keep_K], labels_N[part.start : part.stop][keep_K])
        rows.file, rows.file_bytes = file, container.finish(fd, end, columns)
        os.fsync(fd)
    finally:
        os.close(fd)
    companion = container.companion(columns, part.start + np.flatnonzero(keep_K))
    if companion is not None:
        suffix, content = companion
        with atomic.whole_file((work.out / file).with_suffix(suffix)) as other:
            other.write(content)
    name = part_name(part.split, part.number, "")
    rows.seek = join_seek(work, name, (start for start, _ in part.chunks))


def join_seek(work: WorkDir, name: str, chunk_starts: Iterable[int]) -> str:
    """Puts the chunks' seek indices one after the other. Returns the file's name in `.convert/`."""
    joined = work.temporary(f"{name}.seek")
    with atomic.whole_file(joined) as file:
        for start in chunk_starts:
            chunk = work.seek(name, start)
            if chunk.exists():
                file.write(chunk.read_bytes())
                chunk.unlink()
    return joined.name


def _append_spooled(
    work: WorkDir, fd: int, part: Part, rows_K: np.ndarray, container: Container
) -> int:
    """Moves the images without a slot behind the slots, in their order. Returns where they end."""
    cursor = part.end
    for a, b in part.chunks:
        spool = work.spool(part, a)
        if not spool.exists():
            continue
        source = os.open(spool, os.O_RDONLY)
        try:
            for k in a + np.flatnonzero(rows_K["state"][a:b] == SPOOL):
                row = rows_K[k]  # a view: what is set here stays
                room = int(row["lead"]) + int(row["size"]) + int(row["trail"])
                start = container.place(cursor, room)
                _copy(source, int(row["at"]), fd, start, room)
                row["at"] = start
                cursor = start + room
        finally:
            os.close(source)
        spool.unlink()
    return cursor


def _copy(source: int, at: int, target: int, to: int, size: int) -> None:
    while size:
        try:
            done = os.copy_file_range(source, target, size, at, to)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            done = os.pwrite(target, os.pread(source, min(size, 1 << 24), at), to)
        if not done:
            raise OSError(errno.EIO, "a spool file is shorter than it was")
        at, to, size = at + done, to + done, size - done


def columns_of(rows: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The table's columns, but for parts and names, of stored images."""
    return {
        "labels": labels.astype(np.int32),
        "heights": rows["height"],
        "widths": rows["width"],
        "modes": rows["mode"],
        "offsets": rows["at"] + rows["lead"],
        "sizes": rows["size"],
        "crc32": rows["crc32"],
    }


def is_whole(work: WorkDir, rows: PartRows) -> bool:
    """Whether a finished part is still there, and its seek indices."""
    if not rows.file:
        return True
    seek_bytes = 8 * int(rows.rows_K["seek"].sum())
    files = ((work.out / rows.file, rows.file_bytes), (work.temporary(rows.seek), seek_bytes))
    return all(path.is_file() and path.stat().st_size == size for path, size in files)


def _seek_columns(work: WorkDir, parts: list[PartRows]) -> Mapping[str, Sequence[np.ndarray]]:
    """A split's seek index in pieces; none if no JPEG has one."""
    files = [work.temporary(part.seek) for part in parts if part.seek]
    words = [np.memmap(path, np.uint64, "r") for path in files if path.stat().st_size]
    kept = [part.rows_K["seek"][part.rows_K["state"] != REJECTED] for part in parts]
    starts = np.cumsum(np.concatenate([[0], *kept]), dtype=np.int64)
    return {"seek": words, "seek_starts": [starts]} if words else {}


def finish(
    index: Index,
    work: WorkDir,
    cfg: ConvertConfig,
    results: Mapping[str, list[PartRows]],
    names: Mapping[str, Names],
    key: str,
) -> None:
    """Writes every split's table, then dataset.json, and removes `.convert/`.

    Raises `UserError` if images are bad and `on_bad` is "fail", or a class of train has none left.
    """
    rejected = _report_bad(index, work, cfg, results, names)
    splits: dict[str, SplitMeta] = {}
    contents: list[str] = []
    for split, parts in results.items():
        rows = np.concatenate([part.rows_K for part in parts])
        keep = rows["state"] != REJECTED
        labels = index.splits[split].labels_N[keep]
        if split == "train":
            _refuse_lost_classes(index, labels)
        if not keep.any():
            continue
        columns = columns_of(rows[keep], labels)
        part_of = np.repeat(np.arange(len(parts)), [len(part.rows_K) for part in parts])[keep]
        columns["parts"] = np.unique(part_of, return_inverse=True)[1]
        kept_names = names[split] if keep.all() else names[split].pick(np.flatnonzero(keep))
        columns["names"], columns["name_starts"] = kept_names.text, kept_names.starts
        seek = _seek_columns(work, parts)
        folder = work.out / f"{split}.index"
        digests = table.write(folder, columns, len(index.class_names), seek)
        metas = []
        for number, part in enumerate(parts):
            inside = part_of == number
            if inside.any():
                here = {name: columns[name][inside] for name in (*CONTENT, "offsets")}
                metas.append(
                    PartMeta(
                        file=part.file,
                        bytes=part.file_bytes,
                        samples=int(inside.sum()),
                        digest=table.part_digest(here),
                    )
                )
        splits[split] = SplitMeta(
            samples=len(labels),
            parts=tuple(metas),
            columns=digests,
            seek=SeekMeta(spacing=cfg.seek_spacing) if seek else None,
        )
        contents += [split, table.content_digest(columns)]
    mean, std = _mean_std(index, results["train"])
    meta = Meta(
        format=FORMAT,
        version=VERSION,
        written_by=f"fasttail {__version__}",
        container=cfg.format,
        name=index.name,
        class_names=index.class_names,
        mean=mean,
        std=std,
        splits=splits,
        digest=digest(*index.class_names, *contents),
        made={"key": key, **_settings(cfg)},
        notes=index.notes,
        rejected=rejected,
        kinds={split: _sum_kinds(parts) for split, parts in results.items()},
    )
    with atomic.whole_file(work.out / META_FILE) as file:
        file.write(meta.model_dump_json(indent=1).encode() + b"\n")
    work.remove()


def _settings(cfg: ConvertConfig) -> dict[str, str | int | float | bool | None]:
    """What of the configuration shows in the result."""
    names = (
        *("seed", "imbalance", "val_fraction", "test_fraction", "group_by", "group_column"),
        *("max_side", "exif", "progressive", "check", "on_bad"),
        *("jpeg_quality", "raw_below_px", "max_pixels", "part_size"),
    )
    return {name: getattr(cfg, name) for name in names}


def _sum_kinds(parts: list[PartRows]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for kind, n in part.kinds.items():
            total[kind] = total.get(kind, 0) + n
    return dict(sorted(total.items()))


def _report_bad(
    index: Index,
    work: WorkDir,
    cfg: ConvertConfig,
    results: Mapping[str, list[PartRows]],
    names: Mapping[str, Names],
) -> dict[str, int]:
    """Writes rejected.csv and damaged.csv; returns how many of each split were rejected. Raises as
    `finish` says."""
    lines: dict[str, list[tuple[str, str, str, str]]] = {"rejected": [], "damaged": []}
    counts: dict[str, int] = {}
    for split, parts in results.items():
        start = 0
        for part in parts:
            for what in lines:
                for k, why in getattr(part, what):
                    label = int(index.splits[split].labels_N[start + k])
                    line = (split, names[split][start + k], index.class_names[label], why)
                    lines[what].append(line)
            counts[split] = counts.get(split, 0) + len(part.rejected)
            start += len(part.rows_K)
    rejected = lines["rejected"]
    _write_list(work.out / REJECTED_FILE, rejected)
    _write_list(work.out / DAMAGED_FILE, lines["damaged"])
    if rejected and cfg.on_bad == "fail":
        shown = "".join(f"\n  {printable(name)}: {why}" for _, name, _, why in rejected[:_SHOWN])
        more = f"\n  ... and {len(rejected) - _SHOWN} more" if len(rejected) > _SHOWN else ""
        raise UserError(
            f"{len(rejected)} bad images, all listed in {work.out / REJECTED_FILE}:{shown}{more}\n"
            "Mend or remove them, or leave them out with --on-bad skip"
        )
    return {split: n for split, n in counts.items() if n}


def _write_list(path: Path, lines: list[tuple[str, str, str, str]]) -> None:
    path.unlink(missing_ok=True)
    if not lines:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("split", "image", "class", "reason"))
    writer.writerows(lines)
    with atomic.whole_file(path) as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def _refuse_lost_classes(index: Index, labels: np.ndarray) -> None:
    lost = np.flatnonzero(np.bincount(labels, minlength=len(index.class_names)) == 0)
    if len(lost):
        raise UserError(
            f"every image of class {index.class_names[lost[0]]!r} in train is bad"
            + (f" (and of {len(lost) - 1} more classes)" if len(lost) > 1 else "")
            + f": see {REJECTED_FILE}, and mend them or take the class out"
        )


def _mean_std(index: Index, train: list[PartRows]) -> tuple[Three, Three]:
    if index.mean is not None and index.std is not None:
        return index.mean, index.std
    sums = np.array([part.sums for part in train], object).sum(axis=0)
    pixels = sums[0] * 255
    mean = [sums[1 + c] / pixels for c in range(3)]
    std = [max(sums[4 + c] / (pixels * 255) - mean[c] ** 2, 1e-8) ** 0.5 for c in range(3)]
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
