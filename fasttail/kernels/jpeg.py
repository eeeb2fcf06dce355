"""Whole JPEG files: are they good, and their pixels."""

import ctypes

import numpy as np

from fasttail.kernels.library import MESSAGE_BYTES, load


def _bytes(data: bytes | np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.frombuffer(data, np.uint8))


def _decode(data: np.ndarray, out: np.ndarray | None) -> tuple[int, tuple[int, int], str]:
    """What `ft_jpeg_decode` returns, height and width, the reason."""
    height, width = ctypes.c_int32(), ctypes.c_int32()
    message = ctypes.create_string_buffer(MESSAGE_BYTES)
    code = load().ft_jpeg_decode(
        data.ctypes.data,
        data.size,
        None if out is None else out.ctypes.data,
        0 if out is None else out.size,
        height,
        width,
        message,
    )
    return code, (height.value, width.value), message.value.decode(errors="replace")


def jpeg_check(data: bytes | np.ndarray) -> str | None:
    """What is wrong with a JPEG file's bytes, or None if the engine will decode them.

    The whole file is decoded. A warning counts as an error, and so does what the engine refuses:
    CMYK, arithmetic coding, other than 8 bits a sample, too many pixels or scans.
    """
    code, _, reason = _decode(_bytes(data), None)
    return reason if code else None


def jpeg_decode(data: bytes | np.ndarray) -> np.ndarray:
    """The pixels of a JPEG file's bytes, uint8 [H, W, 3]: exactly what the engine resizes.

    Raises `ValueError` with what `jpeg_check` would say.
    """
    data = _bytes(data)
    code, shape, reason = _decode(data, np.empty(0, np.uint8))
    if code >= 0:
        pixels_HWC = np.empty((*shape, 3), np.uint8)
        code, _, reason = _decode(data, pixels_HWC)
        if code == 0:
            return pixels_HWC
    raise ValueError(reason)
