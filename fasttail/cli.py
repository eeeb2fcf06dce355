"""The command line: parse, make a configuration, make one call. No logic; heavy imports stay inside
the commands, so that `--help` and mistakes answer at once."""

import sys
from pathlib import Path

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


@app.command(
    epilog="Examples: fasttail train --stage rep --dataset cifar10-lt --sampler sqrt;  "
    "fasttail train --stage cls --run runs/cifar10-lt-resnet32-sqrt --method all;  "
    "torchrun --nproc-per-node 8 -m fasttail train --stage rep --dataset inat2018"
)
def train(
    stage: str = typer.Option(
        ..., help="rep: learn the representation; cls: balanced classifiers on it."
    ),
    dataset: str | None = typer.Option(
        None, help="The data set whose shards to train on. [default: the only one in shards/]"
    ),
    shards: Path | None = typer.Option(None, help="The directory of the shards, instead."),
    sampler: str | None = typer.Option(
        None, help="instance, class, sqrt, progressive or power:Q. [default: the recipe's]"
    ),
    method: str = typer.Option("all", help="Of stage cls: crt, lws, tau, ncm or all."),
    config: str | None = typer.Option(
        None, help="A recipe: a YAML file or one of configs/ by name. [default: the data set's]"
    ),
    engine: str | None = typer.Option(
        None, help="auto, ffcv, dali, resident, reference or synthetic. [default: auto]"
    ),
    protocol: str | None = typer.Option(
        None, help="clean, or official: as the authors' code does it. [default: clean]"
    ),
    run: Path | None = typer.Option(
        None, help="The run's directory. [default: a new one in runs/; for cls the only one there]"
    ),
    init: Path | None = typer.Option(
        None, help="Start from these weights: a run's directory or a file."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on with a run that was stopped."),
    epochs: int | None = typer.Option(None, help="Instead of the recipe's."),
    settings: list[str] | None = typer.Option(
        None, "--set", help="Change one value: section.key=value. May be given again."
    ),
) -> None:
    """Train: stage rep learns the backbone, stage cls gives it balanced classifiers."""
    from fasttail import stages

    stages.train(
        stages.TrainOptions(
            stage=stage,
            dataset=dataset,
            shards=shards,
            sampler=sampler,
            method=method,
            config=config,
            engine=engine,
            protocol=protocol,
            run=run,
            init=init,
            resume=resume,
            epochs=epochs,
            settings=tuple(settings or ()),
        )
    )


@app.command("eval", epilog="Example: fasttail eval --run runs/demo --split test")
def evaluate(
    run: Path | None = typer.Option(
        None, help="The run's directory. [default: the only one in runs/]"
    ),
    split: str = typer.Option("test", help="The split to read accuracies on."),
) -> None:
    """Read the accuracies of a run's heads on a split again, and add them to metrics.json."""
    from fasttail import stages

    stages.evaluate(run, split)


@app.command()
def demo() -> None:
    """See the whole method in a minute: handwritten digits made long-tailed, both stages, the
    table."""
    from fasttail.demo import demo

    demo()


def main() -> None:
    """Entry point: a `UserError` becomes one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"fasttail: {error}", file=sys.stderr)
        sys.exit(2)
