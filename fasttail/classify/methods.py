"""The methods by name, and running them on one run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fasttail.classify.balanced import fit_on_bank
from fasttail.classify.balanced_softmax import balanced_softmax
from fasttail.classify.classifiers import as_head
from fasttail.classify.crt import crt, crt_last_block, linear
from fasttail.classify.fit import fit_at_length
from fasttail.classify.head import Head
from fasttail.classify.images import fit_on_images
from fasttail.classify.logit_adjust import logit_adjust
from fasttail.classify.lws import lws
from fasttail.classify.ncm import ncm
from fasttail.classify.stage import Stage
from fasttail.classify.task import Fitted, Job, Task
from fasttail.classify.tau import tau
from fasttail.config import TrainConfig
from fasttail.errors import UserError, unknown
from fasttail.models import Recognizer
from fasttail.protocol import named
from fasttail.rundir import Run

LINEAR = "linear"

METHODS: dict[str, Callable[[Task], Head]] = {
    LINEAR: linear,
    "crt": crt,
    "lws": lws,
    "tau": tau,
    "ncm": ncm,
    "logit-adjust": logit_adjust,
    "balanced-softmax": balanced_softmax,
    "crt-last-block": crt_last_block,
}
NEED_IMAGES = ("crt-last-block",)


def names(methods: str) -> list[str]:
    """The methods that `--method` asks for: "all", or some, with commas between. `UserError` if
    there is none of that name."""
    if methods == "all":
        return list(METHODS)
    asked = methods.split(",")
    for method in asked:
        if method not in METHODS:
            raise unknown("method", method, [*METHODS, "all"])
    return asked


def of_these(methods: str, config: TrainConfig, *, frozen_backbone: bool = False) -> list[str]:
    """`names`, but "all" leaves out those that go through the images again where everything else
    comes from the bank, and the probe where stage 1 has left a classifier."""
    asked = names(methods)
    if methods != "all":
        return asked
    left_out = () if config.classify.features == "images" else NEED_IMAGES
    if not frozen_backbone:
        left_out = (*left_out, LINEAR)
    return [method for method in asked if method not in left_out]


def make_heads(methods: Sequence[str], stage: Stage) -> Iterator[Head]:
    """Makes the heads one after the other, and keeps each in the run before the next is begun. On a
    frozen backbone the probe comes first, if it is asked for or not there yet: the others start
    from it. `UserError` where the configuration asks for what can't be."""
    config, split_names = stage.config, stage.shards.split_names
    classify = config.classify
    if classify.batchnorm == "train" and classify.features == "bank":
        raise UserError(
            "classify.batchnorm is train, but stored features are of fixed statistics: "
            "take it with --features images"
        )

    frozen, first = stage.run.frozen is not None, first_head(stage)

    def as_configured(job: Job) -> Fitted:
        if classify.features == "images" or job.trained == "last-block":
            return fit_on_images(job, stage.work(stage.model))
        return fit_on_bank(
            job,
            stage.bank,
            has_val="val" in split_names,
            config=config,
            reporter=stage.reporter,
        )

    def fit(job: Job) -> Fitted:
        if not frozen:
            return as_configured(job)
        return fit_at_length(job, stage.bank("train"), as_configured)

    if frozen and (LINEAR in methods or first is None):
        methods = [LINEAR, *(method for method in methods if method != LINEAR)]
    task = Task(
        config,
        first or joint_head(stage.model),  # which gives its shape alone
        stage.shards.split("train"),
        split_names,
        stage.bank,
        fit,
        stage.reporter,
    )
    if classify.keep == "best" and "val" not in split_names:
        stage.reporter.say("there is no val to choose an epoch on: the last epoch's heads are kept")
    for method in methods:
        head = replace(METHODS[method](task), protocol=config.protocol)
        if stage.world.is_main:
            head.save(stage.run.head_path(head.name))
        if frozen and method == LINEAR:
            task = replace(task, joint=head)
        yield head


def saved_heads(run: Run, model: Recognizer) -> list[Head]:
    """Every head that a run has, in the order of METHODS, on its model's device; the first is the
    joint classifier, or of a frozen backbone the probe. `UserError` if that is not there yet."""
    saved = [Head.load(path).to(model.classifier.weight.device) for path in saved_paths(run)]
    if run.frozen is None:
        return [joint_head(model, run.protocol), *saved]
    if not saved:
        raise UserError(f"{run.dir}: no heads yet: fasttail train --stage cls --run {run.dir}")
    return saved


def first_head(stage: Stage) -> Head | None:
    """The head that others are compared with and start from: the joint classifier; of a frozen
    backbone the probe, None if it is not there yet."""
    if stage.run.frozen is None:
        return joint_head(stage.model, stage.run.protocol)
    path = stage.run.head_path(named(LINEAR, stage.config.protocol))
    return Head.load(path).to(stage.compute.device) if path.exists() else None


def saved_paths(run: Run) -> list[Path]:
    """The files of a run's heads, in the order of METHODS, of each the clean one first."""
    every = (
        run.head_path(named(method, protocol))
        for method in METHODS
        for protocol in ("clean", "official")
    )
    return [path for path in every if path.exists()]


def joint_head(model: Recognizer, protocol: str = "clean") -> Head:
    """Stage 1's own classifier."""
    return replace(as_head("joint", model.classifier), protocol=protocol)
