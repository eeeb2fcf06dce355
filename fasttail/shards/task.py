"""One task of a conversion: a part, of the manifest alone. It is whole or not at all, and comes out
the same wherever, whenever and however often it is made.

    the part's piece -> chunks -> workers write them to the part, or to spools     (worker.py)
    what had no slot is appended, header and allocation table written, fsync
    its own rows are kept (rows.py), and it gets its name
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from fasttail import atomic
from fasttail.errors import UserError
from fasttail.shards import manifest, parts, rows
from fasttail.shards.containers import Container, container
from fasttail.shards.manifest import Manifest, ManifestPart, Piece
from fasttail.shards.parts import Part
from fasttail.shards.pool import Pool, WriteError
from fasttail.shards.rows import About, Gathered
from fasttail.shards.workdir import WorkDir
from fasttail.shards.worker import ABSENT, SPOOL, Done, Place, Task

Advance = Callable[[str, int], None]  # so many more images of this split are done


def open_pool(about: Manifest, jobs: int) -> Pool:
    """The worker processes that `make` needs."""
    cfg = about.cfg
    rule, form = manifest.rule_from(cfg), container(cfg.format)
    return Pool(jobs, rule, form, cfg.image_timeout_s)


def make(work: WorkDir, about: Manifest, part: ManifestPart, pool: Pool, advance: Advance) -> None:
    """Makes one part, unless it is there. Two that make it at once both end well.

    Raises `UserError` if the disk is full, or an image is not what it was when it was listed.
    """
    try:
        if finished(work, part):
            advance(part.split, part.images)
            return
        with work.attempt(part.name) as folder:
            if finished(work, part):  # by whom this one has waited for
                advance(part.split, part.images)
                return
            piece = manifest.read_piece(work, part)
            _write(work, about, part, piece, folder, pool, advance)
    except (WriteError, OSError) as error:
        cause = error.error if isinstance(error, WriteError) else error
        if work.is_finished and cause.errno == errno.ENOENT:
            return  # others have made all of it meanwhile, and cleaned up
        raise atomic.explain(cause, work.out) from error


def finished(work: WorkDir, part: ManifestPart) -> About | None:
    """What is known of a part that is finished. None: it has to be made, still or again."""
    known = rows.read_about(work.rows(part.name))
    if known is None or known.key != part.key:
        return None
    if not known.file:
        return None if known.samples else known
    files = ((work.out / known.file, known.bytes), (work.seek(part.name), 8 * known.seek_words))
    there = all(path.is_file() and path.stat().st_size == size for path, size in files)
    return known if there else None


def _write(
    work: WorkDir,
    about: Manifest,
    part: ManifestPart,
    piece: Piece,
    folder: Path,
    pool: Pool,
    advance: Advance,
) -> None:
    cfg, form = about.cfg, container(about.cfg.format)
    layout = parts.plan(piece.facts, form, pixels=manifest.pixels(piece))
    need_space(work, layout.end)
    path = folder / f"{part.name}{form.suffix}"
    path.touch()
    gathered = Gathered.of(part.images)

    def take(task: Task, done: Done) -> None:
        gathered.take(task.number, done)
        advance(part.split, len(done.rows_K))

    pool.run(_chunks(piece, layout, part.start, path), take)
    if (gathered.rows_K["state"] == ABSENT).any():
        raise RuntimeError(f"{part.name}: images are missing")
    made, size = [], 0
    # With bad images the conversion will fail: of such a part the list of them is kept alone.
    if gathered.keep_K.any() and not (gathered.rejected and cfg.on_bad == "fail"):
        made, size = _finish(path, layout, gathered, piece.labels_K, form, part.start)
        seek = folder / work.seek(part.name).name
        join_seek(seek, [seek_of(path, a) for a, _ in layout.chunks])
        atomic.rename(seek, work.seek(part.name))
    names = piece.names
    file = path.name if made else ""
    rows.save(work.rows(part.name), part.key, gathered, piece.labels_K, names, file, size)
    for one in made:  # the part last: if it has its name, it need not be made again
        work.publish(one)


def _chunks(piece: Piece, layout: Part, start: int, path: Path) -> Iterator[Task]:
    for a, b in layout.chunks:
        ids = np.arange(a, b)
        place = Place(
            part=str(path),
            spool=str(spool_of(path, a)),
            first=start + a,
            slots_K=layout.slots_K[a:b],
            rooms_K=layout.rooms_K[a:b],
        )
        yield Task(
            number=a,
            kind="store",
            images=piece.images.pick(ids),
            labels_K=piece.labels_K[a:b],
            measured_K=piece.measured_K[a:b],
            seek=str(seek_of(path, a)),
            place=place,
        )


def spool_of(part: Path, chunk_start: int) -> Path:
    return part.with_name(f"spool-{chunk_start}")


def seek_of(part: Path, chunk_start: int) -> Path:
    return part.with_name(f"seek-{chunk_start}")


def need_space(work: WorkDir, size: int) -> None:
    """Raises `UserError` if so many bytes can't be written."""
    free = work.free_bytes()
    if size > free:
        raise UserError(
            f"{work.out}: the next shard takes {_mib(size)}, only {_mib(free)} are free: make "
            "room, then run the same command again: it keeps the finished shards"
        )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def _finish(
    path: Path, layout: Part, gathered: Gathered, labels_K: np.ndarray, form: Container, start: int
) -> tuple[list[Path], int]:
    """Appends the spooled images and writes what surrounds them: the part is whole, and has yet to
    get its name. `gathered` then says where in it each image lies.

    Returns the files that were made, the part last, and its size.
    """
    fd = os.open(path, os.O_RDWR)
    try:
        end = _append_spooled(fd, path, layout, gathered.rows_K, form)
        columns = gathered.columns(labels_K)
        size = form.finish(fd, end, columns)
        os.fsync(fd)
    finally:
        os.close(fd)
    companion = form.companion(columns, start + np.flatnonzero(gathered.keep_K))
    if companion is None:
        return [path], size
    suffix, content = companion
    other = path.with_suffix(suffix)
    with atomic.whole_file(other) as file:
        file.write(content)
    return [other, path], size


def join_seek(joined: Path, chunks: Iterable[Path]) -> None:
    """Puts the chunks' seek indices one after the other."""
    with joined.open("wb") as file:
        for chunk in chunks:
            if chunk.exists():
                file.write(chunk.read_bytes())
                chunk.unlink()
        file.flush()
        os.fsync(file.fileno())


def _append_spooled(fd: int, path: Path, layout: Part, rows_K: np.ndarray, form: Container) -> int:
    """Moves the images without a slot behind the slots, in their order. Returns where they end."""
    cursor = layout.end
    for a, b in layout.chunks:
        spool = spool_of(path, a)
        if not spool.exists():
            continue
        source = os.open(spool, os.O_RDONLY)
        try:
            for k in a + np.flatnonzero(rows_K["state"][a:b] == SPOOL):
                row = rows_K[k]  # a view: what is set here stays
                room = int(row["lead"]) + int(row["size"]) + int(row["trail"])
                start = form.place(cursor, room)
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
