"""What the trainings of stage 2 have in common: their draws, their rates, the length of features
that a strange backbone gives, the epoch they keep."""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from fasttail.classify.features import Features
from fasttail.classify.task import Fitted, Job
from fasttail.config import ClassifyConfig, OptimConfig, TrainConfig
from fasttail.errors import UserError
from fasttail.plan import TrainEpoch, View
from fasttail.plan.random import key
from fasttail.plans import train_epochs
from fasttail.shards import Split
from fasttail.train.schedule import check_rates, learning_rate
from fasttail.world import World

BLOCK = 16_384  # rows that are looked at together
# The root mean square length that features are trained at: learning rates are meant for lengths
# like that of a ResNet's, and CLIP's features have length 1. The heads are for features as given.
LENGTH = 16.0
STEPS = 1_000  # at least so many: ten epochs of a few hundred rows would else train nothing


def epochs_of(
    job: Job, config: TrainConfig, split: Split, view: View, world: World
) -> Callable[[int], TrainEpoch]:
    """Epoch number -> its plan: the same images in the same order from a bank and from images."""
    batch_size = min(job.optim.batch_size, len(split))
    draws = "official" if config.classify.order == "official" else config.draws
    return train_epochs(
        config.model_copy(update={"draws": draws}),
        split,
        # The same seed as stage 1's would give the same order where the samplers are the same.
        seed=int(key("stage 2", config.seed)),
        sampler=job.sampler,
        optim=job.optim.model_copy(update={"batch_size": batch_size}),
        view=view,
        world=world,
    )


def rate_of(job: Job, steps_per_epoch: int) -> Callable[[int], float]:
    """Step of the whole training -> its learning rate. `UserError` if it is 0 in all of them."""
    check_rates(job.optim, section_of(job))
    return lambda step: learning_rate(step, steps_per_epoch, job.optim)


def section_of(job: Job) -> str:
    """Where the configuration has a job's rates and epochs."""
    return "classify.lws" if job.what == "lws" else "classify.crt"


def check_finite(job: Job) -> None:
    """`UserError` if the training diverged."""
    if not all(torch.isfinite(value).all() for value in job.classifier.parameters()):
        raise UserError(
            f"{job.what}: its weights are not finite after training: lower the learning rate "
            f"(--set {section_of(job)}.lr=X)"
        )


def for_so_many(classify: ClassifyConfig, rows: int) -> ClassifyConfig:
    """The settings, with smaller batches at the same rate where else there were too few steps."""

    def fitting(optim: OptimConfig) -> OptimConfig:
        batch_size = max(1, min(optim.batch_size, rows * optim.epochs // STEPS))
        return optim.model_copy(update={"batch_size": batch_size, "lr_batch_size": batch_size})

    return classify.model_copy(update={"crt": fitting(classify.crt), "lws": fitting(classify.lws)})


class AtLength(nn.Module):
    """A linear classifier on features that are multiplied by a number first."""

    def __init__(self, classifier: nn.Linear, scale: float) -> None:
        super().__init__()
        # A recognizer's classifier says what it takes.
        self.in_features = classifier.in_features
        self._classifier, self._scale = classifier, scale

    def forward(self, features_BD: Tensor) -> Tensor:
        return self._classifier(features_BD * self._scale)


def fit_at_length(job: Job, train: Features, fit: Callable[[Job], Fitted]) -> Fitted:
    """Trains on features of `LENGTH`, if it is a layer of its own that is trained; its weights are
    for the features as they are."""
    if not isinstance(job.classifier, nn.Linear):
        return fit(job)
    scale = LENGTH / length(train)
    fitted = fit(replace(job, classifier=AtLength(job.classifier, scale)))
    job.classifier.weight.data *= scale
    return fitted


def length(bank: Features) -> float:
    """The root mean square length of the rows. `UserError` if a row is not finite."""
    total = 0.0
    for number, (rows_BD, _) in enumerate(bank.blocks(BLOCK)):
        length_B = torch.linalg.vector_norm(rows_BD, dim=1, dtype=torch.float64)
        if not length_B.isfinite().all():
            row = number * BLOCK + int((~length_B.isfinite()).nonzero()[0])
            raise UserError(
                f"{bank.split.name}: features of row {row} are not finite: leave the sample out"
            )
        total += float(length_B.square().sum())
    return (total / len(bank)) ** 0.5 or 1.0


class BestEpoch:
    """Keeps a module as it was after its best epoch on val; the last epoch's, where nothing is
    chosen or there is no val. `accuracy` is that of val, None where there is none."""

    def __init__(
        self, module: nn.Module, config: TrainConfig, accuracy: Callable[[], float] | None
    ) -> None:
        self._module = module
        self._accuracy = accuracy if config.classify.keep == "best" else None
        self._best: tuple[float, int, dict] | None = None

    def look(self, epoch: int) -> None:
        """Call it after each epoch; of equal ones the first is kept, as in the authors' code."""
        if self._accuracy is None:
            return
        accuracy = self._accuracy()
        if self._best is None or accuracy > self._best[0]:
            self._best = accuracy, epoch, copy.deepcopy(self._module.state_dict())

    def restore(self) -> tuple[str, str | None]:
        """Puts the kept epoch back; returns a note on it, and the split it was chosen on."""
        if self._best is None:
            return "", None
        _, epoch, state = self._best
        self._module.load_state_dict(state)
        return f"epoch {epoch + 1}", "val"
