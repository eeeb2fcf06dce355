"""With a trained classifier, and on this machine: export, predict, engines, demo."""

from pathlib import Path

import typer

from fasttail.cli.common import AS_JSON, RUN, examples

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "fasttail export --run runs/demo --method tau --to onnx",
        "fasttail export --to state --out classifier.safetensors",
    )
)
def export(
    run: Path | None = RUN,
    method: str | None = typer.Option(
        None,
        help="Classifier: joint, crt, lws, tau, ncm, ...",
        show_default="the best on the validation set",
    ),
    to: str = typer.Option("state", help="File format: state (safetensors), pt2 or onnx."),
    out: Path | None = typer.Option(None, help="Output file.", show_default="RUN/exports/METHOD.*"),
) -> None:
    """Export a trained classifier to one file, with class names and normalization."""
    from fasttail.export.command import export

    export(run, method, to, out)


@commands.command(
    epilog=examples(
        "fasttail predict --run runs/demo photos/",
        "find photos -name '*.jpg' | fasttail predict --model tau.onnx --json -",
    )
)
def predict(
    images: list[str] = typer.Argument(
        ..., help="Image files, folders (searched recursively), or - for paths on stdin."
    ),
    run: Path | None = RUN,
    method: str | None = typer.Option(
        None,
        help="Classifier: joint, crt, lws, tau, ncm, ...",
        show_default="the best on the validation set",
    ),
    model: Path | None = typer.Option(
        None, help="An exported file (state or onnx), instead of a run."
    ),
    topk: int = typer.Option(5, help="Number of classes per image."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object per image."),
) -> None:
    """Classify images.

    The exit code is 1 if an image could not be read."""
    from fasttail.export.predict import predict

    bad = predict(images, run=run, method=method, model=model, topk=topk, as_json=as_json)
    raise typer.Exit(1 if bad else 0)


@commands.command(epilog=examples("fasttail engines --json"))
def engines(as_json: bool = AS_JSON) -> None:
    """Test which engines work on this machine.

    The exit code is 1 if one is installed and does not work."""
    from fasttail.engines import survey

    if not survey.show(as_json=as_json):
        raise typer.Exit(1)


@commands.command(epilog=examples("fasttail demo"))
def demo() -> None:
    """Run both stages on handwritten digits, in about a minute."""
    from fasttail.demo import demo

    demo()
