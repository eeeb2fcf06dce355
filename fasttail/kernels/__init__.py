"""The compiled decoder: regions of JPEGs, resized, in threads without Python's lock.

`available()` says whether it was built; everything else raises `KernelMissing` where it was not.
"""

from fasttail.kernels.jpeg import (
    jpeg_check,
    jpeg_decode,
    jpeg_planes,
    jpeg_seek,
    jpeg_to_baseline,
)
from fasttail.kernels.library import KernelMissing, available, simd, why_missing
from fasttail.kernels.pool import ITEM, LIBJPEG, PLANES, Pool, Ticket

__all__ = [
    "ITEM",
    "LIBJPEG",
    "PLANES",
    "KernelMissing",
    "Pool",
    "Ticket",
    "available",
    "jpeg_check",
    "jpeg_decode",
    "jpeg_planes",
    "jpeg_seek",
    "jpeg_to_baseline",
    "simd",
    "why_missing",
]
