"""The command line: parse, make a configuration, make one call. No logic; heavy imports stay inside
the commands, so that `--help` and mistakes answer at once."""

import sys

import typer

from fasttail import __version__
from fasttail.errors import UserError

app = typer.Typer(
    name="fasttail",
    help="Long-tailed image recognition whose input side is never the bottleneck.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fasttail {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_version, is_eager=True
    ),
) -> None:
    pass


def main() -> None:
    """Entry point: a `UserError` becomes one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"fasttail: {error}", file=sys.stderr)
        sys.exit(2)
