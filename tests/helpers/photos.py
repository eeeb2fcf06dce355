"""Images and data sets for tests of the shards."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fasttail.datasets.base import FileImages, Index, SplitIndex
from fasttail.datasets.namelist import Names

HALF = (0.5, 0.5, 0.5)


def photo(seed: int, height: int = 90, width: int = 120) -> np.ndarray:
    """uint8 [H, W, 3]: smooth shapes with some noise, as photographs have."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / rng.uniform(5, 30) + y / rng.uniform(5, 30) + c) for c in range(3)]
    pixels = 128 + 90 * np.stack(waves, -1) + rng.normal(0, 6, (height, width, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def saved(image: Image.Image, form: str, **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **how)
    return out.getvalue()


def encode(pixels: np.ndarray, **how: Any) -> bytes:
    """A JPEG of these pixels."""
    return saved(Image.fromarray(pixels), "JPEG", **how)


def encoded(
    seed: int, form: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (90, 120), **how: Any
) -> bytes:
    """A photo as a file."""
    return saved(Image.fromarray(photo(seed, *size)).convert(mode), form, **how)


SMALL = encoded(0, size=(20, 30))


def jpegs(
    counts: tuple[int, ...], size=(90, 120), *, progressive: bool = False
) -> list[tuple[str, bytes, int]]:
    """(path, content, label): different sizes, RGB and grey, baseline or some `progressive`."""
    found = []
    for label, n in enumerate(counts):
        for i in range(n):
            seed = len(found)
            mode = "L" if seed % 5 == 4 else "RGB"
            content = encoded(
                seed,
                mode=mode,
                size=(size[0] + 3 * (seed % 4), size[1] - 5 * (seed % 3)),
                quality=80 + seed % 10,
                progressive=progressive and seed % 3 == 1,
                subsampling=seed % 3,
            )
            found.append((f"c{label}/{i}.jpg", content, label))
    return found


def index(
    root: Path, samples: list[tuple[str, bytes, int]], *, measured: bool = False, name: str = "set"
) -> Index:
    """Writes the samples to `root` and lists them as train."""
    for path, content, _ in samples:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    labels = np.array([label for *_, label in samples], np.int64)
    split = SplitIndex(FileImages(root, Names.of(path for path, *_ in samples)), labels)
    classes = tuple(f"c{c}" for c in range(int(labels.max()) + 1))
    stats = (None, None) if measured else (HALF, HALF)
    return Index(name, classes, {"train": split}, *stats)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def opened(source: Path | bytes | bytearray) -> Image.Image:
    """An image file, read whole and closed."""
    content = source.read_bytes() if isinstance(source, Path) else source
    return Image.open(io.BytesIO(content))
