"""What a person sees: lines, progress bars and tables. Numbers go to stdout, the rest to stderr.

rich leaves colours out where NO_COLOR is set or the output is no terminal; this file alone reads
FASTTAIL_QUIET, which `fasttail --quiet` sets.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fasttail.progress import Bar, progress
from fasttail.protocol import named

COLUMNS = {
    "many": "many",
    "medium": "medium",
    "few": "few",
    "all_micro": "all",
    "all_macro": "macro",
    "worst": "worst",
}
QUIET = "FASTTAIL_QUIET"


def remarks(quiet: bool = False) -> Console:
    """stderr, for how it goes; silent if `quiet` or if FASTTAIL_QUIET is set."""
    silent = quiet or os.environ.get(QUIET, "") not in ("", "0")
    return Console(quiet=silent, stderr=True, soft_wrap=True, highlight=False)


def complaints() -> Console:
    """stderr, for what is wrong: never silent."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


class Reporter:
    """Speaks for the main process; the other processes of a job are given a quiet one."""

    def __init__(self, quiet: bool = False) -> None:
        self._out = Console(quiet=quiet, soft_wrap=True, highlight=False)
        self._err = remarks(quiet)

    def say(self, line: str) -> None:
        """One line on how it goes."""
        self._err.print(line, markup=False)

    def table(self, rows: Sequence[Mapping[str, Any]], title: str) -> None:
        """The rows of metrics.json as a table, in percent; a dash where a group has no classes.
        What there is to say of a row stands below."""
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        table.add_column("method")
        table.add_column("protocol")
        for header in COLUMNS.values():
            table.add_column(header, justify="right")
        for row in rows:
            cells = ["-" if row[key] is None else f"{row[key]:.1f}" for key in COLUMNS]
            table.add_row(row["method"], row["protocol"], *cells)
        self._out.print(table)
        for row in rows:
            if row["note"]:
                name = named(row["method"], row["protocol"])
                self._out.print(f"  {name}: {row['note']}", markup=False)

    def grid(
        self, header: Sequence[str], rows: Sequence[Sequence[str]], title: str, names: int = 2
    ) -> None:
        """A table of texts: `names` columns of names, then numbers."""
        table = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            collapse_padding=True,
            pad_edge=False,
        )
        for place, name in enumerate(header):
            table.add_column(
                name, justify="left" if place < names else "right", no_wrap=place >= names
            )
        for row in rows:
            table.add_row(*map(escape, row))
        self._out.print(table)

    def facts(self, facts: Mapping[str, str], title: str) -> None:
        """Names and what there is to say of each."""
        table = Table(title=title, title_justify="left", title_style="bold", box=None)
        table.add_column("", style="bold")
        table.add_column("", overflow="fold")
        for name, text in facts.items():
            table.add_row(name, escape(text))
        self._out.print(table)

    def keys(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The keys of the configuration, with a value that differs from its default in bold."""
        table = Table(box=None, pad_edge=False)
        for header in ("key", "value", "meaning"):
            table.add_column(header, overflow="fold", no_wrap=header == "key")
        for row in rows:
            changed = row["value"] != row["default"]
            text = setting_text(row["value"])
            value = f"[bold]{escape(text)}[/] (default {setting_text(row['default'])})"
            choices = f" ({', '.join(row['choices'])})" if row["choices"] else ""
            meaning = escape(f"{row['description']}{choices}")
            table.add_row(row["key"], value if changed else escape(text), meaning)
        self._out.print(table, soft_wrap=False)

    def json(self, value: Any) -> None:
        """One JSON object on stdout, for scripts."""
        self._out.print_json(data=value)

    def progress(self, what: str, total: int) -> AbstractContextManager[Bar]:
        """The progress of so many steps."""
        return progress(self._err, what, total)


def setting_text(value: Any) -> str:
    """A value of the configuration as --set takes it."""
    return json.dumps(value).strip('"')
