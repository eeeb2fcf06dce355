"""The command line: parse, make a configuration, make one call. No logic; heavy imports stay inside
the commands, so that `--help` and mistakes answer at once."""

import os
import sys
import time
from typing import Any

import typer
from typer.core import TyperGroup

from fasttail import __version__, added
from fasttail.cli import data, training, use
from fasttail.cli.common import examples
from fasttail.errors import UserError, printable
from fasttail.world import World

MISTAKE = 2  # the exit code
SAID_BY_MAIN_S = 10.0


class Commands(TyperGroup):
    """Typer ends on Ctrl-C without a word; here it says how to go on, where that is known. Help
    has the names that extensions have added."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        for option in command.params if command else ():
            option.help = added.told(getattr(option, "help", None) or "", option.name or "") or None  # type: ignore[attr-defined]
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            if _is_main():
                print("; ".join(["fasttail: stopped", *map(str, stopped.args)]), file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="fasttail",
    cls=Commands,
    help="Train image classifiers on long-tailed data.",
    no_args_is_help=True,
    epilog=examples(
        "fasttail demo",
        "fasttail convert --dataset cifar10-lt",
        "fasttail --quiet train --stage rep --dataset cifar10-lt",
        "fasttail train --help",
    ),
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (data, training, use):
    app.add_typer(module.commands)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fasttail {__version__}")
        raise typer.Exit


def _no_color(asked: bool) -> None:
    if asked:
        os.environ["NO_COLOR"] = "1"


def _quiet(asked: bool) -> None:
    if asked:
        os.environ["FASTTAIL_QUIET"] = "1"


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_version, is_eager=True
    ),
    quiet: bool = typer.Option(
        False,
        "--quiet",
        "-q",
        help="Print only results and errors.",
        callback=_quiet,
        is_eager=True,
    ),
    no_color: bool = typer.Option(
        False, "--no-color", help="Disable colors.", callback=_no_color, is_eager=True
    ),
) -> None:
    pass


def main() -> None:
    """Entry point: a `UserError` becomes one line and exit code 2.

    Of several processes the main one says it, and torchrun then ends the others; one of them that
    is still there after a while was alone with its mistake.
    """
    try:
        app()
    except UserError as error:
        if not _is_main():
            time.sleep(SAID_BY_MAIN_S)
        lines = map(printable, str(error).split("\n"))
        print("fasttail: " + "\n".join(lines), file=sys.stderr)
        sys.exit(MISTAKE)


def _is_main() -> bool:
    try:
        return World.from_env().is_main
    except UserError:  # of the variables themselves
        return True
