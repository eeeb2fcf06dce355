"""Ctrl-C at any moment, and a program's end with an iterator open: no engine ends by a fault."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fasttail import kernels
from fasttail.engines import dali

HELPERS = Path(__file__).parent
ENGINES = [
    pytest.param(
        "ffcv",
        marks=pytest.mark.skipif(not kernels.available(), reason=kernels.why_missing()),
    ),
    "reference",
    "resident",
    "synthetic",
    pytest.param(
        "dali",
        marks=[
            pytest.mark.dali,
            pytest.mark.skipif(not dali.available(), reason="DALI is not installed"),
        ],
    ),
]

# Signals come from a timer, at moments that are drawn: while a batch is waited for, while the next
# is submitted, while the iterator is closed, while garbage is collected. DALI is spared while it
# builds a pipeline: interrupted there, it builds none any more in this process.
INTERRUPTED = """
import random, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
from conftest import StoredSplit, photo, random_plan
from fasttail import engines

name, path, seed, rounds = sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
split = StoredSplit(path, [photo(90, 90, seed=i) for i in range(8)])
plan = random_plan(split, (64, 64), batch=16, draws=96, seed=1)
engine = engines.make(name, split, device=torch.device("cpu"), threads=2)
expected = [batch.images_BHWC.clone() for batch in engine.run(plan)]
random.seed(seed)
interrupted = 0
signal.signal(signal.SIGALRM, signal.default_int_handler)
for _ in range(rounds):
    batches = engine.run(plan)
    if name == "dali":
        next(batches)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 4e-3))
            for step, batch in enumerate(batches):
                if step == 3:
                    batches.close()
                    batches = engine.run(plan, start=1)
                    next(batches)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
found = [batch.images_BHWC for batch in engine.run(plan)]
assert all(map(torch.equal, found, expected)), "other pixels"
print("interrupted", interrupted)
"""

OPEN = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
from conftest import StoredSplit, photo, random_plan
from fasttail import engines

split = StoredSplit(Path(sys.argv[3]), [photo(90, 90, seed=i) for i in range(8)])
plan = random_plan(split, (224, 224), batch=64, draws=640, seed=1)
engine = engines.make(sys.argv[2], split, device=torch.device("cpu"), threads=2)
batches = engine.run(plan)
kept = next(batches)
print("open")
"""


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code, str(HELPERS), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


@pytest.mark.parametrize("name", ENGINES)
def test_interrupts_at_random_moments_free_nothing_twice(name: str, tmp_path: Path) -> None:
    rounds = {"ffcv": 300, "dali": 40}.get(name, 60)
    done = python(INTERRUPTED, name, tmp_path / "part", 1, rounds)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > rounds / 10


@pytest.mark.parametrize("name", ENGINES)
def test_a_program_may_end_with_an_iterator_open(name: str, tmp_path: Path) -> None:
    done = python(OPEN, name, tmp_path / "part")
    assert (done.returncode, done.stdout) == (0, "open\n"), done.stderr[-3000:]
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not kernels.available(), reason=kernels.why_missing())
def test_an_interrupted_program_ends_by_the_interrupt(tmp_path: Path) -> None:
    code = OPEN.replace(
        'print("open")',
        'import os; print("open", flush=True)\nfor _ in batches: os.kill(os.getpid(), 2)',
    )
    codes = Counter(python(code, "ffcv", tmp_path / "part").returncode for _ in range(3))
    assert codes == {-signal.SIGINT: 3}
