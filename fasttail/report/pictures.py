"""Stored images as small pictures that a page carries in itself."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fasttail.shards import Split
from fasttail.shards.columns import RAW

SIDE_PX = 72
QUALITY = 75


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI; `why_not` where the image can't be read. `says` is its tooltip."""

    uri: str
    height: int
    width: int
    says: str
    why_not: str = ""


def thumbnail(split: Split, i: int, says: str) -> Picture:
    """A split's sample, its longer side at most `SIDE_PX` pixels, as WebP."""
    height, width = int(split.heights_N[i]), int(split.widths_N[i])
    try:
        data = split.bytes(i)
        if split.modes_N[i] == RAW:
            image = Image.fromarray(np.asarray(data).reshape(height, width, 3))
        else:
            image = Image.open(io.BytesIO(data.tobytes()), formats=("JPEG",))
            image.draft("RGB", (2 * SIDE_PX, 2 * SIDE_PX))
            image = image.convert("RGB")
    # Damaged bytes make Pillow raise whatever Python raises; the page goes on without the picture.
    except Exception as error:  # noqa: BLE001
        return Picture("", 0, 0, says, f"{type(error).__name__}")
    image.thumbnail((SIDE_PX, SIDE_PX))
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
    return Picture(uri, image.height, image.width, says)
