"""Whatever dies, hangs or runs full: what is not finished has no final name, and the next run
goes on.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hostile
import numpy as np
import photos
import pytest
import smalldisk

from fasttail import shards
from fasttail.config import ConvertConfig
from fasttail.datasets.base import Index, SplitIndex
from fasttail.errors import UserError
from fasttail.shards.convert import convert
from fasttail.shards.verify import verify

CFG = ConvertConfig(jobs=2, on_bad="skip")


def test_images_that_crash_or_hang_the_decoder_are_left_out(tmp_path: Path) -> None:
    kinds = ["good"] * 300
    kinds[3], kinds[4], kinds[150], kinds[299] = "crashing", "exiting", "hanging", "crashing"
    cfg = CFG.model_copy(update={"image_timeout_s": 1.0})
    split = convert(hostile.index(kinds, tmp_path / "mark"), tmp_path / "out", cfg).split("train")
    assert len(split) == 296
    rejected = (tmp_path / "out/rejected.csv").read_text()
    assert "3-crashing,b,the decoder crashes on it (SIGSEGV)" in rejected
    assert "4-exiting,a,the decoder crashes on it (exit code 1)" in rejected
    assert "150-hanging,a,decoding takes more than 1 s" in rejected
    assert all(split.bytes(i).tobytes() == hostile.GOOD for i in range(len(split)))


def test_a_crash_that_does_not_come_again_costs_no_image(tmp_path: Path) -> None:
    index = hostile.index(["good", "crashing once", "good"], tmp_path / "mark")
    split = convert(index, tmp_path / "out", CFG).split("train")
    assert len(split) == 3
    assert (tmp_path / "mark").exists(), "it has crashed"
    assert split.bytes(1).tobytes() == hostile.GOOD


def test_a_worker_that_is_killed_ends_the_conversion_with_a_line(tmp_path: Path) -> None:
    index = hostile.index(["good", "killed", "good", "good"], tmp_path / "mark")
    with pytest.raises(UserError, match=r"worker process was killed \(signal 9\) at 1-killed"):
        convert(index, tmp_path / "out", CFG)
    assert not shards_in(tmp_path / "out")
    (tmp_path / "mark").write_text(str(os.getpid()))
    images = hostile.KilledAtStart(("good", "good"), tmp_path / "mark")
    split = SplitIndex(images, np.arange(2))
    index = Index("hostile", ("a", "b"), {"train": split}, photos.HALF, photos.HALF)
    with pytest.raises(UserError, match=r"worker process was killed \(signal 9\) at its start"):
        convert(index, tmp_path / "other", CFG)


def shards_in(out: Path) -> list[str]:
    names = {"dataset.json", "train.index"}
    return [p.name for p in out.iterdir() if p.suffix == ".beton" or p.name in names]


SLOW = """
import signal, sys
from pathlib import Path
import hostile
import typer
from fasttail.cli import Commands
from fasttail.config import ConvertConfig
from fasttail.datasets.base import Index, SplitIndex
from fasttail.shards.command import stopped_politely
from fasttail.shards.convert import convert

# A shell that starts the suite in the background has it ignore SIGINT, and what it starts too.
signal.signal(signal.SIGINT, signal.default_int_handler)

def say(what, done, total):
    print(done, flush=True)

kinds = ["good"] * 600 + [sys.argv[2]] * 40
cfg = ConvertConfig(jobs=2, part_size=200 * len(hostile.GOOD))
app = typer.Typer(cls=Commands)

@app.callback(invoke_without_command=True)
def slow():
    with stopped_politely():
        convert(hostile.index(kinds, Path()), Path(sys.argv[1]), cfg, say)

app([])
"""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A conversion that has finished three parts and takes its time over the fourth."""
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    paths = os.pathsep.join(filter(None, sys.path))
    env = {**os.environ, "PYTHONPATH": paths, "SLOW_IMAGES": "yes"}
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "out"), "slow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 600:
                break
        while len(list((tmp_path / "out").glob("*.beton"))) < 3:
            time.sleep(0.02)
        yield process
        process.kill()


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_stopped_at_any_time_it_goes_on_from_the_finished_parts(
    running: subprocess.Popen[str], tmp_path: Path, signal_number: int
) -> None:
    workers = children(running.pid)
    assert len(workers) == 2
    running.send_signal(signal_number)
    _, said = running.communicate(timeout=20)
    if signal_number != signal.SIGKILL:
        assert running.returncode == 130
        assert said.startswith("fasttail: stopped; finished shards are kept")
        assert said.count("\n") == 1
    out = tmp_path / "out"
    finished = {p.name: p.stat().st_mtime_ns for p in out.glob("*.beton")}
    assert len(finished) == 3
    assert sorted(shards_in(out)) == sorted(finished)
    with pytest.raises(UserError, match="not finished"):
        shards.open(out)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/cwd").exists() for pid in workers):
        assert time.monotonic() < deadline, "workers outlive the conversion"
        time.sleep(0.05)

    kinds = ["good"] * 600 + ["slow"] * 40
    cfg = ConvertConfig(jobs=2, part_size=200 * len(hostile.GOOD))
    index = hostile.index(kinds, Path())
    convert(index, out, cfg)
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == finished
    assert not verify(out).problems
    assert len(shards.open(out).split("train")) == 640


def test_killing_a_worker_ends_it_and_the_next_run_completes(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    os.kill(children(running.pid)[0], signal.SIGKILL)
    running.communicate(timeout=20)
    assert running.returncode != 0
    assert len(shards_in(tmp_path / "out")) == 3
    assert not list((tmp_path / "out/.convert").glob("*.made"))


def test_two_conversions_do_not_write_to_one_folder(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    index = hostile.index(["good", "good"], tmp_path)
    with pytest.raises(UserError, match="another fasttail convert is writing"):
        convert(index, tmp_path / "out", CFG)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    with smalldisk.mounted(tmp_path / "disk", "4m") as disk:
        yield disk


@pytest.mark.parametrize("how", ["as is", "re-encoded"])
def test_a_full_disk_is_said_and_making_room_is_enough(
    tmp_path: Path, small_disk: Path, how: str
) -> None:
    if how == "as is":
        samples = photos.jpegs((60, 20))
    else:  # the space that these take is not known beforehand
        samples = [(f"c{i % 2}/{i}.png", photos.encoded(i, "PNG"), i % 2) for i in range(60)]
    index = photos.index(tmp_path / "in", samples)
    cfg = ConvertConfig(jobs=2, part_size=150_000)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(15 << 18))
    with pytest.raises(UserError, match=r"No space left|are free"):
        convert(index, small_disk / "out", cfg)
    out = small_disk / "out"
    assert not (out / "dataset.json").exists()
    whole = {p.name: p.stat().st_mtime_ns for p in out.glob("*.beton")}
    assert not list((out / ".convert").glob("*.made")), "what is of no use makes room at once"
    ballast.unlink()
    convert(index, out, cfg)
    assert {name: (out / name).stat().st_mtime_ns for name in whole} == whole
    assert not verify(out).problems
    assert len(shards.open(out).split("train")) == len(samples)


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/out: cannot write"):
        convert(hostile.index(["good", "good"], tmp_path), tmp_path / "file/out", CFG)
