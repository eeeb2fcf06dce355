"""What a study was asked for. It is kept in study.json, and a study is only gone on with as it was
begun: numbers of two configurations make no comparison."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fasttail import classify, models, recipes, records, rundir, shards
from fasttail.config import TrainConfig
from fasttail.errors import UserError
from fasttail.models.weights import digest, load_into
from fasttail.plan import samplers as plan_samplers
from fasttail.records import Form, StudyJson
from fasttail.shards import Shards
from fasttail.stages import TrainOptions, base_config, check_start, shards_dir
from fasttail.stages.options import configure

FORMAT = 1
STUDIES = Path("studies")
# What tells a study's runs apart is not for --set.
OWN_KEYS = {"seed": "--seeds", "sampler": "--samplers", "model.backbone": "--backbones"}


@dataclass(frozen=True)
class StudyOptions:
    """What `fasttail study` was asked; None where nothing was said."""

    samplers: str
    seeds: int
    backbones: str | None = None
    methods: str = "all"
    dataset: str | None = None
    shards: Path | str | None = None
    config: str | None = None
    init: str | None = None
    epochs: int | None = None
    settings: Sequence[str] = ()
    out: Path | None = None


@dataclass(frozen=True)
class RunPlan:
    """One stage 1 of a study, and where it lies."""

    backbone: str
    sampler: str
    seed: int
    dir: Path


@dataclass(frozen=True)
class Study:
    """A study: its directory, its shards, and everything its runs have in common."""

    dir: Path
    shards: Shards
    config: TrainConfig
    options: StudyOptions
    samplers: tuple[str, ...]
    backbones: tuple[str, ...]
    methods: tuple[str, ...]
    init_digest: str | None

    @property
    def runs(self) -> tuple[RunPlan, ...]:
        """Seed by seed, so that a study under way has every sampler's first seed before any's
        second."""
        return tuple(
            RunPlan(backbone, sampler, seed, self.dir / "runs" / name)
            for seed in range(self.options.seeds)
            for backbone in self.backbones
            for sampler in self.samplers
            for name in [re.sub(r"[^\w.-]", "-", f"{backbone}-{sampler}-seed{seed}")]
        )

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that accuracies are read on."""
        return tuple(name for name in self.shards.split_names if name != "train")

    @property
    def path(self) -> Path:
        return self.dir / "study.json"

    def asked(self) -> dict[str, Any]:
        """All that the numbers depend on."""
        config = self.config.model_dump(mode="json")
        del config["seed"], config["sampler"], config["model"]["backbone"]
        return {
            "dataset": self.shards.name,
            "shards_digest": self.shards.digest,
            "samplers": list(self.samplers),
            "backbones": list(self.backbones),
            "seeds": self.options.seeds,
            "methods": list(self.methods),
            "init": self.init_digest,
            "config": config,
        }

    def train_options(self, run: RunPlan) -> TrainOptions:
        """Stage 1 of one of the runs, from its beginning."""
        own = {"model.backbone": run.backbone, "sampler": run.sampler, "seed": run.seed}
        return TrainOptions(
            stage="rep",
            shards=self.shards.dir,
            config=recipes.change(self.config, own),
            run=run.dir,
            init=self.options.init,
        )


def plan(options: StudyOptions) -> Study:
    """Checks what was asked, and writes nothing.

    Raises `UserError` for names that are not there, and for shards with nothing but train.
    """
    opened = shards.open(shards_dir(options.dataset, options.shards))
    if set(opened.split_names) == {"train"}:
        raise UserError(f"{opened.dir}: there is only train, and no split to evaluate on")
    if options.seeds < 1:
        raise UserError(f"--seeds {options.seeds}: at least 1")
    for setting in options.settings:
        key = setting.partition("=")[0]
        if key in OWN_KEYS:
            raise UserError(f"--set {key}: a study's own, given with {OWN_KEYS[key]}")
    flags = {} if options.epochs is None else {"epochs": options.epochs}
    asked = TrainOptions(stage="rep", flags=flags, settings=options.settings)
    config = configure(asked, base_config(options.config, opened))
    check_start(config, options.init)
    backbones = _names(options.backbones or config.model.backbone, "--backbones")
    for backbone in backbones:
        models.check(backbone, config.data.px)
    init_digest = _check_init(options.init, backbones, config, len(opened.class_names))
    samplers = _names(options.samplers, "--samplers")
    for sampler in samplers:
        plan_samplers.parse(sampler, config.optim.epochs)
    methods = _methods(options.methods, config)
    directory = options.out or STUDIES / opened.dir.name
    return Study(directory, opened, config, options, samplers, backbones, methods, init_digest)


def begin(study: Study) -> None:
    """Makes the study's directory, or takes up the one that is there.

    Raises `UserError` if it is another study's, or was begun with something else.
    """
    if not study.path.exists():
        if study.dir.exists() and any(study.dir.iterdir()):
            raise UserError(f"{study.dir} is there and holds no study: choose another --out")
        study.dir.mkdir(parents=True, exist_ok=True)
        about = {"format": FORMAT, "asked": study.asked(), "provenance": rundir.provenance()}
        rundir.write_json(study.path, about)
        return
    before = read(study.path)["asked"]
    # Through JSON, by which tuples become lists.
    changed = list(recipes.differences(before, json.loads(json.dumps(study.asked()))))
    if changed:
        raise UserError(
            f"{study.dir}: this study was started with other {', '.join(changed[:4])}"
            + (", ..." if len(changed) > 4 else "")
            + ": repeat the same command to resume it, or choose another --out"
        )


def read(path: Path) -> dict[str, Any]:
    """A study.json. `UserError` if it is damaged, or another version's."""
    about = records.read(path, Form)
    if about.get("format") != FORMAT:
        raise UserError(f"{path}: no study that this version reads (format {FORMAT})")
    return records.check(about, StudyJson, path)


def _check_init(
    init: str | None, backbones: Sequence[str], config: TrainConfig, num_classes: int
) -> str | None:
    """What `--init`'s weights are known by. `UserError` if a backbone can't start from them."""
    if init is None:
        return None
    for backbone in backbones:
        load_into(models.build(backbone, num_classes, cosine_scale=config.cosine_scale), init)
    return digest(init)


def _names(listed: str, option: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in listed.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"{option} {listed}: comma-separated names, each once")
    return names


def _methods(listed: str, config: TrainConfig) -> tuple[str, ...]:
    """As `fasttail train --method` takes them; `joint` is always there."""
    return tuple(classify.of_these(",".join(_names(listed, "--methods")), config))
