"""Several processes, one mistake: one line."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fasttail import cli
from fasttail.errors import UserError

TWO = ("--standalone", "--nproc-per-node", "2")


def ended(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_mistake_under_torchrun_is_said_once(tmp_path: Path) -> None:
    mistake = ("train", "--stage", "cls", "--run-dir", "runs/none")
    done = ended("torch.distributed.run", *TWO, "-m", "fasttail", *mistake, cwd=tmp_path)
    assert done.returncode == 1, "torchrun's own"
    assert done.stderr.count("fasttail: runs/none: no run here") == 1


def test_under_fasttails_torchrun_there_is_no_traceback_and_the_exit_code_is_2(
    tmp_path: Path,
) -> None:
    # --run, too, is the command's: torchrun itself would take it for one of its options.
    mistake = ("train", "--stage", "cls", "--run", "runs/none")
    done = ended("fasttail.torchrun", *TWO, *mistake, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("fasttail: runs/none: no run here") == 1
    assert "Traceback" not in done.stderr
    assert "ChildFailedError" not in done.stderr
    assert ended("fasttail.torchrun", *TWO, "train", "--help", cwd=tmp_path).returncode == 0


def test_a_mistake_is_not_made_again_by_restarts(tmp_path: Path) -> None:
    again = ("--max-restarts", "2", "train", "--stage", "cls", "--run", "runs/none")
    done = ended("fasttail.torchrun", *TWO, *again, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("fasttail: runs/none: no run here") == 1


OURS = """
from unittest.mock import patch
from torch.distributed import run
from fasttail.torchrun import Agent

with patch("torch.distributed.launcher.api.LocalElasticAgent", Agent):
    run.main()
"""
DIES_ONCE = """
import os, signal
print("restart", os.environ["TORCHELASTIC_RESTART_COUNT"], flush=True)
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_dies_is_started_again(tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(OURS)
    (tmp_path / "dies_once.py").write_text(DIES_ONCE)
    again = ("--standalone", "--nproc-per-node", "1", "--max-restarts", "2")
    done = ended("ours", *again, "dies_once.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "restart 0\nrestart 1\n"), done.stderr


@pytest.mark.parametrize(("rank", "waits"), [("0", False), ("1", True)])
def test_a_process_that_is_alone_with_its_mistake_says_it_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rank: str,
    waits: bool,
) -> None:
    def fails() -> None:
        raise UserError("4 processes on this node but 1 GPU")

    slept: list[float] = []
    monkeypatch.setattr(cli, "app", fails)
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "fasttail: 4 processes on this node but 1 GPU\n"
    assert slept == [cli.SAID_BY_MAIN_S] * waits
