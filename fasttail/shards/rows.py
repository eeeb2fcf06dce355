"""A part's own rows: what became of its images, kept in a file beside it. The table of all parts
is made of these files, and says of each image what they say.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from fasttail import atomic
from fasttail.datasets.namelist import Names
from fasttail.shards import table
from fasttail.shards.columns import COLUMNS
from fasttail.shards.worker import REJECTED, ROW, Done

# The columns of the table that a part knows; of the names and the seek index it knows the lengths.
LENGTHS = ("name_lengths", "seek_lengths")
KNOWN = tuple(name for name in COLUMNS if name not in (*table.GROUPS, "parts", "name_starts"))


@dataclass
class Gathered:
    """What became of K images, as workers report it, in any order. `rejected` and `damaged`: (place
    among the K, why); `kinds` and `sums`: see `worker.Done`."""

    rows_K: np.ndarray
    rejected: list[tuple[int, str]] = field(default_factory=list)
    damaged: list[tuple[int, str]] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    sums: list[int] = field(default_factory=lambda: [0] * 7)

    @staticmethod
    def of(images: int) -> "Gathered":
        return Gathered(np.zeros(images, ROW))

    @property
    def keep_K(self) -> np.ndarray:
        return self.rows_K["state"] != REJECTED

    def take(self, start: int, done: Done) -> None:
        """Adds what a worker did with the chunk that begins at image `start`."""
        self.rows_K[start : start + len(done.rows_K)] = done.rows_K
        self.rejected += [(start + k, why) for k, why in done.rejected]
        self.damaged += [(start + k, why) for k, why in done.damaged]
        for kind, n in done.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + n
        self.sums = [a + b for a, b in zip(self.sums, done.sums, strict=True)]

    def columns(self, labels_K: np.ndarray) -> dict[str, np.ndarray]:
        """The table's columns, but for parts and names, of the images that are kept."""
        rows, keep_K = self.rows_K, self.keep_K
        return {
            "labels": labels_K[keep_K].astype(np.int32),
            "heights": rows["height"][keep_K],
            "widths": rows["width"][keep_K],
            "modes": rows["mode"][keep_K],
            "offsets": (rows["at"] + rows["lead"])[keep_K],
            "sizes": rows["size"][keep_K],
            "crc32": rows["crc32"][keep_K],
        }


@dataclass(frozen=True)
class About:
    """What there is to say of a finished part as a whole. `key`: of what it was made (`manifest`).
    `file`: "" if no image of it is kept. `rejected` and `damaged`: (image, label, why)."""

    key: str
    images: int
    samples: int
    file: str
    bytes: int
    digest: str
    name_bytes: int
    seek_words: int
    rejected: list[tuple[str, int, str]]
    damaged: list[tuple[str, int, str]]
    kinds: dict[str, int]
    sums: list[int]


def save(
    path: Path,
    key: str,
    gathered: Gathered,
    labels_K: np.ndarray,
    names: Names,
    file: str,
    size: int,
) -> About:
    """Writes a part's own rows: `file` has `size` bytes, and is "" where the part has none."""
    columns, keep_K = gathered.columns(labels_K), gathered.keep_K
    kept = names if keep_K.all() else names.pick(np.flatnonzero(keep_K))
    columns["names"], columns["name_lengths"] = kept.text, np.diff(kept.starts)
    columns["seek_lengths"] = gathered.rows_K["seek"][keep_K].astype(np.int64)

    def named(found: list[tuple[int, str]]) -> list[tuple[str, int, str]]:
        return [(names[k], int(labels_K[k]), why) for k, why in sorted(found)]

    about = About(
        key=key,
        images=len(keep_K),
        samples=int(keep_K.sum()),
        file=file,
        bytes=size,
        digest=table.part_digest(columns),
        name_bytes=len(kept.text),
        seek_words=int(columns["seek_lengths"].sum()),
        rejected=named(gathered.rejected),
        damaged=named(gathered.damaged),
        kinds=gathered.kinds,
        sums=gathered.sums,
    )
    text = np.frombuffer(json.dumps(asdict(about)).encode(), np.uint8)
    with atomic.whole_file(path) as out:
        np.savez(out, about=text, **columns)  # type: ignore[arg-type] - none is called allow_pickle
    return about


def read_about(path: Path) -> About | None:
    """What `save` returned, or None: not there, or of another version."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            about = About(**json.loads(saved["about"].tobytes()))
            known = all(name in saved for name in (*KNOWN, *LENGTHS))
    except (OSError, ValueError, KeyError, EOFError, TypeError):
        return None
    if not known:
        return None
    about.rejected[:] = [(name, label, why) for name, label, why in about.rejected]
    about.damaged[:] = [(name, label, why) for name, label, why in about.damaged]
    return about


def read_columns(path: Path, names: Sequence[str] = (*KNOWN, *LENGTHS)) -> dict[str, np.ndarray]:
    """The columns that `save` wrote, or some of them."""
    with np.load(path, allow_pickle=False) as saved:
        return {name: saved[name] for name in names}
