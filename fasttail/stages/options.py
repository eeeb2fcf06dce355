"""What a training was asked, and the configuration that comes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fasttail import recipes
from fasttail.config import TrainConfig
from fasttail.errors import UserError
from fasttail.rundir import Run


@dataclass(frozen=True)
class Flag:
    """A short name for keys of the configuration: those that it sets in stage rep, and in cls."""

    rep: tuple[str, ...] = ()
    cls: tuple[str, ...] = ()


def _both(*keys: str) -> Flag:
    return Flag(keys, keys)


def _heads(name: str) -> tuple[str, ...]:
    return f"classify.crt.{name}", f"classify.lws.{name}"


# The command line's options for single keys; the names as Python has them (`batch_size`).
FLAGS = {
    "backbone": _both("model.backbone"),
    "sampler": Flag(rep=("sampler",), cls=("classify.sampler",)),
    "loss": Flag(rep=("loss.name",)),
    "epochs": Flag(rep=("optim.epochs",), cls=_heads("epochs")),
    "batch_size": Flag(rep=("optim.batch_size",), cls=_heads("batch_size")),
    "lr": Flag(rep=("optim.lr",), cls=_heads("lr")),
    "px": _both("data.px"),
    "features": Flag(cls=("classify.features",)),
    "views": Flag(cls=("classify.views",)),
    "seed": _both("seed"),
    "protocol": _both("protocol"),
    "draws": _both("draws"),
    "engine": _both("data.engine"),
}


@dataclass(frozen=True)
class TrainOptions:
    """What `fasttail train` was asked; None where nothing was said.

    `config` is a recipe's name or file, or the whole configuration. `flags` are values for the
    names in `FLAGS`, `settings` the texts of --set.
    """

    stage: str
    dataset: str | None = None
    shards: Path | str | None = None
    config: str | TrainConfig | None = None
    run: Path | None = None
    init: str | None = None
    method: str = "all"
    resume: bool = False
    flags: Mapping[str, Any] = field(default_factory=dict)
    settings: Sequence[str] = ()


def configure(options: TrainOptions, config: TrainConfig) -> TrainConfig:
    """A configuration with what the command line says put in. `UserError` for what it can't be, and
    for an option of the other stage."""
    changes = recipes.parse_settings(options.settings)
    typed: dict[str, str] = {}
    for name, value in options.flags.items():
        option = f"--{name.replace('_', '-')}"
        keys = getattr(FLAGS[name], options.stage)
        if not keys:
            raise UserError(
                f"{option} is an option of the other stage, not of --stage {options.stage}: "
                "leave it out"
            )
        changes |= dict.fromkeys(keys, value)
        typed |= dict.fromkeys(keys, option)
    return recipes.change(config, changes, typed)


def refuse_changes(options: TrainOptions, run: Run) -> None:
    """A resumed run goes on as it was begun, or its numbers would be of neither."""
    if configure(options, run.config) != run.config or options.config or options.init:
        raise UserError(
            f"{run.dir}: a run is resumed with the configuration it was started with: "
            "leave out --config, --init, --set and the options that change it"
        )
