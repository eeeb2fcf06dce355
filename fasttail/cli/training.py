"""Training and what came of it: train, eval, compare, study, report."""

from pathlib import Path

import typer

commands = typer.Typer()


@commands.command(
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
        None,
        help="quota: exact numbers a class; iid: each draw for itself; official: as the authors. "
        "[default: quota]",
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


@commands.command("eval", epilog="Example: fasttail eval --run runs/demo --split test")
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


@commands.command(epilog="Example: fasttail compare runs/seed-0 runs/seed-1 runs/seed-2")
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


@commands.command(
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
    init: str | None = typer.Option(
        None, help="Weights that every run starts from, as fasttail train takes them."
    ),
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
            init=init,
            epochs=epochs,
            settings=tuple(settings or ()),
            out=out,
        )
    )


@commands.command(
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
