"""Learning rates as a pure function of the step."""

import math

from fasttail.config import OptimConfig


def learning_rate(step: int, steps_per_epoch: int, optim: OptimConfig, protocol: str) -> float:
    """The learning rate of a step, counted from 0 over the whole training.

    clean: linear warm-up to `scaled_lr`, then per step a cosine to 0, or `optim.steps`.

    official: the cosine is taken once an epoch and before it, as the authors' code steps its
    scheduler ahead of the epoch: the first epoch is not at the full rate, the last is at 0. It runs
    over all epochs, those of a warm-up too, which the authors' recipes do not have.
    """
    peak = optim.scaled_lr
    epoch = step // steps_per_epoch
    warmup = optim.warmup_epochs * steps_per_epoch
    if step < warmup:
        return peak * (step + 1) / warmup
    if optim.schedule == "steps":
        done = sum(epoch >= round(share * optim.epochs) for share in optim.steps)
        return peak * optim.gamma**done
    if protocol == "official":
        return peak * 0.5 * (1 + math.cos(math.pi * (epoch + 1) / optim.epochs))
    total = optim.epochs * steps_per_epoch
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
