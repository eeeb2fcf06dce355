"""What a training was asked, and the configuration that comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fasttail import recipes
from fasttail.config import TrainConfig
from fasttail.errors import UserError
from fasttail.rundir import Run


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
    features: str | None = None
    views: int | None = None
    init: str | None = None
    loss: str | None = None
    resume: bool = False
    epochs: int | None = None
    settings: Sequence[str] = ()


def configure(options: TrainOptions, config: TrainConfig) -> TrainConfig:
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
        "loss.name": options.loss,
    }
    for key, value in said.items():
        if value is not None:
            settings.append(f"{key}={value}")
    return recipes.change(config, settings)


def refuse_changes(options: TrainOptions, run: Run) -> None:
    """A resumed run goes on as it was begun, or its numbers would be of neither."""
    changed = recipes.change(configure(options, run.config), ()) != run.config
    if changed or options.config or options.init:
        raise UserError(
            f"{run.dir}: a run is resumed with the configuration it was begun with: "
            "leave out --config, --init, --set and the options that change it"
        )
