"""FFCV's compiled JPEG decoder, for machines where fasttail's own kernel was not built.

The shared library is opened by itself: importing the package `ffcv` sets torch's and numba's thread
counts. FFCV's own resize is not used: it is OpenCV's INTER_AREA, which is another filter than the
contract's. Pillow's is that filter, and lets other threads run.

FFCV decodes by the fast DCT, which makes images darker by nearly a level of 255. Where some samples
are stored raw this would tell which, so there Pillow decodes.
"""

import ctypes
import importlib.util
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
from PIL import Image

from fasttail.engines.base import BatchPlan
from fasttail.engines.checksums import verify
from fasttail.engines.reference import pixels
from fasttail.engines.source import RAW, Source
from fasttail.errors import CorruptSample


def library() -> Path | None:
    """FFCV's compiled library, or None where the package is not installed. Imports nothing."""
    spec = importlib.util.find_spec("ffcv")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for found in sorted(Path(folder).glob("_libffcv*.so")):
            return found
    return None


def _size_in_header(stored: np.ndarray) -> tuple[int, int] | None:
    """Height and width in a JPEG's frame header, or None if there is no such header."""
    data = stored.data
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        # SOF0..SOF15, but for DHT, JPG and DAC, which lie among them
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
        if marker == 0xDA:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


class LibffcvTicket:
    """A batch in the thread pool: one future an image."""

    def __init__(self, images: Sequence[Future[None]]) -> None:
        self._images = images

    def done(self) -> bool:
        return all(image.done() and image.exception() is None for image in self._images)

    def wait(self) -> None:
        for image in self._images:
            image.result()

    def cancel(self) -> None:
        for image in self._images:
            image.cancel()
        wait([image for image in self._images if not image.cancelled()])


class LibffcvDecoder:
    """Decodes batches in `threads` threads. Raises `OSError` if the library can't be opened."""

    def __init__(self, split: Source, library: Path, threads: int) -> None:
        self._split = split
        self._imdecode = ctypes.CDLL(str(library)).imdecode
        self._imdecode.argtypes = [
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.c_uint32,
            ctypes.c_uint32,
            ctypes.c_void_p,
            *[ctypes.c_uint32] * 6,
            ctypes.c_bool,
            ctypes.c_bool,
        ]
        self._exact = bool((split.modes_N == RAW).any())
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fasttail-decode")

    def submit(self, batch: BatchPlan, images_BHWC: np.ndarray) -> LibffcvTicket:
        return LibffcvTicket(
            [
                self._pool.submit(self._image, int(i), box_4, bool(flip), out_HWC)
                for i, box_4, flip, out_HWC in zip(
                    batch.ids_B, batch.boxes_B4, batch.flips_B, images_BHWC, strict=True
                )
            ]
        )

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _image(self, i: int, box_4: np.ndarray, flip: bool, out_HWC: np.ndarray) -> None:
        stored = self._split.bytes(i)
        # The library is silent about some damage; the checksum is not.
        verify(self._split, i)
        image = Image.fromarray(self._decode(i, stored))
        top, left, height, width = (int(side) for side in box_4)
        box = (left, top, left + width, top + height)
        if left < 0 or top < 0 or box[2] > image.width or box[3] > image.height:
            image = image.crop(box)  # black outside
            box = (0, 0, width, height)
        out_h, out_w = out_HWC.shape[:2]
        image = image.resize((out_w, out_h), Image.Resampling.BILINEAR, box=box)
        pixels_HWC = np.asarray(image)
        out_HWC[:] = pixels_HWC[:, ::-1] if flip else pixels_HWC

    def _decode(self, i: int, stored: np.ndarray) -> np.ndarray:
        height, width = int(self._split.heights_N[i]), int(self._split.widths_N[i])
        if int(self._split.modes_N[i]) == RAW:
            return stored.reshape(height, width, 3)
        if self._exact:
            return pixels(self._split, i).permute(1, 2, 0).numpy()
        # The library writes as many pixels as the header says, wherever the memory ends.
        found = _size_in_header(stored)
        if found != (height, width):
            raise CorruptSample(
                f"{self._split.where(i)}: height and width are {found} in the JPEG's header, "
                f"{(height, width)} in the index"
            )
        pixels_HWC = np.empty((height, width, 3), np.uint8)
        failed = self._imdecode(
            stored.ctypes.data, stored.size, height, width, pixels_HWC.ctypes.data,
            height, width, 0, 0, 1, 1, False, False,
        )  # fmt: skip
        if failed:
            raise CorruptSample(f"{self._split.where(i)}: the JPEG can't be decoded")
        return pixels_HWC
