"""What the commands do: find the shards and the recipe, make or open the run, call the stage."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fasttail import classify, engines, models, recipes, rundir, shards
from fasttail.classify import Stage
from fasttail.compute import Compute, pick, process_group, wait_for_all
from fasttail.config import TrainConfig
from fasttail.console import Reporter
from fasttail.engines.auto import choose
from fasttail.errors import UserError, unknown
from fasttail.models.weights import load_into
from fasttail.plan import samplers
from fasttail.plans import train_epochs, train_view
from fasttail.rundir import Run
from fasttail.shards import Shards
from fasttail.shards.command import shards_root
from fasttail.train import rep
from fasttail.train.checkpoint import save_weights
from fasttail.train.preemption import Preempted
from fasttail.world import World

STAGES = ("rep", "cls")


@dataclass(frozen=True)
class TrainOptions:
    """What `fasttail train` was asked; None where nothing was said."""

    stage: str
    dataset: str | None = None
    shards: Path | None = None
    sampler: str | None = None
    method: str = "all"
    config: str | None = None
    engine: str | None = None
    protocol: str | None = None
    run: Path | None = None
    draws: str | None = None
    locality: str | None = None
    init: Path | None = None
    resume: bool = False
    epochs: int | None = None
    settings: Sequence[str] = ()


def train(options: TrainOptions, reporter: Reporter | None = None) -> Run:
    """Runs a stage; its rows are added to the run's metrics.json and shown. Returns the run."""
    if options.stage not in STAGES:
        raise unknown("stage", options.stage, STAGES)
    world = World.from_env()
    reporter = reporter or Reporter(quiet=not world.is_main)
    return (_train_rep if options.stage == "rep" else _train_cls)(options, world, reporter)


def evaluate(
    run_dir: Path | None, split_name: str, reporter: Reporter | None = None
) -> list[dict[str, Any]]:
    """Scores stage 1's classifier and every head of a run on a split; returns the rows, which are
    added to metrics.json and shown."""
    world = World.from_env()
    reporter = reporter or Reporter(quiet=not world.is_main)
    run = rundir.open_run(run_dir or rundir.only_run())
    opened = _shards_of(run)
    opened.split(split_name)  # says which there are, before any work is done
    with _computing(run, world) as compute:
        model = rep.load_model(run, compute)
        stage = Stage(run, model, opened, world, compute, reporter)
        rows = classify.score_heads(classify.saved_heads(stage), stage, split_name)
        _show(rows, run, world, reporter)
    return rows


def _train_rep(options: TrainOptions, world: World, reporter: Reporter) -> Run:
    if options.resume:
        run = rundir.open_run(options.run or rundir.only_run())
        _refuse_changes(options, run)
    else:
        run = _new_run(options, world)
    opened = _shards_of(run)
    with (
        rundir.discarded_if_refused(run, new=not options.resume and world.is_main),
        _computing(run, world) as compute,
    ):
        _announce(run, opened, compute, world, reporter)
        if run.model_path.exists():
            reporter.say(f"{run.dir}: stage 1 has ended here before")
            model = rep.load_model(run, compute)
        else:
            init = _initial_model(run, options.init, reporter) if options.init else None
            try:
                model = rep.train(
                    run,
                    opened,
                    world=world,
                    compute=compute,
                    reporter=reporter,
                    resume=options.resume,
                    init=init,
                )
            except Preempted:
                reporter.say(
                    "asked to leave, and the checkpoint is written: go on with "
                    f"fasttail train --stage rep --run {run.dir} --resume"
                )
                return run
        stage = Stage(run, model, opened, world, compute, reporter)
        rows = classify.score_everywhere([classify.joint_head(model)], stage)
        _show(rows, run, world, reporter)
    reporter.say(f"stage 2: fasttail train --stage cls --run {run.dir}")
    return run


def _train_cls(options: TrainOptions, world: World, reporter: Reporter) -> Run:
    methods = classify.names(options.method)
    if options.init is not None:
        run = _run_from(options, options.init, world, reporter)
    else:
        run = rundir.open_run(options.run or rundir.only_run())
    run = run.with_config(_configure(options, run.config))
    opened = _shards_of(run)
    with _computing(run, world) as compute:
        model = rep.load_model(run, compute)
        stage = Stage(run, model, opened, world, compute, reporter)
        if world.is_main:
            run.note_stage2()
        heads = [classify.joint_head(model), *classify.make_heads(methods, stage)]
        rows = classify.score_everywhere(heads, stage)
        _show(rows, run, world, reporter)
    return run


# ---- shards, configuration, run ---------------------------------------------------------------


def shards_dir(dataset: str | None, given: Path | None) -> Path:
    """The shards a command means: `--shards`, the data set's under the shards directory, or the
    only ones there. `UserError` naming what there is."""
    if given is not None:
        return given
    root = shards_root()
    found = sorted(path.parent for path in root.glob("*/dataset.json"))
    there = ", ".join(path.name for path in found) or "none"
    if dataset is not None:
        if root / dataset not in found:
            raise UserError(
                f"no shards of {dataset!r} in {root}/ (there: {there}): "
                f"make them with fasttail convert --dataset {dataset}"
            )
        return root / dataset
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(
            f"there are no shards in {root}/: make some with fasttail convert --dataset NAME"
        )
    raise UserError(f"which data set? --dataset one of {there}")


def _new_run(options: TrainOptions, world: World) -> Run:
    opened = shards.open(shards_dir(options.dataset, options.shards))
    split = opened.split("train")
    image_px = int(max(split.heights_N.max(), split.widths_N.max()))
    recipe = options.config or recipes.for_dataset(opened.name, image_px)
    config = _configure(options, recipes.load(recipe))
    _check_fit(config, opened, world)
    name = f"{opened.dir.name}-{config.model.backbone}-{config.sampler.replace(':', '-')}"
    directory = options.run or rundir.RUNS / name
    if not world.is_main:
        return rundir.wait_for(directory)
    return rundir.create(
        directory,
        config,
        shards_dir=opened.dir,
        shards_digest=opened.digest,
        dataset=opened.name,
        class_names=opened.class_names,
    )


def _check_fit(config: TrainConfig, opened: Shards, world: World) -> None:
    """Names and sizes that would fail later are refused before there is a run directory."""
    split = opened.split("train")
    models.check_name(config.model.backbone)
    if config.data.engine not in engines.names():
        raise unknown("engine", config.data.engine, engines.names())
    samplers.parse(config.sampler, config.optim.epochs)
    samplers.parse(config.classify.sampler, config.classify.crt.epochs)
    if config.optim.batch_size > len(split):
        raise UserError(
            f"{opened.dir}: a batch of {config.optim.batch_size} is more than the {len(split)} "
            f"training images: give a smaller one with --set optim.batch_size=N"
        )
    train_epochs(
        config,
        split,
        seed=config.seed,
        sampler=config.sampler,
        optim=config.optim,
        view=train_view(config.data),
        world=world,
    )(0)


def _configure(options: TrainOptions, config: TrainConfig) -> TrainConfig:
    """A configuration with what the command line says put in."""
    settings = list(options.settings)
    if options.sampler is not None:
        key = "sampler" if options.stage == "rep" else "classify.sampler"
        settings.append(f"{key}={options.sampler}")
    if options.epochs is not None:
        keys = ["optim"] if options.stage == "rep" else ["classify.crt", "classify.lws"]
        settings.extend(f"{key}.epochs={options.epochs}" for key in keys)
    said = {
        "data.engine": options.engine,
        "data.locality": options.locality,
        "draws": options.draws,
        "protocol": options.protocol,
    }
    for key, value in said.items():
        if value is not None:
            settings.append(f"{key}={value}")
    return recipes.change(config, settings)


def _refuse_changes(options: TrainOptions, run: Run) -> None:
    """A resumed run goes on as it was begun, or its numbers would be of neither."""
    if recipes.change(_configure(options, run.config), ()) != run.config or options.config:
        raise UserError(
            f"{run.dir}: a run is resumed with the configuration it was begun with: "
            "leave out --config, --set and the options that change it"
        )


def _initial_model(run: Run, init: Path, reporter: Reporter) -> models.Recognizer:
    model = models.build(run.config.model.backbone, len(run.class_names))
    reporter.say(f"--init {init}: {load_into(model, init)}")
    return model


def _run_from(options: TrainOptions, init: Path, world: World, reporter: Reporter) -> Run:
    """A new run whose stage 1 is somebody else's: another run's, or a file of weights."""
    if (init / "run.json").is_file():
        before = rundir.open_run(init)
        directory = options.run or rundir.RUNS / f"{init.name}-cls"
        if not world.is_main:
            return rundir.wait_for(directory, "model.safetensors")
        run = rundir.create(
            directory,
            before.config,
            shards_dir=before.shards_dir,
            shards_digest=before.shards_digest,
            dataset=before.dataset,
            class_names=before.class_names,
        )
        if not before.model_path.exists():
            raise UserError(f"{init}: stage 1 has not ended there")
        shutil.copyfile(before.model_path, run.model_path)
        return run
    run = _new_run(options, world)
    if not world.is_main:
        return rundir.wait_for(run.dir, "model.safetensors")
    model = _initial_model(run, init, reporter)
    save_weights(run.model_path, model.state_dict(), rep.about_model(run))
    return run


def _shards_of(run: Run) -> Shards:
    """A run's shards. `UserError` if they are not those it was begun with."""
    opened = shards.open(run.shards_dir)
    if opened.digest != run.shards_digest:
        raise UserError(
            f"{run.shards_dir}: these are not the shards that {run.dir} was begun with "
            f"(digest {opened.digest[:12]}, not {run.shards_digest[:12]}): "
            "convert them again as before, or begin a new run"
        )
    return opened


@contextmanager
def _computing(run: Run, world: World) -> Iterator[Compute]:
    compute = pick(run.config.compute, world)
    with process_group(world, compute.device):
        yield compute


# ---- what is said -------------------------------------------------------------------------------


def _announce(run: Run, opened: Shards, compute: Compute, world: World, reporter: Reporter) -> None:
    optim = run.config.optim
    counts_C = opened.split("train").counts_C
    reporter.say(
        f"{run.dir}: {run.dataset}, {counts_C.sum():,} training images in {len(counts_C):,} "
        f"classes ({counts_C.max():,} to {counts_C.min():,}); {run.config.model.backbone}, "
        f"{run.config.sampler} sampler, {optim.epochs} epochs of {optim.batch_size} images a step "
        f"on {world.size} x {compute.device.type} in {str(compute.dtype).removeprefix('torch.')}"
    )
    if run.config.data.engine == "auto":
        reporter.say("engine {}: {}".format(*choose(opened.split("train"), compute.device)))
    if optim.batch_size != optim.lr_batch_size:
        reporter.say(
            f"learning rate {optim.lr:g} for {optim.lr_batch_size} images becomes "
            f"{optim.scaled_lr:g} for {optim.batch_size} (linear rule)"
        )


def _show(rows: Sequence[dict[str, Any]], run: Run, world: World, reporter: Reporter) -> None:
    """Keeps all rows, and shows those of the last split: test, where there is one."""
    if world.is_main:
        run.add_rows(rows)
        last = rows[-1]["split"]
        images = rows[-1]["images"]
        reporter.table(
            [row for row in rows if row["split"] == last],
            f"{run.dataset}: accuracy in % on {last} ({images:,} images)",
        )
    wait_for_all(world)
