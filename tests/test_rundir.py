"""A run's directory when something goes wrong: two at work on it, a full disk, no permission."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fasttail import rundir
from fasttail.cli import main
from fasttail.train.checkpoint import Checkpoints

SETTINGS = (
    *("model.backbone=resnet20", "optim.epochs=2", "optim.batch_size=8", "optim.lr=0.02"),
    *("compute.amp=fp32", "compute.tensorboard=false", "compute.report=false"),
)


@pytest.fixture
def fasttail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs a command: its exit code, and what it says on stderr."""

    def run(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["fasttail", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), capsys.readouterr().err

    return run


def begin(shards: Path, run: Path) -> list[object]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    where = ["--shards", shards, "--run", run]
    return ["train", "--stage", "rep", *where, "--config", "small-images", *settings]


@pytest.fixture
def trained(blob_shards: Path, tmp_path: Path, fasttail: Callable[..., tuple[int, str]]) -> Path:
    assert fasttail(*begin(blob_shards, tmp_path / "run"))[0] == 0
    return tmp_path / "run"


def test_one_damaged_checkpoint_does_not_stop_a_run_from_being_resumed(
    trained: Path, fasttail: Callable[..., tuple[int, str]]
) -> None:
    resume = ("train", "--stage", "rep", "--run", trained, "--resume")
    (trained / "model.safetensors").unlink()
    found = Checkpoints(trained / "checkpoints")
    assert found.latest() is not None
    newest, older = (f"{found.SLOTS[i]}.state.pt" for i in (1 - found._next, found._next))
    (trained / "checkpoints" / newest).write_bytes(b"")
    code, said = fasttail(*resume)
    assert code == 0
    assert f"{newest}: damaged: EOFError" in said
    assert (trained / "model.safetensors").exists()

    (trained / "model.safetensors").unlink()
    for file in (newest, older):
        (trained / "checkpoints" / file).write_bytes(b"")
    code, said = fasttail(*resume)
    assert code == 2
    assert "no intact checkpoint is left" in said.splitlines()[-1]


def test_two_commands_do_not_write_into_one_run(
    trained: Path, fasttail: Callable[..., tuple[int, str]]
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from fasttail import rundir\n"
        "with rundir.held(rundir.open_run(Path(sys.argv[1]))): print(flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, trained], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    for words in (
        ("train", "--stage", "rep", "--run", trained, "--resume"),
        ("train", "--stage", "cls", "--run", trained, "--method", "tau"),
        ("eval", "--run", trained),
    ):
        code, said = fasttail(*words)
        assert (code, said.count("\n")) == (2, 1)
        assert f"another fasttail is at work on {trained}" in said
    os.kill(other.pid, signal.SIGKILL)  # what is killed holds nothing
    other.wait()
    other.stdout.close()
    assert fasttail("eval", "--run", trained)[0] == 0


@pytest.mark.parametrize(("number", "said"), [(28, "make room, then resume with"), (30, "write")])
@pytest.mark.parametrize("stage", ["rep", "cls"])
def test_a_disk_that_takes_nothing_more_is_one_line(
    trained: Path,
    fasttail: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    number: int,
    said: str,
) -> None:
    words = ["train", "--stage", stage, "--run", trained]
    if stage == "rep":
        words.append("--resume")
        (trained / "model.safetensors").unlink()

    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fasttail.atomic.os.fsync", refused)
    code, err = fasttail(*words)
    assert code == 2
    last = err.splitlines()[-1]
    assert last.startswith(f"fasttail: {trained}: ")
    assert said in last
    assert "Traceback" not in err
    monkeypatch.undo()


def test_a_run_directory_that_cannot_be_made_is_one_line(
    blob_shards: Path,
    tmp_path: Path,
    fasttail: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    for where in (tmp_path / "file", tmp_path / "file/run", Path("/proc/run")):
        code, said = fasttail(*begin(blob_shards, where))
        assert (code, said.count("\n")) == (2, 1)
        assert said.startswith(f"fasttail: {where}: cannot write: ")
    assert not rundir.RUNS.exists()
