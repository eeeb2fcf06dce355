"""What a data set is before it is converted: images by number, labels, class names. No tensors.

Each data set is one module with `index(source, options) -> Index`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from fasttail.errors import UserError


class Images(Protocol):
    """Images by number. Picklable, since converting sends it to worker processes."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """What a person knows image i by: its path under the source, or e.g. `digits[12]`."""
        ...

    def read(self, i: int) -> bytes | np.ndarray:
        """Image i as an image file's bytes, or as pixels uint8 [H, W, 3]."""
        ...


@dataclass(frozen=True)
class FileImages:
    """Image files under a root; `paths` are relative to it."""

    root: Path
    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        return self.paths[i]

    def read(self, i: int) -> bytes:
        return (self.root / self.paths[i]).read_bytes()


@dataclass(frozen=True)
class ArrayImages:
    """Images that are in memory already: `pixels_NHWC` is uint8 [N, H, W, 3]."""

    pixels_NHWC: np.ndarray
    what: str

    def __len__(self) -> int:
        return len(self.pixels_NHWC)

    def name(self, i: int) -> str:
        return f"{self.what}[{i}]"

    def read(self, i: int) -> np.ndarray:
        return self.pixels_NHWC[i]


@dataclass(frozen=True)
class SplitIndex:
    """The images of one split and their labels int64 [N], each in 0..C-1."""

    images: Images
    labels_N: np.ndarray

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels_N):
            raise ValueError(f"{len(self.images)} images but {len(self.labels_N)} labels")

    def take(self, which: np.ndarray) -> "SplitIndex":
        """The samples at these positions, in this order."""
        return SplitIndex(Subset(self.images, which), self.labels_N[which])


@dataclass(frozen=True)
class Subset:
    """Some of another `Images`, by position."""

    images: Images
    which: np.ndarray

    def __len__(self) -> int:
        return len(self.which)

    def name(self, i: int) -> str:
        return self.images.name(int(self.which[i]))

    def read(self, i: int) -> bytes | np.ndarray:
        return self.images.read(int(self.which[i]))


@dataclass(frozen=True)
class Index:
    """A data set, found but not yet converted.

    `splits` maps "train" and, where there are any, "val" and "test" to their samples. `mean` and
    `std` are per channel, of pixels scaled to 0..1, and are what training normalises by.
    """

    name: str
    class_names: tuple[str, ...]
    splits: Mapping[str, SplitIndex]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "train" not in self.splits:
            raise UserError(f"{self.name}: no train split was found")
        counts_C = self.counts("train")
        empty = [self.class_names[c] for c in np.flatnonzero(counts_C == 0)]
        if empty:
            shown = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
            raise UserError(
                f"{self.name}: train has no image of {len(empty)} of {len(self.class_names)} "
                f"classes ({shown}): add images, or take the classes out"
            )

    def counts(self, split: str) -> np.ndarray:
        """Images per class of a split, int64 [C]."""
        return np.bincount(self.splits[split].labels_N, minlength=len(self.class_names))
