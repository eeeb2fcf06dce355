"""The command line: parse, make a configuration, make one call. No logic; heavy imports stay inside
the commands, so that `--help` and mistakes answer at once."""

import os
import sys
from pathlib import Path

import typer

from fasttail import __version__
from fasttail.errors import UserError

app = typer.Typer(
    name="fasttail",
    help="Long-tailed image recognition whose input side is never the bottleneck.",
    no_args_is_help=True,
    epilog="Examples: fasttail demo;  fasttail convert --dataset cifar10-lt;  "
    "fasttail --quiet train --stage rep --dataset cifar10-lt;  fasttail train --help",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
        False, "--quiet", "-q", help="Results and errors only.", callback=_quiet, is_eager=True
    ),
    no_color: bool = typer.Option(
        False, "--no-color", help="No colours.", callback=_no_color, is_eager=True
    ),
) -> None:
    pass


@app.command(
    epilog="Examples: fasttail convert --dataset digits;  "
    "fasttail convert --dataset inat2018 --source /data/inat --max-side 512;  "
    "fasttail convert --dataset folder --source photos --raw-budget 10%;  "
    "torchrun --nproc-per-node 8 -m fasttail convert --dataset imagenet-lt"
)
def convert(
    dataset: str = typer.Option(
        ...,
        help="digits, folder, cifar10-lt, cifar100-lt, imagenet-lt, places-lt, inat2018, list, "
        "csv, parquet or webdataset.",
    ),
    source: Path | None = typer.Option(
        None, help="The folder (or file) that the images are in. [default: data/NAME]"
    ),
    out: Path | None = typer.Option(None, help="Where the shards go. [default: shards/NAME]"),
    imbalance: float | None = typer.Option(
        None, help="Largest class : smallest, for digits and CIFAR-LT. [default: 50, 100]"
    ),
    val_fraction: float | None = typer.Option(
        None, help="Share of train held out where there is no val. [default: 0.1; CIFAR-LT 0]"
    ),
    seed: int | None = typer.Option(None, help="Of every random choice. [default: 0]"),
    lists: Path | None = typer.Option(
        None, help="Folder of list files (path label), or one. [default: beside the images]"
    ),
    columns: tuple[str, str] | None = typer.Option(
        None, help="csv, parquet: the columns of paths and labels. [default: path label]"
    ),
    label_key: str | None = typer.Option(
        None, help="webdataset: the label's key in the .json member. [default: the .cls member]"
    ),
    allow_partial: bool = typer.Option(
        False, "--allow-partial", help="Go on where a published data set has another size."
    ),
    max_side: int | None = typer.Option(
        None, help="Shrink images whose longer side is above this, in pixels. [default: never]"
    ),
    exif: str | None = typer.Option(
        None, help="EXIF orientation: ignore, as the published pipelines do, or apply."
    ),
    raw_budget: str | None = typer.Option(
        None, help="Keep images of the smallest classes as pixels: 4GiB, or 10% of the images."
    ),
    check: str | None = typer.Option(
        None, help="decode: decode every image once; header: read headers. [default: decode]"
    ),
    on_bad: str | None = typer.Option(
        None, help="fail: stop at the end with the list; skip: leave them out. [default: fail]"
    ),
    format: str | None = typer.Option(None, help="beton or tar. [default: beton]"),
    part_size: str | None = typer.Option(
        None, help="Bytes of images from which on a split gets another file. [default: 32GiB]"
    ),
    jobs: int | None = typer.Option(None, help="Worker processes. [default: the usable cores]"),
    as_json: bool = typer.Option(False, "--json", help="One JSON object at the end, for scripts."),
) -> None:
    """Convert a data set to shards: a few big files and a table of where each image is."""
    from fasttail.shards import command

    command.run_convert(
        dataset,
        source,
        out,
        {
            "imbalance": imbalance,
            "val_fraction": val_fraction,
            "seed": seed,
            "lists": lists,
            "columns": columns,
            "label_key": label_key,
            "allow_partial": allow_partial,
            "max_side": max_side,
            "exif": exif,
            "raw_budget": raw_budget,
            "check": check,
            "on_bad": on_bad,
            "format": format,
            "part_size": part_size,
            "jobs": jobs,
        },
        as_json=as_json,
    )


@app.command(epilog="Example: fasttail verify shards/inat2018")
def verify(
    shards: Path = typer.Argument(..., help="The directory of the shards."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object, for scripts."),
) -> None:
    """Read every sample again: its crc32, its place, the tables. Exit code 1 if there is damage."""
    from fasttail.shards import command

    command.run_verify(shards, as_json=as_json)


@app.command(epilog="Example: fasttail index data/*.tar --label-key label")
def index(
    tars: list[Path] = typer.Argument(
        ..., help="Tars of WebDataset samples; train-*, val-*, test-* by their names."
    ),
    out: Path | None = typer.Option(
        None, help="Where the table goes. [default: shards/NAME, by the folder of the tars]"
    ),
    label_key: str | None = typer.Option(
        None, help="The label's key in the .json member. [default: the .cls member]"
    ),
    check: str | None = typer.Option(
        None, help="decode: decode every image once; header: read headers. [default: decode]"
    ),
    on_bad: str | None = typer.Option(
        None, help="fail: stop at the end with the list; skip: leave them out. [default: fail]"
    ),
    jobs: int | None = typer.Option(None, help="Worker processes. [default: the usable cores]"),
    as_json: bool = typer.Option(False, "--json", help="One JSON object at the end, for scripts."),
) -> None:
    """Make the class-index table over tar shards that exist, copying nothing."""
    from fasttail.shards import command

    options = {"label_key": label_key, "check": check, "on_bad": on_bad, "jobs": jobs}
    command.run_index(tars, out, options, as_json=as_json)


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
    method: str = typer.Option(
        "all",
        help="Of stage cls: crt, lws, tau, ncm, logit-adjust, balanced-softmax, crt-last-block, "
        "some with commas between, or all.",
    ),
    features: str | None = typer.Option(
        None, help="Of stage cls: bank, each image once; images, augmented. [default: bank]"
    ),
    views: int | None = typer.Option(
        None, help="Of stage cls: random views of train in the bank. [default: one, not random]"
    ),
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
        None,
        "--run",
        "--run-dir",  # torchrun takes --run for the beginning of its own --run-path
        help="The run's directory. [default: a new one in runs/; for cls the only one there]",
    ),
    draws: str | None = typer.Option(
        None, help="quota: exact numbers a class; iid: each draw for itself. [default: quota]"
    ),
    locality: str | None = typer.Option(
        None, help="pages: read shards larger than memory page by page. [default: none]"
    ),
    init: str | None = typer.Option(
        None, help="Start from these weights: a run's directory, a file, or torchvision:resnet152."
    ),
    loss: str | None = typer.Option(
        None,
        help="Of stage rep: cross-entropy, balanced-softmax, logit-adjustment or ldam-drw. "
        "[default: cross-entropy]",
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
            draws=draws,
            locality=locality,
            features=features,
            views=views,
            run=run,
            init=init,
            loss=loss,
            resume=resume,
            epochs=epochs,
            settings=tuple(settings or ()),
        )
    )


@app.command("eval", epilog="Example: fasttail eval --run runs/demo --split test")
def evaluate(
    run: Path | None = typer.Option(
        None, "--run", "--run-dir", help="The run's directory. [default: the only one in runs/]"
    ),
    split: str = typer.Option("test", help="The split to read accuracies on."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object, for scripts."),
) -> None:
    """Read the accuracies of a run's heads on a split again, and add them to metrics.json."""
    from fasttail import stages

    stages.evaluate(run, split, as_json=as_json)


@app.command(epilog="Example: fasttail compare runs/seed-0 runs/seed-1 runs/seed-2")
def compare(
    runs: list[Path] = typer.Argument(..., help="The runs' directories."),
    split: str | None = typer.Option(
        None, help="The split of the numbers. [default: test, or val where there is no test]"
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON object, for scripts."),
) -> None:
    """Put several runs' numbers together: each method's mean and spread over seeds, say."""
    from fasttail.console import Reporter
    from fasttail.evaluate import compare

    compare.compare(runs, split, Reporter(), as_json=as_json)


@app.command(
    epilog="Examples: fasttail study --dataset cifar10-lt --seeds 3;  "
    "fasttail study --samplers instance,class --backbones resnet32,resnet56 --epochs 30;  "
    "torchrun --nproc-per-node 8 -m fasttail study --dataset imagenet-lt"
)
def study(
    samplers: str = typer.Option(
        "instance,class,sqrt,progressive", help="Stage 1's samplers, with commas between."
    ),
    seeds: int = typer.Option(1, help="Runs of each, with the seeds 0, 1, ..."),
    backbones: str | None = typer.Option(
        None, help="With commas between. [default: the recipe's one]"
    ),
    methods: str = typer.Option("all", help="Heads on each, with commas between, or all."),
    dataset: str | None = typer.Option(
        None, help="The data set whose shards to train on. [default: the only one in shards/]"
    ),
    shards: Path | None = typer.Option(None, help="The directory of the shards, instead."),
    config: str | None = typer.Option(
        None, help="A recipe: a YAML file or one of configs/ by name. [default: the data set's]"
    ),
    epochs: int | None = typer.Option(None, help="Of stage 1, instead of the recipe's."),
    settings: list[str] | None = typer.Option(
        None, "--set", help="Change one value: section.key=value. May be given again."
    ),
    out: Path | None = typer.Option(
        None, help="The study's directory. [default: studies/ and the shards' name]"
    ),
) -> None:
    """Compare samplers and heads: every head on every sampler's representation, one matrix and its
    picture. The same command again goes on where it was stopped."""
    from fasttail.study.asked import StudyOptions
    from fasttail.study.run import study

    study(
        StudyOptions(
            samplers=samplers,
            seeds=seeds,
            backbones=backbones,
            methods=methods,
            dataset=dataset,
            shards=shards,
            config=config,
            epochs=epochs,
            settings=tuple(settings or ()),
            out=out,
        )
    )


@app.command(
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


@app.command(
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


@app.command(
    epilog="Examples: fasttail inspect shards/places-lt;  "
    "fasttail inspect shards/mine --html mine.html"
)
def inspect(
    shards: Path = typer.Argument(..., help="The directory of the shards."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object, for scripts."),
    html: Path | None = typer.Option(None, help="Write a page with figures and pictures too."),
) -> None:
    """Say what is in shards: classes, sizes, copies, what raw images cover, an epoch's time."""
    from fasttail.report import inspect

    inspect.show(shards, as_json=as_json, html=html)


@app.command(
    epilog="Examples: fasttail report runs/demo;  "
    "fasttail report runs/mine-sqrt runs/mine-class --out compared.html"
)
def report(
    runs: list[Path] = typer.Argument(..., help="Directories of runs, shown side by side."),
    out: Path | None = typer.Option(
        None, help="The page. [default: report.html in the run, or beside the first of several]"
    ),
) -> None:
    """Write a page about runs: results, accuracy by class, curves, the worst classes."""
    from fasttail import report

    print(report.write_all(runs, out))


@app.command(epilog="Example: fasttail engines --json")
def engines(
    as_json: bool = typer.Option(False, "--json", help="One JSON object, for scripts."),
) -> None:
    """Say which engines work on this machine, by decoding an image with each. Exit code 1 if one
    is installed and does not work."""
    from fasttail.engines import survey

    if not survey.show(as_json=as_json):
        raise typer.Exit(1)


@app.command(epilog="Example: fasttail demo")
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
