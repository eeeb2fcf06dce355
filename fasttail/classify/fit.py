"""What the trainings of stage 2 have in common: their draws, their rates, the epoch they keep."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from fasttail.classify.task import Job
from fasttail.config import TrainConfig
from fasttail.errors import UserError
from fasttail.plan import TrainEpoch, View
from fasttail.plan.random import key
from fasttail.plans import train_epochs
from fasttail.shards import Split
from fasttail.train.schedule import check_rates, learning_rate
from fasttail.world import World


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
    """`UserError` if the training has come apart."""
    if not all(torch.isfinite(value).all() for value in job.classifier.parameters()):
        raise UserError(
            f"{job.what}: its weights are not finite after training: lower the learning rate "
            f"(--set {section_of(job)}.lr=X)"
        )


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
