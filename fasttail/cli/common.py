"""What several commands' help has in common."""

import typer


def examples(*lines: str) -> str:
    """The end of a command's help: each example on a line of its own."""
    return "\n\n".join(("Examples:" if len(lines) > 1 else "Example:", *lines))


AS_JSON = typer.Option(False, "--json", help="Print the result as one JSON object.")
RUN = typer.Option(
    None,
    "--run",
    "--run-dir",  # torchrun takes --run for the beginning of its own --run-path
    help="Directory of the run.",
    show_default="the only one in runs/",
)
