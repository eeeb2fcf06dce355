"""Where a stage begins: the shards, the run's directory, the weights to start from."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fasttail import atomic, engines, models, recipes, rundir, shards
from fasttail.compute import Compute, pick, process_group
from fasttail.config import TrainConfig
from fasttail.console import Reporter
from fasttail.engines.kept import Kept
from fasttail.errors import UserError, unknown
from fasttail.models.weights import Loaded, load_into
from fasttail.plan import samplers
from fasttail.plans import stage1_epochs, stage1_mixes
from fasttail.protocol import settle
from fasttail.rundir import Run
from fasttail.shards import Shards
from fasttail.shards.command import shards_root
from fasttail.stages.options import TrainOptions, configure
from fasttail.train import rep
from fasttail.train.checkpoint import save_weights
from fasttail.train.losses import LOSSES
from fasttail.train.schedule import check_rates
from fasttail.world import World


def shards_dir(dataset: str | None, given: Path | str | None) -> Path | str:
    """The shards a command means: `--shards`, which may be a URL, the data set's under the shards
    directory, or the only ones there. `UserError` naming what there is."""
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


def shards_of(run: Run) -> Shards:
    """A run's shards. `UserError` if they are not those it was begun with."""
    opened = shards.open(run.shards_dir)
    if opened.digest != run.shards_digest:
        raise UserError(
            f"{run.shards_dir}: these are not the shards that {run.dir} was started with "
            f"(digest {opened.digest[:12]}, not {run.shards_digest[:12]}): "
            "convert them again as before, or start a new run"
        )
    if opened.class_names != run.class_names:
        raise UserError(
            f"{run.dir}/run.json: damaged: its class names are not those of {run.shards_dir}"
        )
    return opened


@contextmanager
def computing(run: Run, world: World, go_on: Callable[[], str]) -> Iterator[tuple[Compute, Kept]]:
    """Where a run's arithmetic is done, and what decodes its images there. The run is this
    command's alone meanwhile; `go_on` says how to go on if it can't be written to."""
    compute = pick(run.config.compute, world)
    with (
        atomic.explained(run.dir, lambda: f"resume with {go_on()}"),
        rundir.held(run) if world.is_main else nullcontext(),
        process_group(world, compute.device),
        Kept(run.config.data, compute.device, run.decoder) as engines,
    ):
        yield compute, engines


def new_run(options: TrainOptions, world: World, reporter: Reporter) -> Run:
    """Makes the directory of a run of stage 1; or, in a job that torchrun or Slurm has started
    again, opens the one that was made the first time."""
    opened = shards.open(shards_dir(options.dataset, options.shards))
    config = configure(options, base_config(options.config, opened))
    _check_fit(settle(config, opened.split_names), opened, world)
    check_start(config, options.init)
    name = f"{opened.dir.name}-{config.model.backbone}-{config.sampler.replace(':', '-')}"
    directory = options.run or rundir.RUNS / name
    if world.restarts and (directory / "run.json").is_file():
        return same_run(directory, config, options.init)
    weights = {}
    if options.init is not None:
        # In every process: the others wait a minute for the directory, and a download takes longer.
        weights[rundir.START] = _start_from(options.init, config, len(opened.class_names), reporter)
    return created(directory, config, opened, world, init=options.init, weights=weights)


def created(
    directory: Path,
    config: TrainConfig,
    opened: Shards,
    world: World,
    *,
    init: str | None,
    weights: Mapping[str, Callable[[Path], object]],
    frozen: Mapping[str, Any] | None = None,
) -> Run:
    """A new run's directory, which the main process makes and the others wait for. For `weights`
    and `frozen` see `rundir.create`."""
    if not world.is_main:
        return rundir.wait_for(directory)
    return rundir.create(
        directory,
        config,
        shards_dir=opened.dir,
        shards_digest=opened.digest,
        dataset=opened.name,
        class_names=opened.class_names,
        init=init,
        frozen=frozen,
        weights=weights,
    )


def base_config(given: str | TrainConfig | None, opened: Shards) -> TrainConfig:
    """The configuration that was given, or a recipe's: the one named, or the data set's."""
    if isinstance(given, TrainConfig):
        return given
    if given is None:
        split = opened.split("train")
        image_px = int(max(split.heights_N.max(), split.widths_N.max()))
        given = recipes.for_dataset(opened.name, image_px)
    return recipes.load(given)


def check_start(config: TrainConfig, init: str | None) -> None:
    """`UserError` if a part of the network would stay at random weights."""
    if config.model.trained != "all" and init is None:
        raise UserError(
            f"model.trained is {config.model.trained}, which leaves the rest of the backbone at "
            "random weights: give --init a run, a file of weights, torchvision:NAME or timm:NAME"
        )


def _start_from(
    init: str, config: TrainConfig, num_classes: int, reporter: Reporter
) -> Callable[[Path], None]:
    """Finds the weights of `--init`; what is returned writes them to a file."""
    model, _ = initial_model(config, num_classes, init, reporter)
    return lambda path: save_weights(path, model.state_dict(), {"init": init})


def same_run(directory: Path, config: TrainConfig, init: str | None) -> Run:
    """The run that a job begun again has made the first time. `UserError` if it is another."""
    run = rundir.open_run(directory)
    if (run.config, run.init) != (config, init):
        raise UserError(f"{directory}: the run there was started with another configuration")
    return run


def _check_fit(config: TrainConfig, opened: Shards, world: World) -> None:
    """Names and sizes that would fail later are refused before there is a run directory."""
    split = opened.split("train")
    check_input(config)
    if config.loss.name not in LOSSES:
        raise unknown("loss", config.loss.name, LOSSES)
    samplers.parse(config.sampler, config.optim.epochs)
    if config.optim.batch_size > len(split):
        raise UserError(
            f"{opened.dir}: a batch of {config.optim.batch_size} is more than the {len(split)} "
            "training images: give a smaller one with --batch-size N"
        )
    stage1_epochs(config, split, world)(0)
    stage1_mixes(config, world)
    check_rates(config.optim, "optim")


def check_input(config: TrainConfig) -> None:
    """The same for what both stages need."""
    models.check(config.model.backbone, config.data.px)
    if config.data.engine not in engines.names():
        raise unknown("engine", config.data.engine, engines.names())
    samplers.parse(config.classify.sampler, config.classify.crt.epochs)


def initial_model(
    config: TrainConfig, num_classes: int, init: str, reporter: Reporter
) -> tuple[models.Recognizer, Loaded]:
    """A model with the weights of `--init`, and how they met it."""
    model = rep.new_model(config, num_classes)
    loaded = load_into(model, init)
    reporter.say(f"--init {init}: {loaded}")
    return model, loaded
