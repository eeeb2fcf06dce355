"""Pillow's decoder and torchvision's resize in a plain loop: what the others are tested against.

Needs neither FFCV nor DALI nor a compiler. Slow, and meant to be read. (torchvision's own decoder
gives the same pixels, but is deprecated since 0.29.)
"""

from collections.abc import Generator
from io import BytesIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from fasttail.engines.base import Batch, Plan
from fasttail.engines.checksums import verify
from fasttail.engines.source import RAW, Source
from fasttail.engines.table import Table
from fasttail.errors import CorruptSample


def pixels(split: Source, i: int) -> torch.Tensor:
    """Sample `i` decoded as it is stored, uint8 [3, H, W].

    Raises `CorruptSample` if its bytes are not those that were written, or do not decode to the
    stored height and width.
    """
    # Pillow is silent about some damage inside a JPEG; the checksum is not.
    verify(split, i)
    height, width = int(split.heights_N[i]), int(split.widths_N[i])
    stored = split.bytes(i)
    if int(split.modes_N[i]) == RAW:
        image_HWC = np.array(stored.reshape(height, width, 3))
    else:
        try:
            with Image.open(BytesIO(stored.data), formats=["JPEG"]) as image:
                image_HWC = np.array(image.convert("RGB"))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise CorruptSample(f"{split.where(i)}: {error}") from None
    if image_HWC.shape[:2] != (height, width):
        found_h, found_w = image_HWC.shape[:2]
        raise CorruptSample(
            f"{split.where(i)}: the JPEG has {found_w}x{found_h} pixels (width x height), "
            f"the index says {width}x{height}"
        )
    return torch.from_numpy(image_HWC).permute(2, 0, 1)


def cut(image_CHW: torch.Tensor, box_4: np.ndarray, out_hw: tuple[int, int]) -> torch.Tensor:
    """The box's content at output size, uint8 [3, H, W]; black where the box leaves the image."""
    top, left, height, width = (int(side) for side in box_4)
    region_CHW = tv.crop(image_CHW, top, left, height, width)
    return tv.resize(region_CHW, list(out_hw), InterpolationMode.BILINEAR, antialias=True)


class Reference:
    """The engine `reference`."""

    name = "reference"

    def __init__(self, split: Source, *, device: torch.device) -> None:
        self.device = device
        self._split = split
        self._table = Table(split)

    def run(self, plan: Plan, start: int = 0) -> Generator[Batch]:
        height, width = plan.out_hw
        for step in range(start, plan.steps):
            batch = plan.batch(step)
            self._table.rows(batch.ids_B)
            images_BHWC = torch.empty((len(batch.ids_B), height, width, 3), dtype=torch.uint8)
            for b, i in enumerate(batch.ids_B):
                image_CHW = cut(pixels(self._split, int(i)), batch.boxes_B4[b], plan.out_hw)
                image_HWC = image_CHW.permute(1, 2, 0)
                images_BHWC[b] = image_HWC.flip(1) if batch.flips_B[b] else image_HWC
            yield Batch(
                images_BHWC=images_BHWC.to(self.device),
                labels_B=torch.tensor(batch.labels_B, dtype=torch.int64, device=self.device),
                ids_B=torch.tensor(batch.ids_B, dtype=torch.int64, device=self.device),
                jitter_B=batch.jitter_B,
            )

    def close(self) -> None:
        pass
