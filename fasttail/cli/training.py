"""Training and its results: train, config, eval, compare, study, report."""

from pathlib import Path

import typer

from fasttail.cli.common import AS_JSON, RUN, examples

commands = typer.Typer()

BOTH, STAGE_1, STAGE_2 = "Both stages", "Stage rep", "Stage cls"


@commands.command(
    epilog=examples(
        "fasttail train --stage rep --dataset cifar10-lt --sampler sqrt",
        "fasttail train --stage cls --run runs/cifar10-lt-resnet32-sqrt",
        "python -m fasttail.torchrun --nproc-per-node 8 train --stage rep",
    )
)
def train(
    ctx: typer.Context,
    stage: str = typer.Option(
        ..., help="rep: learn the representation. cls: train class-balanced classifiers on it."
    ),
    dataset: str | None = typer.Option(
        None, help="Converted data set, by name.", show_default="the only one in shards/"
    ),
    shards: str | None = typer.Option(
        None,
        help="Directory or URL (s3://...) of the converted data set.",
        show_default="shards/DATASET",
    ),
    config: str | None = typer.Option(
        None,
        help="Recipe: a YAML file, or the name of one that comes with fasttail.",
        show_default="the data set's",
    ),
    run: Path | None = typer.Option(
        None,
        "--run",
        "--run-dir",  # torchrun takes --run for the beginning of its own --run-path
        help="Directory of the run.",
        show_default="a new one in runs/; for cls the only one there",
    ),
    init: str | None = typer.Option(
        None,
        help="Initial weights: a run, a file, torchvision:NAME or timm:NAME.",
        show_default="random",
    ),
    resume: bool = typer.Option(False, "--resume", help="Resume an interrupted run."),
    settings: list[str] | None = typer.Option(
        None,
        "--set",
        metavar="KEY=VALUE",
        help="Set any key, as in optim.momentum=0.8; repeatable. fasttail config lists them.",
    ),
    sampler: str | None = typer.Option(
        None,
        help="instance, class, sqrt, progressive or power:Q. In stage cls: of the classifiers.",
        show_default="instance; class in cls",
        rich_help_panel=BOTH,
    ),
    epochs: int | None = typer.Option(
        None,
        help="Number of epochs of the stage.",
        show_default="the recipe's",
        rich_help_panel=BOTH,
    ),
    batch_size: int | None = typer.Option(
        None,
        help="Images per step, over all processes.",
        show_default="the recipe's",
        rich_help_panel=BOTH,
    ),
    lr: float | None = typer.Option(
        None,
        help="Learning rate for lr_batch_size images per step; it scales with the batch size.",
        show_default="the recipe's",
        rich_help_panel=BOTH,
    ),
    seed: int | None = typer.Option(
        None, help="Random seed.", show_default="0", rich_help_panel=BOTH
    ),
    protocol: str | None = typer.Option(
        None,
        help="clean, or official: every detail as in the authors' code.",
        show_default="clean",
        rich_help_panel=BOTH,
    ),
    draws: str | None = typer.Option(
        None,
        help="quota: a fixed number of draws per class. iid: independent draws, with replacement. "
        "official: as in the authors' code.",
        show_default="quota",
        rich_help_panel=BOTH,
    ),
    engine: str | None = typer.Option(
        None,
        help="auto, ffcv, dali, dali-region, resident, reference or synthetic.",
        show_default="auto",
        rich_help_panel=BOTH,
    ),
    backbone: str | None = typer.Option(
        None,
        help="resnet50, resnext50, ..., timm:NAME or torchvision:NAME. In stage cls: a frozen one, "
        "for classifiers without stage 1.",
        show_default="the recipe's",
        rich_help_panel=BOTH,
    ),
    px: int | None = typer.Option(
        None,
        help="Height and width of the network's input, in pixels.",
        show_default="the recipe's",
        rich_help_panel=BOTH,
    ),
    loss: str | None = typer.Option(
        None,
        help="cross-entropy, weighted, balanced-softmax, logit-adjustment or ldam-drw.",
        show_default="cross-entropy",
        rich_help_panel=STAGE_1,
    ),
    method: str = typer.Option(
        "all",
        help="Comma-separated: linear, crt, lws, tau, ncm, logit-adjust, balanced-softmax, "
        "crt-last-block; or all.",
        rich_help_panel=STAGE_2,
    ),
    features: str | None = typer.Option(
        None,
        help="bank: extract features once. images: augment the images in each epoch.",
        show_default="bank",
        rich_help_panel=STAGE_2,
    ),
    views: int | None = typer.Option(
        None,
        help="Augmented views per training image in the feature bank; 0: the evaluation crop.",
        show_default="0",
        rich_help_panel=STAGE_2,
    ),
) -> None:
    """Train a backbone (stage rep), then class-balanced classifiers on it (stage cls).

    Options override the recipe."""
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
    "config", epilog=examples("fasttail config", "fasttail config --config inat2018 --json")
)
def show_config(
    config: str | None = typer.Option(
        None,
        help="Recipe: a YAML file, or the name of one that comes with fasttail.",
        show_default="fasttail's defaults",
    ),
    settings: list[str] | None = typer.Option(
        None, "--set", metavar="KEY=VALUE", help="Set any key; repeatable."
    ),
    as_json: bool = AS_JSON,
) -> None:
    """List every configuration key with its value, default and meaning."""
    from fasttail import recipes
    from fasttail.console import Reporter

    chosen = recipes.DEFAULTS if config is None else recipes.load(config)
    rows = recipes.reference(recipes.change(chosen, recipes.parse_settings(settings or ())))
    if as_json:
        Reporter().json({"config": config, "keys": rows})
    else:
        Reporter().keys(rows)


@commands.command("eval", epilog=examples("fasttail eval --run runs/demo --split test"))
def evaluate(
    run: Path | None = RUN,
    split: str = typer.Option("test", help="Split to evaluate on."),
    as_json: bool = AS_JSON,
) -> None:
    """Evaluate all classifiers of a run on a split, and add the results to metrics.json."""
    from fasttail import stages

    stages.evaluate(run, split, as_json=as_json)


@commands.command(epilog=examples("fasttail compare runs/seed-0 runs/seed-1 runs/seed-2"))
def compare(
    runs: list[Path] = typer.Argument(..., help="Directories of the runs."),
    split: str | None = typer.Option(
        None, help="Split of the results.", show_default="test, or val if there is no test set"
    ),
    as_json: bool = AS_JSON,
) -> None:
    """Show mean ± standard deviation over runs, such as several random seeds."""
    from fasttail.console import Reporter
    from fasttail.evaluate import compare

    compare.compare(runs, split, Reporter(), as_json=as_json)


@commands.command(
    epilog=examples(
        "fasttail study --dataset cifar10-lt --seeds 3",
        "fasttail study --samplers instance,class --backbones resnet32,resnet56",
        "python -m fasttail.torchrun --nproc-per-node 8 study --dataset imagenet-lt",
    )
)
def study(
    samplers: str = typer.Option(
        "instance,class,sqrt,progressive", help="Samplers of stage 1, comma-separated."
    ),
    seeds: int = typer.Option(1, help="Runs of each combination, with random seeds 0, 1, ..."),
    backbones: str | None = typer.Option(
        None, help="Backbones, comma-separated.", show_default="the recipe's"
    ),
    methods: str = typer.Option("all", help="Stage 2 methods, comma-separated, or all."),
    init: str | None = typer.Option(
        None,
        help="Initial weights of every run, as in fasttail train.",
        show_default="random",
    ),
    dataset: str | None = typer.Option(
        None, help="Converted data set, by name.", show_default="the only one in shards/"
    ),
    shards: str | None = typer.Option(
        None,
        help="Directory or URL (s3://...) of the converted data set.",
        show_default="shards/DATASET",
    ),
    config: str | None = typer.Option(
        None,
        help="Recipe: a YAML file, or the name of one that comes with fasttail.",
        show_default="the data set's",
    ),
    epochs: int | None = typer.Option(
        None, help="Number of epochs of stage 1.", show_default="the recipe's"
    ),
    settings: list[str] | None = typer.Option(
        None, "--set", metavar="KEY=VALUE", help="Set any key; repeatable."
    ),
    out: Path | None = typer.Option(
        None, help="Output directory.", show_default="studies/ and the data set's name"
    ),
) -> None:
    """Compare samplers and classifiers: train all combinations, make a table and a figure.

    The same command resumes an interrupted study."""
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
    epilog=examples(
        "fasttail report runs/demo",
        "fasttail report runs/mine-sqrt runs/mine-class --out compared.html",
    )
)
def report(
    runs: list[Path] = typer.Argument(..., help="Directories of the runs, shown side by side."),
    out: Path | None = typer.Option(
        None,
        help="HTML file to write.",
        show_default="report.html in the run; of several runs, beside the first",
    ),
) -> None:
    """Write an HTML report of runs: results, accuracy per class, training curves, worst classes."""
    from fasttail import report

    print(report.write_all(runs, out))
