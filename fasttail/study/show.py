"""The matrix on the screen."""

from fasttail.console import Reporter
from fasttail.study.asked import Study
from fasttail.study.matrix import Cell, tables

SHOWN = ("many", "medium", "few", "all")


def show(study: Study, cells: list[Cell], reporter: Reporter) -> None:
    """The tables of the last split: test, where there is one. The others are in matrix.md."""
    last = [cell for cell in cells if cell.split == study.splits[-1]]
    for title, group in tables(study, last):
        reporter.grid(
            ["sampler", "head", *SHOWN],
            [
                # Without spaces: a narrow screen has room for a name and four numbers.
                [cell.sampler, cell.method, *(cell.text(name).replace(" ", "") for name in SHOWN)]
                for cell in group
            ],
            f"{study.shards.name}, {title}",
        )
