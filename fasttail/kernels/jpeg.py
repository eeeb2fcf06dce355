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


def jpeg_seek(data: bytes | np.ndarray, spacing: int) -> np.ndarray:
    """The seek index of a JPEG file's bytes, uint64 [N], a point every `spacing` bytes or so: with
    it, a box is decoded without what lies before. Empty for a good JPEG that can't have one.

    Checks all of the JPEG on the way: raises `ValueError` with what `jpeg_check` would say.
    """
    data = _bytes(data)
    lib, size, message = load(), ctypes.c_int32(), ctypes.create_string_buffer(MESSAGE_BYTES)
    words_N = np.empty(lib.ft_seek_most(data.size, spacing), np.uint64)
    count = lib.ft_seek_make(
        data.ctypes.data,
        data.size,
        spacing,
        words_N.ctypes.data,
        len(words_N),
        size,
        size,
        message,
    )
    if count < 0:
        raise ValueError(message.value.decode(errors="replace"))
    return words_N[:count].copy()


def jpeg_planes(data: bytes | np.ndarray) -> np.ndarray:
    """A JPEG file's samples at their own sampling, uint8 [N]: an item of mode PLANES, which makes
    the pixels that the JPEG makes. Empty for a good JPEG that can't have them.

    Raises `ValueError` with what `jpeg_check` would say.
    """
    data = _bytes(data)
    lib, message = load(), ctypes.create_string_buffer(MESSAGE_BYTES)
    planes_N = np.empty(
        max(lib.ft_planes(data.ctypes.data, data.size, None, 0, message), 0), np.uint8
    )
    made = lib.ft_planes(data.ctypes.data, data.size, planes_N.ctypes.data, len(planes_N), message)
    if made <= 0:
        reason = jpeg_check(data) if made == 0 else message.value.decode(errors="replace")
        if reason:
            raise ValueError(reason)
    return planes_N[: max(made, 0)]


def jpeg_to_baseline(data: bytes | np.ndarray) -> bytes:
    """A baseline JPEG of the same coefficients, and so of the same pixels, with the same markers.
    Empty for a good JPEG that can't have one.

    Raises `ValueError` with what is wrong, as `jpeg_check` would.
    """
    data = _bytes(data)
    lib, message = load(), ctypes.create_string_buffer(MESSAGE_BYTES)
    capacity = 2 * data.size + 65_536
    while True:
        out_N = np.empty(capacity, np.uint8)
        made = lib.ft_jpeg_to_baseline(
            data.ctypes.data, data.size, out_N.ctypes.data, capacity, message
        )
        if made < 0:
            raise ValueError(message.value.decode(errors="replace"))
        if made <= capacity:
            return out_N[:made].tobytes()
        capacity = made
