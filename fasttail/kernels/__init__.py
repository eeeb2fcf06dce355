"""The compiled decoder: regions of JPEGs, resized, in threads without Python's lock.

`available()` says whether it was built; everything else raises `KernelMissing` where it was not.
"""

from fasttail.kernels.jpeg_roi import (
    KernelMissing,
    Pool,
    Ticket,
    available,
    jpeg_check,
    jpeg_decode,
    why_missing,
)

__all__ = [
    "KernelMissing",
    "Pool",
    "Ticket",
    "available",
    "jpeg_check",
    "jpeg_decode",
    "why_missing",
]
