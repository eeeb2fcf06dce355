"""A data set whose class stands in the program that converts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fasttail import shards

MINE = '''
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fasttail.config import ConvertConfig
from fasttail.datasets.base import ArrayImages, Index, SplitIndex
from fasttail.shards.convert import convert
from fasttail.shards.steps import run_convert


@dataclass(frozen=True)
class Turned(ArrayImages):
    """Images upside down."""

    def read(self, i):
        READ
        return np.ascontiguousarray(super().read(i)[::-1])

    def pick(self, which_N):
        return Turned(**vars(super().pick(which_N)))


pixels_NHWC = np.arange(30 * 32 * 32 * 3).reshape(30, 32, 32, 3).astype(np.uint8)
index = Index(
    "mine", ("a", "b"), {"train": SplitIndex(Turned(pixels_NHWC, "mine"), np.repeat([0, 1], 15))},
    mean=(0.5,) * 3, std=(0.2,) * 3,
)
if __name__ == "__main__":
    convert(index, Path("out"), ConvertConfig(jobs=2))
'''


def python(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(filter(None, sys.path))
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("words", [["mine.py"], ["-m", "mine"]])
def test_workers_find_the_class_in_the_programs_file(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "mine.py").write_text(MINE.replace("READ", ""))
    done = python(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    split = shards.open(tmp_path / "out").split("train")
    assert len(split) == 30
    assert split.bytes(0)[:3].tolist() == [32 * 31 * 3 % 256 + k for k in range(3)]


def test_a_class_that_is_in_no_file_is_a_mistake_in_a_line(tmp_path: Path) -> None:
    program = MINE.replace("READ", "").replace("    convert(", "    1/0 if False else convert(")
    done = python("-c", program, cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("fasttail.errors.UserError: Turned is defined where worker processes")


def test_what_fails_in_a_worker_and_what_it_prints_are_seen(tmp_path: Path) -> None:
    read = "print('reading', i, file=sys.stderr); raise KeyError('no such colour')"
    (tmp_path / "mine.py").write_text(MINE.replace("READ", read))
    done = python("mine.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "reading 0" in done.stderr
    assert "KeyError: 'no such colour'" in done.stderr
