"""Photographs to measure on where none are given. Needs numpy and Pillow alone."""

from pathlib import Path

import numpy as np
from PIL import Image


def make_photos(folder: Path, count: int) -> None:
    """JPEG files of about ImageNet's sizes, smooth shapes with some noise: about as many bytes, and
    so about as much work to decode, as photographs have."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for i in range(count):
        width, height = (500, 375) if i % 4 else (375, 500)
        image = np.zeros((height, width, 3), np.float32)
        for cells in (4, 16, 64):
            coarse = generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            image += np.asarray(fine, np.float32) * (4 / (cells + 4))
        image += generator.normal(0, 6, image.shape)
        image = 255 * (image - image.min()) / (image.max() - image.min())
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{i:04d}.jpg", quality=90)
