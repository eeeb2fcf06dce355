"""The compiled decoder: regions of JPEGs, resized, in threads without Python's lock.

`available()` says whether it was built; everything else raises `KernelMissing` where it was not.
"""

from fasttail.kernels.jpeg import jpeg_check, jpeg_decode
from fasttail.kernels.library import KernelMissing, available, why_missing
from fasttail.kernels.pool import ITEM, Pool, Ticket

__all__ = [
    "ITEM",
    "KernelMissing",
    "Pool",
    "Ticket",
    "available",
    "jpeg_check",
    "jpeg_decode",
    "why_missing",
]
