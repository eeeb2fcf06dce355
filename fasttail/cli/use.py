"""With a trained classifier, and on this machine: export, predict, engines, demo."""

from pathlib import Path

import typer

commands = typer.Typer()


@commands.command(
    epilog="Examples: fasttail export --run runs/demo --method tau --to onnx;  "
    "fasttail export --to state --out classifier.safetensors"
)
def export(
    run: Path | None = typer.Option(
        None, "--run", "--run-dir", help="The run's directory. [default: the only one in runs/]"
    ),
    method: str | None = typer.Option(
        None, help="Which head: joint, crt, lws, tau, ncm, ... [default: the best on val]"
    ),
    to: str = typer.Option("state", help="state (safetensors), pt2 or onnx."),
    out: Path | None = typer.Option(None, help="The file. [default: RUN/exports/METHOD.*]"),
) -> None:
    """Write a run's classifier to one file: names, normalisation and the folded head inside."""
    from fasttail.export.command import export

    export(run, method, to, out)


@commands.command(
    epilog="Examples: fasttail predict --run runs/demo photos/;  "
    "find photos -name '*.jpg' | fasttail predict --model tau.onnx --json -"
)
def predict(
    images: list[str] = typer.Argument(
        ..., help="Files, folders (with all below them), or - for paths on stdin."
    ),
    run: Path | None = typer.Option(
        None, "--run", "--run-dir", help="The run's directory. [default: the only one in runs/]"
    ),
    method: str | None = typer.Option(None, help="Which head. [default: the best on val]"),
    model: Path | None = typer.Option(None, help="An exported file (state or onnx) instead."),
    topk: int = typer.Option(5, help="How many classes of each image."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Name what is on images. Exit code 1 if some of them could not be read."""
    from fasttail.export.predict import predict

    bad = predict(images, run=run, method=method, model=model, topk=topk, as_json=as_json)
    raise typer.Exit(1 if bad else 0)


@commands.command(epilog="Example: fasttail engines --json")
def engines(
    as_json: bool = typer.Option(False, "--json", help="One JSON object, for scripts."),
) -> None:
    """Say which engines work on this machine, by decoding an image with each. Exit code 1 if one
    is installed and does not work."""
    from fasttail.engines import survey

    if not survey.show(as_json=as_json):
        raise typer.Exit(1)


@commands.command(epilog="Example: fasttail demo")
def demo() -> None:
    """See the whole method in a minute: handwritten digits made long-tailed, both stages, the
    table."""
    from fasttail.demo import demo

    demo()
