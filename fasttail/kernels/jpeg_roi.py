"""The compiled decoder from Python, through ctypes: while it runs, other Python threads run too.

Pool(threads).submit(..., out_BHWC) -> Ticket     decoding starts, nothing waits
Ticket.wait() -> None or (index, reason)          the batch is there, or which image failed
"""

import ctypes
import functools
import os
import weakref
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parent
MESSAGE_BYTES = 256
MAX_SIDE = 65535


class KernelMissing(ImportError):
    """The kernel was not built, or from other sources."""


class _Library(NamedTuple):
    """The compiled library, or the reason why there is none."""

    lib: ctypes.CDLL | None
    reason: str


def _array(dtype: type, ndim: int) -> type:
    return np.ctypeslib.ndpointer(dtype, ndim=ndim, flags="C_CONTIGUOUS")


def _declare(lib: ctypes.CDLL) -> None:
    """Argument and result types: without them, addresses would be cut to 32 bits."""
    pointer, int32, text = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p
    lib.ft_digest.restype = ctypes.c_char_p
    lib.ft_pool_new.argtypes, lib.ft_pool_new.restype = [int32], pointer
    lib.ft_pool_free.argtypes, lib.ft_pool_free.restype = [pointer], None
    lib.ft_submit.argtypes = [
        pointer,
        int32,
        int32,
        int32,
        _array(np.uint64, 1),
        _array(np.int64, 1),
        _array(np.uint8, 1),
        _array(np.uint8, 1),
        _array(np.uint32, 1),
        _array(np.int32, 1),
        _array(np.int32, 1),
        _array(np.int32, 2),
        _array(np.uint8, 1),
        _array(np.uint8, 4),
    ]
    lib.ft_submit.restype = pointer
    lib.ft_job_done.argtypes, lib.ft_job_done.restype = [pointer, pointer], ctypes.c_int
    lib.ft_job_end.argtypes = [pointer, pointer, ctypes.c_int, text]
    lib.ft_job_end.restype = int32
    size = ctypes.POINTER(int32)
    lib.ft_jpeg_decode.argtypes = [
        pointer,
        ctypes.c_int64,
        pointer,
        ctypes.c_int64,
        size,
        size,
        text,
    ]
    lib.ft_jpeg_decode.restype = ctypes.c_int


@functools.cache
def _library() -> _Library:
    # Here, so that `python -m fasttail.kernels.build` does not find itself imported already.
    from fasttail.kernels.build import NAME, digest

    folder = Path(os.environ.get("FASTTAIL_KERNEL_DIR", HERE))
    found = sorted(folder.glob(f"{NAME}*.so"))
    again = 'run "python -m fasttail.kernels.build" (it needs a C compiler and libjpeg-dev)'
    reason = f"{folder} has no {NAME}*.so: {again}"
    for path in found:
        try:
            lib = ctypes.CDLL(str(path))
            _declare(lib)
        except (OSError, AttributeError) as error:
            reason = f"{path} can't be loaded ({error}): {again}"
            continue
        if lib.ft_digest().decode() == digest():
            return _Library(lib, "")
        reason = f"{path} was built from other sources: {again}"
    return _Library(None, reason)


def available() -> bool:
    """Whether the kernel is there and fits."""
    return _library().lib is not None


def why_missing() -> str:
    """Why `available()` is false, and what to do; empty if it is true."""
    return _library().reason


def _load() -> ctypes.CDLL:
    library = _library()
    if library.lib is None:
        raise KernelMissing(library.reason)
    return library.lib


class Ticket:
    """A batch that is being decoded. Its memory is kept until `wait` or `cancel`."""

    def __init__(self, pool: "Pool", job: int, memory: tuple[np.ndarray, ...]) -> None:
        self._pool = pool
        self._job: int | None = job
        self._memory: tuple[np.ndarray, ...] | None = memory
        self._outcome: tuple[int, str] | None = None

    def done(self) -> bool:
        """Whether the batch is there; false too if an image failed."""
        if self._job is None:
            return self._outcome is None
        return self._pool.job_done(self._job)

    def wait(self) -> tuple[int, str] | None:
        """Waits for the batch: None, or the first image that failed and why."""
        return self._end(cancel=False)

    def cancel(self) -> None:
        """Starts no further image; returns when none is being decoded any more."""
        self._end(cancel=True)

    def _end(self, *, cancel: bool) -> tuple[int, str] | None:
        if self._job is not None:
            self._outcome = self._pool.job_end(self._job, cancel=cancel)
            self._job = self._memory = None
        return self._outcome


class Pool:
    """`threads` decoding threads, which sleep while there is nothing to do.

    They do not survive a fork: in the child, every call raises `RuntimeError`. Every ticket must be
    waited for or cancelled before `close`.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"{threads=}")
        self._lib = _load()
        self._pid = os.getpid()
        pool = self._lib.ft_pool_new(threads)
        if not pool:
            raise RuntimeError(f"the system gives no {threads} threads")
        self._pool: int | None = pool
        # Also at the interpreter's exit, so that no thread writes into memory that is being freed.
        self._free = weakref.finalize(self, _free, self._lib, pool, self._pid)

    def submit(
        self,
        out_BHWC: np.ndarray,
        *,
        addresses_B: np.ndarray,
        sizes_B: np.ndarray,
        raw_B: np.ndarray,
        check_B: np.ndarray,
        crc32_B: np.ndarray,
        heights_B: np.ndarray,
        widths_B: np.ndarray,
        boxes_B4: np.ndarray,
        flips_B: np.ndarray,
        keep: tuple[np.ndarray, ...] = (),
    ) -> Ticket:
        """Starts making B images of `out_BHWC`, uint8 [B, H, W, 3].

        Image b: the `sizes_B[b]` bytes at `addresses_B[b]`, which must stay readable (`keep` holds
        their owners), are raw pixels or a JPEG of the given height and width. Where `check_B`,
        their CRC-32 must be `crc32_B`. Its box (top, left, height, width) is resized to H x W, and
        mirrored where `flips_B`.

        Raises `ValueError` if shapes do not fit together or a box has no area.
        """
        batch, height, width, channels = out_BHWC.shape
        if channels != 3 or not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
            raise ValueError(f"{out_BHWC.shape=}")
        boxes_B4 = np.ascontiguousarray(boxes_B4, np.int32)
        per_image = (
            np.ascontiguousarray(addresses_B, np.uint64),
            np.ascontiguousarray(sizes_B, np.int64),
            np.ascontiguousarray(raw_B, np.uint8),
            np.ascontiguousarray(check_B, np.uint8),
            np.ascontiguousarray(crc32_B, np.uint32),
            np.ascontiguousarray(heights_B, np.int32),
            np.ascontiguousarray(widths_B, np.int32),
            np.ascontiguousarray(flips_B, np.uint8),
        )
        lengths = {len(array) for array in per_image} | {batch}
        if len(lengths) > 1 or boxes_B4.shape != (batch, 4):
            raise ValueError(f"{out_BHWC.shape=}, {boxes_B4.shape=}, {lengths=}")
        if batch and not (boxes_B4[:, 2:].min() > 0 and boxes_B4[:, 2:].max() <= MAX_SIDE):
            raise ValueError(f"a box has a side outside 1..{MAX_SIDE}")
        *arrays, flips = per_image
        pool = self._own()
        job = self._lib.ft_submit(pool, batch, height, width, *arrays, boxes_B4, flips, out_BHWC)
        if not job:
            raise MemoryError("for a batch's description")
        return Ticket(self, job, (*per_image, boxes_B4, out_BHWC, *keep))

    def job_done(self, job: int) -> bool:
        return bool(self._lib.ft_job_done(self._own(), job))

    def job_end(self, job: int, *, cancel: bool) -> tuple[int, str] | None:
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        failed = self._lib.ft_job_end(self._own(), job, cancel, message)
        return None if failed < 0 else (failed, message.value.decode(errors="replace"))

    def close(self) -> None:
        """Ends the threads."""
        self._pool = None
        self._free()

    def _own(self) -> int:
        if self._pool is None:
            raise RuntimeError("the decoding threads have been ended")
        if os.getpid() != self._pid:
            raise RuntimeError(
                "decoding threads do not survive a fork: make the engine in the process that uses "
                'it, or start processes by "spawn"'
            )
        return self._pool


def _free(lib: ctypes.CDLL, pool: int, pid: int) -> None:
    if os.getpid() == pid:
        lib.ft_pool_free(pool)


def _bytes(data: bytes | np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.frombuffer(data, np.uint8))


def _decode(data: np.ndarray, out: np.ndarray | None) -> tuple[int, tuple[int, int], str]:
    """What `ft_jpeg_decode` returns, height and width, the reason."""
    height, width = ctypes.c_int32(), ctypes.c_int32()
    message = ctypes.create_string_buffer(MESSAGE_BYTES)
    code = _load().ft_jpeg_decode(
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
