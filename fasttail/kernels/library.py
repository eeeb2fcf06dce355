"""The compiled library: found, checked against its sources, its functions declared."""

import ctypes
import functools
import os
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
MESSAGE_BYTES = 256


class KernelMissing(ImportError):
    """The kernel was not built, or from other sources."""


class _Library(NamedTuple):
    """The compiled library, or the reason why there is none."""

    lib: ctypes.CDLL | None
    reason: str


def _declare(lib: ctypes.CDLL) -> None:
    """Argument and result types: without them, addresses would be cut to 32 bits."""
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    int32, int64, size = ctypes.c_int32, ctypes.c_int64, ctypes.POINTER(ctypes.c_int32)
    for name, result, arguments in (
        ("ft_digest", text, []),
        ("ft_pool_new", pointer, [int32]),
        ("ft_pool_free", None, [pointer]),
        ("ft_job_bytes", int64, []),
        ("ft_submit", None, [pointer, pointer, pointer, int32]),
        ("ft_job_done", ctypes.c_int, [pointer]),
        ("ft_job_end", int32, [pointer, ctypes.c_int, text]),
        ("ft_jpeg_decode", ctypes.c_int, [pointer, int64, pointer, int64, size, size, text]),
        ("ft_seek_most", int64, [int64, int32]),
        ("ft_seek_make", int64, [pointer, int64, int32, pointer, int64, size, size, text]),
        ("ft_planes", int64, [pointer, int64, pointer, int64, text]),
        ("ft_jpeg_to_baseline", int64, [pointer, int64, pointer, int64, text]),
        ("ft_simd", text, []),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments


@functools.cache
def _library() -> _Library:
    # Here, so that `python -m fasttail.kernels.build` does not find itself imported already.
    from fasttail.kernels.build import HOW_TO_BUILD, NAME, digest

    folder = Path(os.environ.get("FASTTAIL_KERNEL_DIR", HERE))
    found = sorted(folder.glob(f"{NAME}*.so"))
    reason = f"{folder} has no {NAME}*.so: {HOW_TO_BUILD}"
    for path in found:
        try:
            lib = ctypes.CDLL(str(path))
            _declare(lib)
        except (OSError, AttributeError) as error:
            reason = f"{path} can't be loaded ({error}): {HOW_TO_BUILD}"
            continue
        if lib.ft_digest().decode() == digest():
            return _Library(lib, "")
        reason = f"{path} was built from other sources: {HOW_TO_BUILD}"
    return _Library(None, reason)


def available() -> bool:
    """Whether the kernel is there and fits."""
    return _library().lib is not None


def why_missing() -> str:
    """Why `available()` is false, and what to do; empty if it is true."""
    return _library().reason


def simd() -> str:
    """What the decoder computes with here: avx512, avx2, neon or c. `FASTTAIL_SIMD` asks for one,
    which is taken if the processor has it; all make the same pixels."""
    return load().ft_simd().decode()


def load() -> ctypes.CDLL:
    """The library. Raises `KernelMissing`."""
    library = _library()
    if library.lib is None:
        raise KernelMissing(library.reason)
    return library.lib
