"""`.convert/` in the folder of the shards: what is not finished, and what is known of what is.

lock                  held by the conversion that is running
train-00000.beton     a part that is being written
spool-4096            images of the chunk that begins at its image 4096, whose place in the
                      part is not known yet
seek-4096             the seek indices of that chunk's images
train-00000.R.npz     rank R's rows of that part, while the other ranks work on theirs
train-00000.npz       the rows of a finished part: the next run need not make it again
train-00000.seek      its seek indices
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fasttail import atomic
from fasttail.errors import UserError
from fasttail.shards.format import WORK_DIR, part_name
from fasttail.shards.parts import Part
from fasttail.shards.worker import ABSENT, ROW, Done

_KEPT = ("rejected", "damaged", "kinds", "sums", "file", "file_bytes", "seek")


@dataclass
class PartRows:
    """What became of the K images of a part. `rejected` and `damaged`: (place in the part, why);
    `kinds` and `sums`: see `worker.Done`. `file`: the finished part, "" if no image is left.
    `seek`: the file of their seek indices in `.convert/`, "" if there is none."""

    rows_K: np.ndarray
    rejected: list[tuple[int, str]] = field(default_factory=list)
    damaged: list[tuple[int, str]] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    sums: list[int] = field(default_factory=lambda: [0] * 7)
    file: str = ""
    file_bytes: int = 0
    seek: str = ""

    def take(self, start: int, done: Done) -> None:
        """Adds what a worker did with the chunk that begins at image `start`."""
        self.rows_K[start : start + len(done.rows_K)] = done.rows_K
        self.rejected += [(start + k, why) for k, why in done.rejected]
        self.damaged += [(start + k, why) for k, why in done.damaged]
        self._add(done.kinds, done.sums)

    def merge(self, other: "PartRows") -> None:
        """Adds what another rank did with its chunks of the part."""
        there = other.rows_K["state"] != ABSENT
        self.rows_K[there] = other.rows_K[there]
        self.rejected += other.rejected
        self.damaged += other.damaged
        self._add(other.kinds, other.sums)

    def _add(self, kinds: dict[str, int], sums: list[int]) -> None:
        for kind, n in kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + n
        self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)]


class WorkDir:
    """Paths in `.convert/`, and the records of parts in it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out / WORK_DIR

    @contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder and keeps other conversions out.

        Raises `UserError` if one is running or the folder can't be made.
        """
        busy = UserError(
            f"another fasttail convert is writing to {self.out}: wait for it, or choose another "
            "--out"
        )
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(atomic.held(self.path / "lock", busy))
            except OSError as error:
                raise atomic.explain(error, self.out) from None
            yield

    def temporary(self, file: str) -> Path:
        return self.path / file

    def spool(self, part: Part, chunk_start: int) -> Path:
        return self.path / f"{part_name(part.split, part.number, '')}.spool-{chunk_start}"

    def seek(self, name: str, chunk_start: int) -> Path:
        """A chunk's seek indices; `name` is the part's, without its suffix."""
        return self.path / f"{name}.seek-{chunk_start}"

    def clear_chunks(self) -> None:
        for what in ("spool", "seek"):
            for path in self.path.glob(f"*.{what}-*"):
                path.unlink(missing_ok=True)

    def record(self, file: str, rank: int | None) -> Path:
        """Where the rows of a part are kept: of a finished one, or one rank's of an unfinished."""
        return self.path / (f"{file}.npz" if rank is None else f"{file}.{rank}.npz")

    def save(self, path: Path, key: str, rows: PartRows) -> None:
        about = {"key": key, **{name: getattr(rows, name) for name in _KEPT}}
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        with atomic.whole_file(path) as file:
            np.savez(file, rows=rows.rows_K, about=text)

    def load(self, path: Path, key: str) -> PartRows | None:
        """What `save` wrote under the same key, or None."""
        try:
            with np.load(path, allow_pickle=False) as saved:
                about = json.loads(saved["about"].tobytes())
                rows_K = saved["rows"]
        except (OSError, ValueError, KeyError, EOFError):
            return None  # not there, or another version's: the part is made again
        if about.get("key") != key or rows_K.dtype != ROW:
            return None
        for name in ("rejected", "damaged"):
            about[name] = [(k, why) for k, why in about[name]]
        return PartRows(rows_K, **{name: about[name] for name in _KEPT})

    def remove(self) -> None:
        shutil.rmtree(self.path)

    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize
