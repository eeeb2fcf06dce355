"""Where stage 2 begins on a network that was not trained here: another run's, a file's, or one that
timm or torchvision publish.

Where the classifier came along, for these very classes, it is the run's joint one. Else, and
wherever `--backbone` names the network, the backbone is frozen as it is: a probe, the head
`linear`, stands for the joint classifier, and images are shown to the network as it expects them.
"""

import shutil
from dataclasses import asdict
from pathlib import Path

from fasttail import models, recipes, rundir, shards
from fasttail.classify.fit import for_so_many
from fasttail.config import TrainConfig
from fasttail.console import Reporter
from fasttail.errors import UserError
from fasttail.models import pretrained
from fasttail.models.expected import USED, Expected
from fasttail.models.weights import Loaded
from fasttail.rundir import MODEL, RUNS, Run
from fasttail.shards.format import Meta
from fasttail.stages.begin import (
    base_config,
    check_input,
    created,
    initial_model,
    same_run,
    shards_dir,
)
from fasttail.stages.options import TrainOptions, configure
from fasttail.train.checkpoint import save_weights
from fasttail.world import World


def begins_run(options: TrainOptions) -> bool:
    """Whether stage 2 is to make a run, rather than to work on the one that stage 1 has left."""
    return not options.resume and (options.init is not None or "backbone" in options.flags)


def opened_run(options: TrainOptions) -> Run:
    """The run that is there already. `UserError` if it was started with something else."""
    run = rundir.open_run(options.run or rundir.only_run())
    backbone = options.flags.get("backbone", run.config.model.backbone)
    if backbone != run.config.model.backbone or options.init not in (None, run.init):
        raise UserError(
            f"{run.dir}: it was started with another network, {run.config.model.backbone} of "
            f"{run.init or 'its own stage 1'}: leave out --backbone and --init, or give another "
            "--run"
        )
    return run


def run_from(options: TrainOptions, world: World, reporter: Reporter) -> Run:
    """A new run on what `--init` or `--backbone` names."""
    if options.init is not None and Path(options.init, "run.json").is_file():
        return _from_run(options, options.init, world)
    return _from_weights(options, world, reporter)


def _from_run(options: TrainOptions, init: str, world: World) -> Run:
    before = rundir.open_run(Path(init))
    if options.flags.get("backbone", before.config.model.backbone) != before.config.model.backbone:
        raise UserError(f"--init {init}: its network is {before.config.model.backbone}")
    directory = options.run or RUNS / f"{before.dir.name}-cls"
    if not world.is_main:
        return rundir.wait_for(directory)
    if not before.model_path.exists():
        raise UserError(f"{init}: stage 1 is not finished there")
    return rundir.create(
        directory,
        before.config,
        shards_dir=before.shards_dir,
        shards_digest=before.shards_digest,
        dataset=before.dataset,
        class_names=before.class_names,
        init=init,
        frozen=before.frozen,
        weights={MODEL: lambda path: shutil.copyfile(before.model_path, path)},
    )


def _from_weights(options: TrainOptions, world: World, reporter: Reporter) -> Run:
    opened = shards.open(shards_dir(options.dataset, options.shards))
    base = base_config(options.config, opened)
    config = configure(options, base)
    backbone = config.model.backbone
    models.check_name(backbone)
    init = options.init or backbone
    if options.init is None and not pretrained.is_name(backbone):
        raise UserError(
            f"--backbone {backbone}: its weights would be random: give --init a file of weights, "
            "a run, torchvision:NAME or timm:NAME"
        )
    # In every process: the others wait a minute for the directory, and a download takes longer.
    model, loaded = initial_model(config, len(opened.class_names), init, reporter)
    frozen = "backbone" in options.flags or not loaded.has_classifier
    tensors, expected = model.state_dict(), None
    if frozen:
        _check_whole(loaded, init)
        tensors = {name: of for name, of in tensors.items() if name.startswith("backbone.")}
        expected = models.expected(backbone) or _expected_by(init)
        config = _shown_as_expected(options, base, expected, len(opened.split("train")))
        check_input(config)
        _say(config, expected, opened.meta, reporter)
    kind = "frozen" if frozen else config.sampler
    directory = options.run or RUNS / f"{opened.dir.name}-{backbone}-{kind}".replace(":", "-")
    if world.restarts and (directory / "run.json").is_file():
        return same_run(directory, config, init)
    about = {
        "backbone": backbone,
        "classes": len(opened.class_names),
        "shards_digest": opened.digest,
    }
    return created(
        directory,
        config,
        opened,
        world,
        init=init,
        frozen=(asdict(expected) if expected else {}) if frozen else None,
        weights={MODEL: lambda path: save_weights(path, tensors, about)},
    )


def _check_whole(loaded: Loaded, init: str) -> None:
    """`UserError` if a part of the backbone would stay at random weights."""
    random = [
        name
        for name in loaded.missing
        if name.startswith("backbone.") and not name.endswith("num_batches_tracked")
    ]
    if random:
        shown = ", ".join(random[:3]) + (", ..." if len(random) > 3 else "")
        raise UserError(
            f"--init {init}: {len(random)} tensors of the backbone are not in it and would stay "
            f"random ({shown}): is it of another network, or of another input size?"
        )


def _expected_by(init: str) -> Expected | None:
    return models.expected(init) if pretrained.is_name(init) else None


def _shown_as_expected(
    options: TrainOptions, base: TrainConfig, expected: Expected | None, images: int
) -> TrainConfig:
    """The recipe, with the network's own view and normalisation, and batches that suit so many
    images; over them goes what the command line says."""
    config = base.model_copy(update={"classify": for_so_many(base.classify, images)})
    if expected is not None:
        asked_px = options.flags.get("px") or recipes.parse_settings(options.settings).get(
            "data.px"
        )
        config = recipes.change(config, expected.settings(asked_px))
    return configure(options, config)


def _say(config: TrainConfig, expected: Expected | None, meta: Meta, reporter: Reporter) -> None:
    data = config.data
    seen = f"the middle of {data.resize_px}" if data.eval_view == "center" else "the whole image"
    mean, std = (
        " ".join(f"{value:.3f}" for value in values)
        for values in (data.mean or meta.mean, data.std or meta.std)
    )
    of = f"as {expected.source} has it" if expected else "by the recipe and the shards"
    changed = []
    if expected is not None:
        own = expected.settings()
        changed = [key for key in own if getattr(data, key.removeprefix("data.")) != own[key]]
    reporter.say(
        f"{config.model.backbone} is frozen, and sees {data.px} px, {seen}, mean {mean}, "
        f"std {std}: {of}" + (f", but for {', '.join(changed)}" if changed else "")
    )
    if expected is None:
        reporter.say(
            "what images the network was trained on is not known: set data.mean, data.std, data.px "
            "and data.resize_px if they are others"
        )
    elif expected.interpolation != USED:
        reporter.say(
            f"{expected.source} names {expected.interpolation} interpolation; images are resized "
            f"{USED} here, with antialiasing, which changes features a little"
        )
