"""Converting: an `Index` becomes shards. It may be killed at any time; the next run goes on.

    plan    what goes into which part: a manifest                    (manifest.py)
    tasks   every part, of the manifest alone, in any order          (task.py)
    merge   the table of all parts' own rows, then dataset.json      (merge.py)

`convert` is these three. Who makes the parts is the executor's business: the bytes are the same.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fasttail.config import ConvertConfig
from fasttail.datasets.base import Index
from fasttail.errors import unknown
from fasttail.shards import manifest, onray, tail, task
from fasttail.shards.manifest import Manifest, ManifestPart
from fasttail.shards.merge import merge
from fasttail.shards.parts import CHUNK_IMAGES
from fasttail.shards.ranks import Ranks
from fasttail.shards.reader import Shards
from fasttail.shards.reader import open as open_shards
from fasttail.shards.workdir import WorkDir

LOCAL, RAY = "local", "ray"
Progress = Callable[[str, int, int], None]  # what is being done, so many images of so many


def convert(
    index: Index, out: Path, cfg: ConvertConfig, progress: Progress | None = None, on: str = LOCAL
) -> Shards:
    """Writes `index` to the folder `out` and opens it. Of processes that torchrun started, all call
    this, and share the work. `on`: the executor (`check_executor`).

    Raises `UserError` if images are bad (and `on_bad` is "fail"), the disk is full, another
    conversion runs there, or `out` holds other shards already.
    """
    ranks = Ranks()
    if not ranks.is_main:
        return assist(ranks)
    with ranks.leading():
        return lead(ranks, index, out, cfg, progress, on)


def check_executor(on: str) -> None:
    """Raises `UserError` unless `on` is the local pool, "ray" or an address "ray://HOST:PORT"."""
    if on not in (LOCAL, RAY) and not on.startswith(f"{RAY}://"):
        raise unknown("executor", on, (LOCAL, RAY, f"{RAY}://HOST:PORT"))


def lead(
    ranks: Ranks, index: Index, out: Path, cfg: ConvertConfig, progress: Progress | None, on: str
) -> Shards:
    """`convert`, for the first of the processes."""
    check_executor(on)
    work = WorkDir(Path(out))
    with work.held():
        about = manifest.write(index, work, cfg)
        ranks.announce(str(work.out.absolute()), about.key)
        if work.is_finished:
            work.remove()
        else:
            _make(work, about, ranks, progress, on)
            merge(work, about)
    return _opened(work.out, cfg, progress)


def assist(ranks: Ranks) -> Shards:
    """`convert`, for the others."""
    out, key = ranks.announced()
    work = WorkDir(Path(out))
    if not work.is_finished:
        _make(work, manifest.read_as(work, key), ranks, None, LOCAL)
    ranks.leave()
    return open_shards(work.out)


def plan(index: Index, out: Path, cfg: ConvertConfig, origin: str) -> Manifest | None:
    """Writes the manifest of a conversion; None if the shards are there already."""
    work = WorkDir(Path(out))
    with work.held():
        about = manifest.write(index, work, cfg, origin)
        if not work.is_finished:
            return about
        work.remove()
    return None


def finish(work: WorkDir, about: Manifest, progress: Progress | None = None) -> Shards:
    """Writes the table once all parts are made, and opens the shards.

    Raises `UserError` as `merge` does.
    """
    with work.held():
        merge(work, about)
    return _opened(work.out, about.cfg, progress)


def _opened(out: Path, cfg: ConvertConfig, progress: Progress | None) -> Shards:
    if cfg.raw_budget is not None:
        tail.keep(out, cfg.raw_budget, progress)
    return open_shards(out)


def make_parts(
    work: WorkDir,
    about: Manifest,
    parts: Iterable[ManifestPart],
    jobs: int,
    advance: task.Advance,
) -> None:
    """Makes these parts, one after the other, with `jobs` worker processes."""
    with task.open_pool(about, jobs) as pool:
        # They get ready while this process looks at what is there already.
        pool.start(-(-about.images // CHUNK_IMAGES))
        for part in parts:
            task.make(work, about, part, pool, advance)


def _make(work: WorkDir, about: Manifest, ranks: Ranks, progress: Progress | None, on: str) -> None:
    cfg = about.cfg
    jobs = cfg.jobs or ranks.share(manifest.jobs_for(cfg))

    def advance(split: str, images: int) -> None:
        done = ranks.count(images)
        if progress is not None:
            progress(split, min(done, about.images), about.images)

    if on != LOCAL:
        onray.make_parts(work, about, on, advance)
        return

    def parts() -> Iterator[ManifestPart]:
        yield from ranks.take(about.parts)
        if ranks.is_main and ranks.world.size > 1:  # what others are still at, or have left undone
            yield from (part for part in about.parts if task.finished(work, part) is None)

    make_parts(work, about, parts(), jobs, advance)
