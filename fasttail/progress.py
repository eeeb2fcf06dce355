"""The progress of long work, on stderr: a bar on a terminal, a line now and then in a log file."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

LINE_EVERY_S = 50.0  # with steps of up to ten seconds that is a line a minute
WIDEST_BAR, NARROWEST_BAR = 40, 10


class Bar:
    """How far one piece of work is."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._noted_s = self._printed_s = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the note is older than a log's lines are apart."""
        return not self._progress.console.quiet and _is_over(self._noted_s)

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Moves on, and changes the note at the line's end where one is given."""
        if note is not None:
            self._progress.update(self._task, note=note)
            self._noted_s = time.monotonic()
        self._progress.update(self._task, advance=steps)
        self._print()

    def show(self, what: str, done: int, total: int) -> None:
        """Says what is being done, and how much of it is."""
        self._progress.update(self._task, description=what, completed=done, total=total)
        self._print()

    def _print(self) -> None:
        console = self._progress.console
        if not console.is_terminal and _is_over(self._printed_s):
            self._printed_s = time.monotonic()
            console.print(_line(self._progress.tasks[0]))


@contextmanager
def progress(console: Console, what: str, total: int | None, unit: str = "") -> Iterator[Bar]:
    """A bar that is gone when the work is done; where the console is no terminal, a line a minute
    without escape codes."""
    drawn = Progress(
        _BarThatFits(console),
        _Line(table_column=Column(no_wrap=True, overflow="ellipsis")),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        speed_estimate_period=5 * 60,
        get_time=lambda: time.monotonic(),
    )
    with drawn:
        yield Bar(drawn, drawn.add_task(what, total=total, unit=unit, note=""))


class _Line(ProgressColumn):
    """In the order in which it matters: a narrow terminal cuts off the end."""

    def render(self, task: Task) -> Text:
        return _line(task)


class _BarThatFits(BarColumn):
    """As wide as the line leaves room for, down to none."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Any:
        room = self._console.width - _line(task).cell_len - 1
        if room < NARROWEST_BAR:
            return Text()
        self.bar_width = min(room, WIDEST_BAR)
        return super().render(task)


def _line(task: Task) -> Text:
    """What is being done, how far it is, the time left, and the note."""
    if task.total is None:
        return Text(task.description)
    left_s = task.time_remaining
    left = "" if left_s is None else f", {timedelta(seconds=int(left_s))} left"
    unit, note = task.fields["unit"], task.fields["note"]
    return Text(
        f"{task.description}: {task.completed:,.0f}/{task.total:,.0f}{unit and ' '}{unit}"
        f"{left}{note and ', '}{note}"
    )


def _is_over(since_s: float) -> bool:
    return time.monotonic() - since_s >= LINE_EVERY_S
