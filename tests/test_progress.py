"""What is seen of long work: on a terminal of a given width, and in a log file."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from fasttail import progress

NOTE = "epoch 12/90, loss 1.234, 1,234 images/s, waiting for data 0.3%"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time by which progress goes; set `now`."""
    fake = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: fake.now))
    return fake


def run(console: Console, clock: SimpleNamespace, seconds: int, note: str = NOTE) -> str:
    """A step of ten a second; what the console got, without its escape codes."""
    with progress.progress(console, "stage 1", 45_000) as bar:
        for second in range(seconds):
            clock.now = float(second)
            bar.advance(10, note)
    file = console.file
    assert isinstance(file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, _environ={})


@pytest.mark.parametrize("width", [200, 120, 100, 80, 60])
def test_a_narrow_terminal_drops_the_bar_first_and_keeps_steps_and_time_left(
    width: int, clock: SimpleNamespace
) -> None:
    shown = run(terminal(width), clock, seconds=30)
    last = re.split("[\r\n]+", shown.strip())[-1].rstrip()
    assert len(last) <= width
    assert ("━" in last) == (width >= 120)
    assert "stage 1: 300/45,000, 1:14:30 left, epoch 12/9" in last
    assert ("loss 1.234, 1,234 images/s" in last) == (width >= 80)


def test_a_log_file_gets_a_line_at_least_every_minute(clock: SimpleNamespace) -> None:
    console = Console(file=io.StringIO(), width=80, soft_wrap=True)
    lines = run(console, clock, seconds=235).splitlines()
    assert len(lines) == 4
    assert lines[0] == f"stage 1: 510/45,000, 1:14:09 left, {NOTE}"


def test_a_note_is_due_when_it_is_as_old_as_a_line(clock: SimpleNamespace) -> None:
    console = Console(file=io.StringIO())
    with progress.progress(console, "stage 1", 10) as bar:
        assert not bar.due
        clock.now = progress.LINE_EVERY_S
        assert bar.due
        bar.advance(note="epoch 1")
        assert not bar.due
    quiet = Console(file=io.StringIO(), quiet=True)
    with progress.progress(quiet, "stage 1", 10) as bar:
        clock.now *= 3
        assert not bar.due


def test_short_work_leaves_nothing_in_a_log_file(clock: SimpleNamespace) -> None:
    console = Console(file=io.StringIO(), width=80)
    assert run(console, clock, seconds=40) == ""
