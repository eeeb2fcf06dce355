"""The methods by name, and running them on one run."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from fasttail.classify.balanced import fit_on_bank
from fasttail.classify.balanced_softmax import balanced_softmax
from fasttail.classify.classifiers import as_head
from fasttail.classify.crt import crt, crt_last_block
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

METHODS: dict[str, Callable[[Task], Head]] = {
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


def of_these(methods: str, config: TrainConfig) -> list[str]:
    """`names`, but "all" leaves out those that go through the images again where everything else
    comes from the bank."""
    asked = names(methods)
    if methods != "all" or config.classify.features == "images":
        return asked
    return [method for method in asked if method not in NEED_IMAGES]


def make_heads(methods: Iterable[str], stage: Stage) -> Iterator[Head]:
    """Makes the heads one after the other, and keeps each in the run before the next is begun.
    `UserError` where the configuration asks for what can't be."""
    config, split_names = stage.config, stage.shards.split_names
    classify = config.classify
    if classify.batchnorm == "train" and classify.features == "bank":
        raise UserError(
            "classify.batchnorm is train, but stored features are of fixed statistics: "
            "take it with --features images"
        )

    def fit(job: Job) -> Fitted:
        if classify.features == "images" or job.trained == "last-block":
            return fit_on_images(job, stage.work(stage.model))
        return fit_on_bank(
            job,
            stage.bank,
            has_val="val" in split_names,
            config=config,
            reporter=stage.reporter,
        )

    task = Task(
        config,
        joint_head(stage.model, stage.run.protocol),
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
        yield head


def saved_heads(stage: Stage) -> list[Head]:
    """The joint head and every head that is kept in the run, in the order of METHODS."""
    saved = [Head.load(path).to(stage.compute.device) for path in saved_paths(stage.run)]
    return [joint_head(stage.model, stage.run.protocol), *saved]


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
