"""The Slurm script, with stand-ins for srun, scontrol and the launcher, and real signals."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "slurm_train.sbatch"

# As srun: runs the command as a task, and passes USR1 on to the task's process group.
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
set -m
"$@" & task=$!
trap 'kill -USR1 -- -$task' USR1
while true; do
    wait $task && code=0 || code=$?
    kill -0 $task 2>/dev/null || exit $code
done
"""
# As fasttail.torchrun: its child is in a session of its own, ends well on USR1, and needs a moment.
LAUNCHER = """#!/bin/bash
echo "$@" > arguments
setsid python3 -c '
import pathlib, signal, sys, time
def leave(*_):
    time.sleep(0.3)
    pathlib.Path("checkpoint").touch()
    sys.exit(0)
signal.signal(signal.SIGUSR1, leave)
pathlib.Path("listening").touch()
time.sleep(30)
sys.exit(3)
' &
wait $!
"""
SCONTROL = """#!/bin/bash
case "$1" in
    show) printf 'node7\\nnode8\\n' ;;
    requeue) echo "$2" > requeued ;;
esac
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    for name, text in (("srun", SRUN), ("python", LAUNCHER), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def start(cluster: Path, *options: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PATH": f"{cluster}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "4242",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_NUM_NODES": "2",
    }
    return subprocess.Popen(
        ["bash", str(SCRIPT), *options],
        cwd=cluster,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(path: Path) -> None:
    deadline_s = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline_s, path.name
        time.sleep(0.02)


def test_a_warning_before_the_end_reaches_the_training_and_the_job_is_requeued(
    cluster: Path,
) -> None:
    job = start(cluster, "--stage", "rep", "--dataset", "two words")
    wait_for(cluster / "listening")
    job.send_signal(signal.SIGUSR1)
    output, _ = job.communicate(timeout=20)
    assert job.returncode == 0, output
    assert (cluster / "checkpoint").exists()
    assert (cluster / "requeued").read_text() == "4242\n"
    said = (cluster / "arguments").read_text()
    assert "-m fasttail.torchrun --nnodes 2 --nproc-per-node gpu" in said
    assert "--rdzv-endpoint node7:24242" in said
    assert " train --stage rep --dataset two words" in said


def test_a_cancelled_job_leaves_a_checkpoint_and_is_not_requeued(cluster: Path) -> None:
    job = start(cluster, "--stage", "rep")
    wait_for(cluster / "listening")
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=20)
    assert job.returncode == 0
    assert (cluster / "checkpoint").exists()
    assert not (cluster / "requeued").exists()


def test_a_training_that_fails_fails_the_job_with_its_code(cluster: Path) -> None:
    (cluster / "python").write_text("#!/bin/bash\nexit 5\n")
    job = start(cluster, "--stage", "rep")
    job.communicate(timeout=20)
    assert job.returncode == 5
    assert not (cluster / "requeued").exists()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing_in_the_shell_scripts() -> None:
    scripts = [SCRIPT, *SCRIPT.parent.glob("*.sh")]
    done = subprocess.run(
        ["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
