"""Small splits and fixed plans for the engines' tests."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fasttail.engines.base import BatchPlan, Jitter


@dataclass
class StoredSplit:
    """Samples in one file, as an engine reads them: JPEG files' bytes, or pixels stored raw."""

    path: Path
    samples: Sequence[bytes | np.ndarray]
    labels_N: np.ndarray = field(init=False)
    heights_N: np.ndarray = field(init=False)
    widths_N: np.ndarray = field(init=False)
    modes_N: np.ndarray = field(init=False)
    parts_N: np.ndarray = field(init=False)
    offsets_N: np.ndarray = field(init=False)
    sizes_N: np.ndarray = field(init=False)
    crc32_N: np.ndarray = field(init=False)
    seek: tuple[np.ndarray, np.ndarray] | None = field(init=False, default=None)
    cache: None = field(init=False, default=None)

    def __post_init__(self) -> None:
        raw = [isinstance(sample, np.ndarray) for sample in self.samples]
        shapes = [
            sample.shape[:2]
            if isinstance(sample, np.ndarray)
            else Image.open(BytesIO(sample)).size[::-1]
            for sample in self.samples
        ]
        stored = [
            sample.tobytes() if isinstance(sample, np.ndarray) else sample
            for sample in self.samples
        ]
        self.labels_N = np.zeros(len(stored), np.int64)
        self.heights_N, self.widths_N = np.array(shapes, np.int32).T
        self.modes_N = np.array(raw, np.uint8)
        self.parts_N = np.zeros(len(stored), np.int32)
        self.sizes_N = np.array([len(data) for data in stored], np.int64)
        self.offsets_N = np.concatenate([[0], np.cumsum(self.sizes_N)[:-1]])
        self.crc32_N = np.array([zlib.crc32(data) for data in stored], np.uint32)
        self.path.write_bytes(b"".join(stored))
        self._part = np.memmap(self.path, np.uint8, "r")

    @property
    def part_paths(self) -> tuple[Path, ...]:
        return (self.path,)

    def __len__(self) -> int:
        return len(self.samples)

    def part_size(self, part: int) -> int:
        return self.part_bytes(part).size

    def part_bytes(self, part: int) -> np.ndarray:
        assert part == 0
        return self._part

    def bytes(self, i: int) -> np.ndarray:
        return self._part[self.offsets_N[i] : self.offsets_N[i] + self.sizes_N[i]]

    def where(self, i: int) -> str:
        return f"{self.path.name}: sample {i}"

    def overwrite(self, i: int, at: int, data: bytes) -> None:
        """Damages sample i: these bytes, at this place in it."""
        with self.path.open("r+b") as file:
            file.seek(int(self.offsets_N[i]) + at)
            file.write(data)


@dataclass(frozen=True)
class FixedPlan:
    """A plan that is written out in full."""

    batches: Sequence[BatchPlan]
    out_hw: tuple[int, int]

    @property
    def steps(self) -> int:
        return len(self.batches)

    @property
    def max_batch(self) -> int:
        return max(len(batch.ids_B) for batch in self.batches)

    def batch(self, step: int) -> BatchPlan:
        return self.batches[step]


def random_plan(
    split: StoredSplit, out_hw: tuple[int, int], *, batch: int, draws: int, seed: int
) -> FixedPlan:
    """Random images and boxes, every fifth of which reaches past an edge; half are flipped."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(len(split), size=draws)
    ids[: len(split)] = rng.permutation(len(split))[:draws]
    full_hw = np.stack([split.heights_N[ids], split.widths_N[ids]], 1)
    side_hw = np.maximum(1, (full_hw * rng.uniform(0.2, 1, (draws, 2))).astype(np.int64))
    corner_hw = (rng.uniform(0, 1, (draws, 2)) * (full_hw - side_hw + 1)).astype(np.int64)
    corner_hw[::10] -= 3
    side_hw[5::10] += 4
    boxes = np.concatenate([corner_hw, side_hw], 1).astype(np.int32)
    flips = rng.random(draws) < 0.5
    labels = ids % 7
    parts = [slice(at, at + batch) for at in range(0, draws, batch)]
    return FixedPlan(
        [BatchPlan(ids[p], labels[p], boxes[p], flips[p], None) for p in parts], out_hw
    )


def photo(height: int, width: int, seed: int) -> np.ndarray:
    """Pixels like a photograph's, uint8 [height, width, 3]: large shapes, some grain, edges."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for cells in (2, 4, 8, 16):
        coarse = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        layers = [
            np.asarray(
                Image.fromarray(coarse[:, :, c]).resize((width, height), Image.Resampling.BICUBIC)
            )
            for c in range(3)
        ]
        image += np.stack(layers, 2) * (90 / cells**0.5)
    rows, columns = np.mgrid[:height, :width]
    disc = (rows - height / 2) ** 2 + (columns - width / 3) ** 2 < (min(height, width) / 4) ** 2
    image[disc] += rng.uniform(-60, 60, 3)
    image += rng.normal(0, 3, image.shape)
    return np.clip(image + 120, 0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    """A JPEG file of these pixels, by Pillow."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **{"quality": 90, **options})
    return file.getvalue()


def random_jitter(batch: int, *, hue: float, seed: int) -> Jitter:
    rng = np.random.default_rng(seed)
    factors = rng.uniform(0.6, 1.4, (batch, 4)).astype(np.float32)
    factors[:, 3] = rng.uniform(-hue, hue, batch)
    order = np.stack([rng.permutation(4) for _ in range(batch)]).astype(np.uint8)
    return Jitter(factors, order)


@pytest.fixture
def store(tmp_path: Path) -> Callable[[Sequence[bytes | np.ndarray]], StoredSplit]:
    """Writes samples to a file: `store([jpeg(...), pixels, ...])`."""
    return lambda samples: StoredSplit(tmp_path / "part-00000.beton", samples)
