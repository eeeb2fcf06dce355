"""Training and what came of it: train, eval, compare, study, report."""

from pathlib import Path

import typer

commands = typer.Typer()


BOTH, STAGE_1, STAGE_2 = "Both stages", "Stage rep", "Stage cls"


@commands.command(
    epilog="Examples: fasttail train --stage rep --dataset cifar10-lt --sampler sqrt;  "
    "fasttail train --stage cls --run runs/cifar10-lt-resnet32-sqrt --method all;  "
    "python -m fasttail.torchrun --nproc-per-node 8 train --stage rep --dataset inat2018"
)
def train(
    ctx: typer.Context,
    stage: str = typer.Option(
        ..., help="rep: learn the representation; cls: class-balanced classifiers on it."
    ),
    dataset: str | None = typer.Option(
        None, help="Data set to train on, in shards/. [default: the only one there]"
    ),
    shards: str | None = typer.Option(
        None, help="Directory or URL (s3://...) of the data set's shards, instead."
    ),
    config: str | None = typer.Option(
        None, help="Recipe: a YAML file or a name in configs/. [default: the data set's]"
    ),
    run: Path | None = typer.Option(
        None,
        "--run",
        "--run-dir",  # torchrun takes --run for the beginning of its own --run-path
        help="Directory of the run. [default: a new one in runs/; for cls the only one there]",
    ),
    init: str | None = typer.Option(
        None, help="Initial weights: a run's directory, a file, or torchvision:resnet152."
    ),
    resume: bool = typer.Option(False, "--resume", help="Resume an interrupted run."),
    settings: list[str] | None = typer.Option(
        None,
        "--set",
        help="Set any key: section.key=value, repeatable. fasttail config lists them.",
    ),
    sampler: str | None = typer.Option(
        None,
        help="instance, class, sqrt, progressive or power:Q; of stage cls, the heads' sampler.",
        rich_help_panel=BOTH,
    ),
    epochs: int | None = typer.Option(
        None, help="Number of epochs of the stage.", rich_help_panel=BOTH
    ),
    batch_size: int | None = typer.Option(
        None, help="Images a step, over all processes.", rich_help_panel=BOTH
    ),
    lr: float | None = typer.Option(
        None, help="Learning rate, for lr_batch_size images a step.", rich_help_panel=BOTH
    ),
    seed: int | None = typer.Option(None, help="Random seed.", rich_help_panel=BOTH),
    protocol: str | None = typer.Option(
        None, help="clean, or official: as the authors' code does it.", rich_help_panel=BOTH
    ),
    draws: str | None = typer.Option(
        None,
        help="quota: exact numbers of draws per class; iid: independent draws; official: as the "
        "authors' code.",
        rich_help_panel=BOTH,
    ),
    engine: str | None = typer.Option(
        None,
        help="auto, ffcv, dali, dali-region, resident, reference or synthetic.",
        rich_help_panel=BOTH,
    ),
    backbone: str | None = typer.Option(
        None,
        help="A network of fasttail's, timm:NAME or torchvision:NAME; of stage cls, a frozen one "
        "to put heads on without stage 1.",
        rich_help_panel=BOTH,
    ),
    px: int | None = typer.Option(
        None, help="Height and width of the network's input, in pixels.", rich_help_panel=BOTH
    ),
    loss: str | None = typer.Option(
        None,
        help="cross-entropy, weighted, balanced-softmax, logit-adjustment or ldam-drw.",
        rich_help_panel=STAGE_1,
    ),
    method: str = typer.Option(
        "all",
        help="linear, crt, lws, tau, ncm, logit-adjust, balanced-softmax, crt-last-block, several "
        "separated by commas, or all.",
        rich_help_panel=STAGE_2,
    ),
    features: str | None = typer.Option(
        None,
        help="bank: each image once, stored; images: augmented each epoch.",
        rich_help_panel=STAGE_2,
    ),
    views: int | None = typer.Option(
        None, help="Random views of each training image in the bank.", rich_help_panel=STAGE_2
    ),
) -> None:
    """Train: stage rep learns the backbone, stage cls gives it class-balanced classifiers.

    What is not given is the recipe's."""
    from fasttail import stages
    from fasttail.stages.options import FLAGS
    from fasttail.stores import folder_or_url

    stages.train(
        stages.TrainOptions(
            stage=stage,
            dataset=dataset,
            shards=shards and folder_or_url(shards),
            config=config,
            run=run,
            init=init,
            method=method,
            resume=resume,
            flags={n: ctx.params[n] for n in FLAGS if ctx.params[n] is not None},
            settings=tuple(settings or ()),
        )
    )


@commands.command(
    "config", epilog="Examples: fasttail config;  fasttail config --config inat2018 --json"
)
def show_config(
    config: str | None = typer.Option(
        None, help="Recipe: a YAML file or a name in configs/. [default: fasttail's defaults]"
    ),
    settings: list[str] | None = typer.Option(
        None, "--set", help="Set any key: section.key=value, repeatable."
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON object, for scripts."),
) -> None:
    """List every key of the configuration with its value, default and meaning."""
    from fasttail import recipes
    from fasttail.console import Reporter

    chosen = recipes.DEFAULTS if config is None else recipes.load(config)
    rows = recipes.reference(recipes.change(chosen, recipes.parse_settings(settings or ())))
    if as_json:
        Reporter().json({"config": config, "keys": rows})
    else:
        Reporter().keys(rows)


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
    "python -m fasttail.torchrun --nproc-per-node 8 study --dataset imagenet-lt"
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
    shards: str | None = typer.Option(None, help="The directory or URL of the shards, instead."),
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
    from fasttail.stores import folder_or_url
    from fasttail.study.asked import StudyOptions
    from fasttail.study.run import study

    study(
        StudyOptions(
            samplers=samplers,
            seeds=seeds,
            backbones=backbones,
            methods=methods,
            dataset=dataset,
            shards=shards and folder_or_url(shards),
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
