"""Telling people about data sets and runs.

Drawing needs matplotlib and jinja2, which are imported when a page is drawn: training goes on
without them.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fasttail.console import Reporter
from fasttail.errors import UserError

PAGE = "report.html"
_PACKAGES = ("jinja2", "matplotlib")


def write(run_dir: Path) -> Path:
    """Writes RUN/report.html and returns its path. `UserError` if there is no run, or a package is
    missing."""
    return write_all([run_dir])


def write_all(run_dirs: Sequence[Path], out: Path | None = None) -> Path:
    """Writes one page about runs, side by side: to `out`, or to report.html in the run's directory,
    or, of several, beside the first. Returns its path."""
    need_packages()
    from fasttail.report.collect import collect
    from fasttail.report.page import write_runs

    if out is None:
        out = run_dirs[0] / PAGE if len(run_dirs) == 1 else run_dirs[0].parent / PAGE
    write_runs([collect(run_dir) for run_dir in run_dirs], out)
    return out


def write_at_end(run_dir: Path, reporter: Reporter) -> None:
    """What a training does when it has ended: it writes the page, or says why it could not. A page
    that can't be drawn must not take the training with it."""
    try:
        reporter.say(f"report: {write(run_dir)}")
    except UserError as error:
        reporter.say(f"no report: {error}")
    except Exception as error:  # noqa: BLE001 - whatever it is, the training is done and kept
        why = " ".join(f"{type(error).__name__}: {error}".split())
        reporter.say(f"no report: {why}; fasttail report {run_dir} says more")


def need_packages() -> None:
    """`UserError` if what draws pages is not installed."""
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise UserError(
            f"a report needs {' and '.join(missing)}, not installed here: "
            f"pip install {' '.join(missing)}"
        )
