"""JPEGs of every kind, and a way to put boxes of one through the kernel."""

import sys
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fasttail import kernels

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import _jpeg_writer

SAMPLINGS = tuple(_jpeg_writer.SAMPLINGS)


def noisy(height: int, width: int, seed: int) -> np.ndarray:
    """Colourful pixels uint8 [height, width, 3] without any smooth place."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // 4), -(-width // 4), 3))
    image = np.kron(coarse, np.ones((4, 4, 1)))[:height, :width]
    return np.clip(image + rng.normal(0, 25, image.shape), 0, 255).astype(np.uint8)


def encode(pixels: np.ndarray, **options: object) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **{"quality": 90, **options})
    return file.getvalue()


def every_kind(height: int, width: int) -> dict[str, bytes]:
    """A JPEG of each kind of about this size."""
    pixels = noisy(height, width, seed=height * 1000 + width)
    return {
        **{sampling: _jpeg_writer.write(pixels, sampling) for sampling in _jpeg_writer.SAMPLINGS},
        "grey": encode(pixels[:, :, 0]),
        "progressive 4:2:0": encode(pixels, subsampling=2, progressive=True),
        "progressive 4:4:4": encode(pixels, subsampling=0, progressive=True),
        "restarts 4:2:0": encode(pixels, subsampling=2, restart_marker_blocks=3),
        "restarts 4:4:4": encode(pixels, subsampling=0, restart_marker_rows=1),
    }


Cut = Callable[..., "np.ndarray | tuple[int, str]"]


@pytest.fixture(scope="session")
def cut() -> Iterator[Cut]:
    """`cut(stored, boxes, out_hw)` -> images uint8 [B, H, W, 3], or which failed and why.

    `stored` is a JPEG's bytes or raw pixels; options: `size_hw` (what the index says), `flips`,
    `crc32`, the item's `mode`, its `seek` index.
    """
    pool = kernels.Pool(2)

    def cut(
        stored: bytes | memoryview | np.ndarray,
        boxes: Sequence[Sequence[int]] | np.ndarray,
        out_hw: tuple[int, int],
        *,
        size_hw: tuple[int, int] | None = None,
        flips: bool = False,
        crc32: int | None = None,
        mode: int | None = None,
        seek: np.ndarray | None = None,
    ) -> np.ndarray | tuple[int, str]:
        if size_hw is None:
            shape = (
                stored if isinstance(stored, np.ndarray) else kernels.jpeg_decode(bytes(stored))
            ).shape
            size_hw = (shape[0], shape[1])
        raw = isinstance(stored, np.ndarray)
        data = stored.reshape(-1) if raw else np.frombuffer(stored, np.uint8)
        out_BHWC = np.full((len(boxes), *out_hw, 3), 77, np.uint8)
        items_B = np.zeros(len(boxes), kernels.ITEM)
        items_B["src"], items_B["size"], items_B["mode"] = data.ctypes.data, data.size, raw
        items_B["check"], items_B["crc32"] = crc32 is not None, crc32 or 0
        items_B["height"], items_B["width"] = size_hw
        items_B["box"] = np.asarray(boxes, np.int32).reshape(-1, 4)
        items_B["flip"] = flips
        if mode is not None:
            items_B["mode"] = mode
        if seek is not None:
            items_B["seek"], items_B["seek_count"] = seek.ctypes.data, len(seek)
        failed = pool.submit(items_B, out_BHWC, keep=(data, seek)).wait()
        return failed or out_BHWC

    yield cut
    pool.close()
