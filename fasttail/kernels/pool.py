"""The decoding threads from Python, through ctypes: while they run, other Python threads run too.

Pool(threads).submit(items_B, out_BHWC) -> Ticket     decoding starts, nothing waits
Ticket.wait() -> None or (index, reason)              the batch is there, or which image failed

A KeyboardInterrupt may come between any two steps, also in a finalizer. So a batch's memory is
given back only after the library has said that it is done with it; what is interrupted on the way
there stays allocated, and nothing is ever freed that a thread still writes to. Python drops what is
raised in a finalizer, a KeyboardInterrupt too: so a batch that was waited for leaves none to run.
"""

import ctypes
import os
import weakref

import numpy as np

from fasttail.kernels.library import MESSAGE_BYTES, load

MAX_SIDE = 65535
UNFINISHED = -2  # of `ft_job_end`; -1: every image is there

# How an image's bytes are stored, as fasttail.h has it: fasttail.engines.source.JPEG and RAW, what
# `jpeg_planes` made, and a JPEG that libjpeg is to decode, whatever its kind.
PLANES, LIBJPEG = 2, 3

# `ft_item` of fasttail.h: one image of a batch. `src` is the address of its bytes; the library is
# told output sizes and addresses by `submit`.
ITEM = np.dtype(
    [
        ("src", np.uint64),
        ("size", np.int64),
        ("seek", np.uint64),  # address of the seek index, or 0
        ("out", np.uint64),
        ("out_h", np.int32),
        ("out_w", np.int32),
        ("height", np.int32),
        ("width", np.int32),
        ("box", np.int32, 4),  # top, left, height, width
        ("crc32", np.uint32),
        ("seek_count", np.int32),  # words of it
        ("mode", np.uint8),
        ("check", np.bool_),  # whether the bytes' checksum must be `crc32`
        ("flip", np.bool_),
    ],
    align=True,
)


class Ticket:
    """A batch that is being decoded. It keeps the pool's threads and all memory of the batch until
    it has ended, by `wait`, by `cancel`, or because nobody holds it any more."""

    def __init__(self, pool: "Pool", items_B: np.ndarray, memory: tuple[object, ...]) -> None:
        self._lib = pool.lib
        self._pid = os.getpid()
        job = np.zeros(self._lib.ft_job_bytes(), np.uint8)
        # Asked for now: at the interpreter's exit NumPy no longer tells an address.
        self._job: int = job.ctypes.data
        # The job's own reference, as C code would have it: no collection of garbage, no order of
        # things at the interpreter's exit takes the memory away before `_end` has let go of it.
        self._memory = ctypes.py_object((job, items_B, pool, memory))
        ctypes.pythonapi.Py_IncRef(self._memory)
        self._abandoned = weakref.finalize(
            self, _abandon, self._lib, self._job, self._pid, self._memory
        )
        self._lib.ft_submit(pool.handle(), self._job, items_B.ctypes.data, len(items_B))

    def done(self) -> bool:
        """Whether the batch is there; false if an image failed."""
        self._same_process()
        return bool(self._lib.ft_job_done(self._job))

    def wait(self) -> tuple[int, str] | None:
        """Waits for the batch: None, or the first image that failed and why.

        Raises `RuntimeError` if the batch was cancelled, or its pool closed, before it was there.
        """
        self._same_process()
        failed, reason = self._end(cancel=False)
        if failed == UNFINISHED:
            raise RuntimeError("the decoding threads have been ended")
        return None if failed < 0 else (failed, reason)

    def cancel(self) -> None:
        """Starts no further image; returns when none is being decoded any more."""
        if os.getpid() == self._pid:  # a forked child has no threads that could be at work
            self._end(cancel=True)

    def _end(self, *, cancel: bool) -> tuple[int, str]:
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        failed = self._lib.ft_job_end(self._job, cancel, message)
        if self._abandoned.detach():
            ctypes.pythonapi.Py_DecRef(self._memory)
        return failed, message.value.decode(errors="replace")

    def _same_process(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(FORKED)


def _abandon(lib: ctypes.CDLL, job: int, pid: int, memory: ctypes.py_object) -> None:
    """Ends the job of a ticket that nobody holds any more."""
    if os.getpid() == pid:
        lib.ft_job_end(job, True, ctypes.create_string_buffer(MESSAGE_BYTES))
        ctypes.pythonapi.Py_DecRef(memory)


FORKED = (
    "decoding threads do not survive a fork: make the engine in the process that uses it, or start "
    'processes by "spawn"'
)


class Pool:
    """`threads` decoding threads, which sleep while there is nothing to do.

    They do not survive a fork: in the child, every call raises `RuntimeError`.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"{threads=}")
        self.lib = load()
        self._pid = os.getpid()
        pool = self.lib.ft_pool_new(threads)
        if not pool:
            raise RuntimeError(f"the system gives no {threads} threads")
        self._pool: int | None = pool
        # Also at the interpreter's exit, so that no thread writes into memory that is being freed.
        self._free = weakref.finalize(self, _free, self.lib, pool, self._pid)

    def submit(
        self, items_B: np.ndarray, out_BHWC: np.ndarray, keep: tuple[object, ...] = ()
    ) -> Ticket:
        """Starts making the B images of `out_BHWC`, uint8 [B, H, W, 3], from `items_B`, ITEM [B].

        `keep` holds the owners of the bytes that the items name. The items are the ticket's from
        now on. Raises `ValueError` if shapes do not fit together or a box has no area.
        """
        batch, height, width, channels = out_BHWC.shape
        if channels != 3 or not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
            raise ValueError(f"{out_BHWC.shape=}")
        if not (out_BHWC.dtype == np.uint8 and out_BHWC.flags.c_contiguous):
            raise ValueError(f"{out_BHWC.dtype=}, {out_BHWC.strides=}")
        if items_B.dtype != ITEM or items_B.shape != (batch,) or not items_B.flags.c_contiguous:
            raise ValueError(f"{out_BHWC.shape=}, {items_B.dtype=}, {items_B.shape=}")
        sides_B2 = items_B["box"][:, 2:]
        if batch and not (sides_B2.min() > 0 and sides_B2.max() <= MAX_SIDE):
            raise ValueError(f"a box has a side outside 1..{MAX_SIDE}")
        items_B["out_h"], items_B["out_w"] = height, width
        first = np.uint64(out_BHWC.ctypes.data)
        items_B["out"] = first + np.arange(batch, dtype=np.uint64) * np.uint64(height * width * 3)
        return Ticket(self, items_B, (out_BHWC, *keep))

    def close(self) -> None:
        """Ends the threads. Batches that are not there yet stay undecoded."""
        self._pool = None
        self._free()

    def handle(self) -> int:
        """The library's pool. Raises `RuntimeError` after `close`, and in a forked child."""
        if self._pool is None:
            raise RuntimeError("the decoding threads have been ended")
        if os.getpid() != self._pid:
            raise RuntimeError(FORKED)
        return self._pool


def _free(lib: ctypes.CDLL, pool: int, pid: int) -> None:
    if os.getpid() == pid:
        lib.ft_pool_free(pool)
