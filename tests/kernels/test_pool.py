"""A batch's memory: whoever ends a batch, in whatever order, and however often."""

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from fasttail import kernels

from .conftest import encode, noisy

pytestmark = pytest.mark.skipif(not kernels.available(), reason=kernels.why_missing())

JPEG = np.frombuffer(encode(noisy(300, 400, seed=1)), np.uint8)
UNTOUCHED = 77


def start(pool: kernels.Pool, count: int) -> tuple[kernels.Ticket, np.ndarray]:
    """A batch of the same photograph `count` times, and its output."""
    items_B = np.zeros(count, kernels.ITEM)
    items_B["src"], items_B["size"] = JPEG.ctypes.data, JPEG.size
    items_B["height"], items_B["width"] = 300, 400
    items_B["box"] = 0, 0, 300, 400
    out_BHWC = np.full((count, 256, 256, 3), UNTOUCHED, np.uint8)
    return pool.submit(items_B, out_BHWC), out_BHWC


def test_ending_a_batch_again_gives_the_same_answer() -> None:
    pool = kernels.Pool(2)
    good, out_BHWC = start(pool, 8)
    assert good.wait() is None
    assert good.wait() is None
    good.cancel()
    assert good.done()
    assert (out_BHWC == out_BHWC[0]).all()
    assert (out_BHWC != UNTOUCHED).any()
    bad, _ = start(pool, 8)
    bad.cancel()
    bad.cancel()
    pool.close()


def test_a_failed_batch_keeps_its_reason() -> None:
    pool = kernels.Pool(1)
    items_B = np.zeros(2, kernels.ITEM)
    items_B["box"] = 0, 0, 1, 1
    ticket = pool.submit(items_B, np.empty((2, 8, 8, 3), np.uint8))
    assert ticket.wait() == ticket.wait() == (0, "no bytes")
    assert not ticket.done()


def test_a_closed_pool_leaves_its_batches_safe_to_end() -> None:
    pool = kernels.Pool(1)
    tickets = [start(pool, 30)[0] for _ in range(4)]
    pool.close()
    pool.close()
    with pytest.raises(RuntimeError, match="ended"):
        tickets[-1].wait()
    for ticket in tickets:
        ticket.cancel()
        ticket.cancel()
    with pytest.raises(RuntimeError, match="ended"):
        start(pool, 1)


def test_a_ticket_keeps_the_pool_and_a_dropped_one_ends_its_batch() -> None:
    pool = kernels.Pool(1)
    kept, out_BHWC = start(pool, 20)
    dropped = [start(pool, 20)[0] for _ in range(3)]
    del pool
    gc.collect()
    dropped.clear()
    gc.collect()
    assert kept.wait() is None
    assert (out_BHWC == out_BHWC[0]).all()


def test_a_forked_child_has_no_threads_and_says_so() -> None:
    pool = kernels.Pool(1)
    ticket, _ = start(pool, 4)
    ticket._pid = pool._pid = os.getpid() + 1  # as a forked child sees it
    with pytest.raises(RuntimeError, match="fork"):
        ticket.wait()
    with pytest.raises(RuntimeError, match="fork"):
        start(pool, 1)
    ticket.cancel()  # there is nothing to do
    ticket._pid = pool._pid = os.getpid()
    assert ticket.wait() is None


def test_a_file_that_becomes_shorter_is_an_error_of_the_sample(tmp_path: Path) -> None:
    path = tmp_path / "part"
    size = JPEG.size
    path.write_bytes(JPEG.tobytes() + bytes(1 << 16))
    mapped = np.memmap(path, np.uint8, "r")
    pool = kernels.Pool(2)
    items_B = np.zeros(6, kernels.ITEM)
    items_B["src"], items_B["size"] = mapped.ctypes.data, size
    items_B["height"], items_B["width"] = 300, 400
    items_B["box"] = 0, 0, 300, 400
    out_BHWC = np.empty((6, 64, 64, 3), np.uint8)
    os.truncate(path, 0)
    for _ in range(3):
        failed = pool.submit(items_B.copy(), out_BHWC, keep=(mapped,)).wait()
        assert failed is not None
        assert "shorter" in failed[1]
    path.write_bytes(JPEG.tobytes())
    assert pool.submit(items_B.copy(), out_BHWC, keep=(mapped,)).wait() is None


CRASHES = """
import ctypes, faulthandler, sys
import numpy as np
from fasttail import kernels
faulthandler.enable()
pool = kernels.Pool(1)
items_B = np.zeros(1, kernels.ITEM)
items_B["src"], items_B["size"], items_B["height"], items_B["width"] = 4096, 100, 8, 8
items_B["box"] = 0, 0, 8, 8
pool.submit(items_B, np.empty((1, 8, 8, 3), np.uint8)).wait()
"""


def test_a_fault_in_a_thread_is_reported_by_faulthandler() -> None:
    done = subprocess.run([sys.executable, "-c", CRASHES], capture_output=True, text=True)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr


def test_a_batch_that_was_waited_for_runs_no_python_when_it_goes() -> None:
    """A KeyboardInterrupt that came there would be lost."""
    pool = kernels.Pool(2)
    ticket, _ = start(pool, 4)
    ticket.wait()
    called: list[str] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    sys.setprofile(watch)
    del ticket
    sys.setprofile(None)
    assert not called


def test_the_threads_leave_ctrl_c_to_the_main_thread() -> None:
    pool = kernels.Pool(2)
    blocked = []
    for task in Path("/proc/self/task").iterdir():
        fields = dict(
            line.split(":\t")
            for line in (task / "status").read_text().splitlines()
            if ":\t" in line
        )
        blocked.append(int(fields["SigBlk"], 16))
    held = [mask for mask in blocked if mask >> (signal.SIGINT - 1) & 1]
    assert len(held) >= 2
    own = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
    assert any(not any(mask >> (number - 1) & 1 for number in own) for mask in held)
    pool.close()
