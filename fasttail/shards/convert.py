"""Converting: an `Index` becomes shards. It may be killed at any time; the next run goes on.

    facts of the source files -> a plan: parts, chunks, slots          (parts.py)
    every part: its chunks are read, checked and written by workers    (pool.py, worker.py)
        what had no slot is appended, header and allocation table written, fsync, rename
    the table of every split, then dataset.json                        (finish.py)

Several processes, started by torchrun, take the chunks of each part in turn, and the first of them
finishes the files: the bytes are those that one process would have written.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fasttail import atomic
from fasttail.config import ConvertConfig
from fasttail.datasets.base import ArrayImages, Facts, Index, SplitIndex
from fasttail.datasets.namelist import Names
from fasttail.errors import UserError
from fasttail.shards import finish, format, parts, tail
from fasttail.shards.columns import digest
from fasttail.shards.containers import Container, container
from fasttail.shards.image import Rule
from fasttail.shards.parts import Part
from fasttail.shards.pool import Pool, WriteError
from fasttail.shards.ranks import Ranks
from fasttail.shards.reader import Shards
from fasttail.shards.reader import open as open_shards
from fasttail.shards.workdir import PartRows, WorkDir
from fasttail.shards.worker import ABSENT, ROW, Done, Place, Task

MEASURED_IMAGES = 2048  # of train, where mean and std have to be measured
Progress = Callable[[str, int, int], None]  # what is being done, so many images of so many


@dataclass(frozen=True)
class SplitPlan:
    """One split before it is converted."""

    name: str
    index: SplitIndex
    facts: Facts
    measured_N: np.ndarray
    bounds: list[tuple[int, int]]


def convert(
    index: Index, out: Path, cfg: ConvertConfig, progress: Progress | None = None
) -> Shards:
    """Writes `index` to the folder `out` and opens it.

    Raises `UserError` if images are bad (and `on_bad` is "fail"), the disk is full, another
    conversion runs there, or `out` holds other shards already.
    """
    work = WorkDir(Path(out))
    with Ranks() as ranks:
        if not ranks.is_main:
            return _Conversion(index, work, cfg, ranks, None).run()
        with work.held():
            shards = _Conversion(index, work, cfg, ranks, progress).run()
    if cfg.raw_budget is not None:
        tail.keep(shards.dir, cfg.raw_budget, progress)
    return shards


def rule_from(cfg: ConvertConfig) -> Rule:
    """What the configuration asks of every image."""
    return Rule(
        check=cfg.check,
        seek_spacing=cfg.seek_spacing if cfg.check == "decode" else 0,
        exif=cfg.exif,
        progressive=cfg.progressive,
        max_side=cfg.max_side,
        jpeg_quality=cfg.jpeg_quality,
        raw_below_px=cfg.raw_below_px,
        max_pixels=cfg.max_pixels,
    )


def jobs_for(cfg: ConvertConfig) -> int:
    """Worker processes on this machine."""
    return cfg.jobs or len(os.sched_getaffinity(0))


class _Conversion:
    def __init__(
        self,
        index: Index,
        work: WorkDir,
        cfg: ConvertConfig,
        ranks: Ranks,
        progress: Progress | None,
    ) -> None:
        self.index = index
        self.work = work
        self.cfg = cfg
        self.ranks = ranks
        self.progress = progress
        self.container: Container = container(cfg.format)
        self.rule = rule_from(cfg)
        self.jobs = max(1, jobs_for(cfg) // (1 if cfg.jobs else ranks.world.local_size))
        self.done = self.total = 0

    def run(self) -> Shards:
        with Pool(self.jobs, self.rule, self.container, self.cfg.image_timeout_s) as pool:
            try:
                images = sum(len(split.labels_N) for split in self.index.splits.values())
                pool.start(-(-images // parts.CHUNK_IMAGES))
                return self._run(pool)
            except (WriteError, OSError) as error:
                cause = error.error if isinstance(error, WriteError) else error
                raise atomic.explain(cause, self.work.out) from error
            finally:
                self._clean_up()

    def _run(self, pool: Pool) -> Shards:
        self.ranks.barrier()  # the first rank has made the folder
        plans = [self._plan(name, split) for name, split in self.index.splits.items()]
        names = {plan.name: self._names(plan.index) for plan in plans}
        keys = {
            (plan.name, number): self._key(plan, bounds, names[plan.name])
            for plan in plans
            for number, bounds in enumerate(plan.bounds)
        }
        key = digest(
            *keys.values(),
            self.cfg.on_bad,
            json.dumps([self.index.name, self.index.class_names, self.index.mean, self.index.std]),
        )
        if self._is_there(key):
            if self.ranks.is_main:
                self.work.remove()
            return open_shards(self.work.out)
        self.total = sum(len(plan.index.labels_N) for plan in plans)
        results: dict[str, list[PartRows]] = {}
        for plan in plans:
            results[plan.name] = []
            for number, bounds in enumerate(plan.bounds):
                rows = self._part(plan, number, bounds, keys[plan.name, number], pool)
                results[plan.name].append(rows)
        self._finish(results, names, key)
        return open_shards(self.work.out)

    def _finish(
        self, results: dict[str, list[PartRows]], names: dict[str, Names], key: str
    ) -> None:
        error: UserError | None = None
        if self.ranks.is_main:
            try:
                finish.finish(self.index, self.work, self.cfg, results, names, key)
            except UserError as found:
                error = found
        failed = self.ranks.gather(error is not None)[0]
        if error is not None:
            raise error
        if failed:
            raise SystemExit(2)  # the first rank says why

    # --- planning -------------------------------------------------------------------------------

    def _plan(self, name: str, split: SplitIndex) -> SplitPlan:
        facts = split.facts or split.images.facts()
        n = len(split.labels_N)
        measured_N = np.zeros(n, bool)
        if name == "train" and self.index.mean is None:
            measured_N[:: max(1, -(-n // MEASURED_IMAGES))] = True
        # These decide about every image, so that none is expected to go in as it is.
        if self.cfg.max_side is not None or self.cfg.exif == "apply":
            facts = Facts(facts.bytes_N, np.zeros(n, bool), facts.stamp_N)
        return SplitPlan(name, split, facts, measured_N, parts.divide(facts, self.cfg.part_size))

    @staticmethod
    def _names(split: SplitIndex) -> Names:
        paths = getattr(split.images, "paths", None)
        if isinstance(paths, Names):
            return paths
        return Names.of(split.images.name(i) for i in range(len(split.labels_N)))

    def _key(self, plan: SplitPlan, bounds: tuple[int, int], names: Names) -> str:
        """Changes when a part would come out differently."""
        a, b = bounds
        settings = [format.VERSION, self.container.suffix, asdict(self.rule), bounds]
        text = names.text[names.starts[a] : names.starts[b]]
        return digest(
            json.dumps(settings),
            np.ascontiguousarray(text),
            np.diff(names.starts[a : b + 1]),
            plan.facts.bytes_N[a:b],
            plan.facts.stamp_N[a:b],
            plan.index.labels_N[a:b],
            plan.measured_N[a:b],
        )

    def _is_there(self, key: str) -> bool:
        """Whether `out` holds exactly these shards. Raises `UserError` if it holds others."""
        out = self.work.out
        if not (out / format.META_FILE).exists():
            return False
        if format.read_meta(out).made.get("key") != key:
            raise UserError(
                f"{out} holds shards already, of other images or settings: choose another --out, "
                "or remove it"
            )
        return True

    # --- one part -------------------------------------------------------------------------------

    def _part(
        self, plan: SplitPlan, number: int, bounds: tuple[int, int], key: str, pool: Pool
    ) -> PartRows:
        file = format.part_name(plan.name, number, self.container.suffix)
        record = self.work.record(file, None)
        known = self.work.load(record, key)
        whole = known is not None and finish.is_whole(self.work, known)
        # Every rank looks for itself; they must agree, whatever their file system shows them.
        if all(self.ranks.gather(whole)) and known is not None:
            self._advance(plan.name, len(known.rows_K))
            return known
        layout = parts.plan(
            plan.name,
            number,
            bounds,
            plan.facts,
            self.container,
            pixels=isinstance(plan.index.images, ArrayImages),
        )
        return self._write_part(plan, layout, file, key, pool)

    def _write_part(self, plan: SplitPlan, part: Part, file: str, key: str, pool: Pool) -> PartRows:
        path = self.work.temporary(file)
        if self.ranks.is_main:
            record = self.work.record(file, None)
            record.unlink(missing_ok=True)
            finish.need_space(self.work, part.end)
            self.work.clear_chunks()
            path.unlink(missing_ok=True)
            path.touch()
        self.ranks.barrier()
        rank = self.ranks.world.rank
        rows = PartRows(np.zeros(part.stop - part.start, ROW))

        def take(task: Task, done: Done) -> None:
            rows.take(task.number, done)
            self._advance(plan.name, len(done.rows_K) * self.ranks.world.size)

        pool.run(self._tasks(plan, part, path), take)
        if self.ranks.world.size > 1:
            finish.fsync(path)
            self.work.save(self.work.record(file, rank), key, rows)
            self.ranks.barrier()
            if self.ranks.is_main:
                rows = self._merge(file, key, rows)
        rows.rejected.sort()
        rows.damaged.sort()
        if self.ranks.is_main:
            if (rows.rows_K["state"] == ABSENT).any():
                raise RuntimeError(f"{file}: images are missing")
            if self.cfg.on_bad == "skip" or not rows.rejected:
                finish.finish_part(self.work, part, file, rows, plan.index.labels_N, self.container)
                self.work.save(self.work.record(file, None), key, rows)
                if rows.file:  # last, so that a part with its name need not be made again
                    atomic.rename(path, self.work.out / file)
            else:
                path.unlink()
        self.ranks.barrier()
        return rows

    def _tasks(self, plan: SplitPlan, part: Part, path: Path) -> Iterator[Task]:
        for a, b in self.ranks.mine(part.chunks):
            ids = np.arange(part.start + a, part.start + b)
            place = Place(
                part=str(path),
                spool=str(self.work.spool(part, a)),
                first=part.start + a,
                slots_K=part.slots_K[a:b],
                rooms_K=part.rooms_K[a:b],
            )
            yield Task(
                number=a,
                kind="store",
                images=plan.index.images.pick(ids),
                labels_K=plan.index.labels_N[ids],
                measured_K=plan.measured_N[ids],
                seek=str(self.work.seek(format.part_name(part.split, part.number, ""), a)),
                place=place,
            )

    def _merge(self, file: str, key: str, mine: PartRows) -> PartRows:
        for rank in range(1, self.ranks.world.size):
            path = self.work.record(file, rank)
            other = self.work.load(path, key)
            if other is None:
                raise UserError(f"{path} is not there: do all nodes see the same folder?")
            mine.merge(other)
            path.unlink()
        return mine

    def _advance(self, what: str, images: int) -> None:
        self.done = min(self.done + images, self.total)
        if self.progress is not None:
            self.progress(what, self.done, self.total)

    def _clean_up(self) -> None:
        """What is of no use to the next run makes room at once."""
        if self.ranks.is_main and self.work.path.is_dir():
            self.work.clear_chunks()
            for path in self.work.path.glob(f"*{self.container.suffix}"):
                path.unlink()
