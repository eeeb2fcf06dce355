"""Learning rates as a pure function of the step."""

import math

from fasttail.config import OptimConfig
from fasttail.errors import UserError


def learning_rate(step: int, steps_per_epoch: int, optim: OptimConfig) -> float:
    """The learning rate of a step, counted from 0 over the whole training: linear warm-up to
    `scaled_lr`, then a cosine to 0, or `optim.steps`.

    The cosine goes by steps, or once an epoch (`optim.lr_per`): the authors' code steps its
    scheduler ahead of each epoch. Since torch 1.1 that is the rate of the epoch's end: the first
    epoch is not at the full rate, the last is at 0. In torch 1.0 it was that of its beginning. It
    then runs over all epochs, those of a warm-up too, which the authors' recipes do not have.
    """
    peak = optim.scaled_lr
    epoch = step // steps_per_epoch
    warmup = optim.warmup_epochs * steps_per_epoch
    if step < warmup:
        return peak * (step + 1) / warmup
    if optim.schedule == "steps":
        done = sum(epoch >= round(share * optim.epochs) for share in optim.steps)
        return peak * optim.gamma**done
    if optim.lr_per == "step":
        share = (step - warmup) / (optim.epochs * steps_per_epoch - warmup)
    else:
        share = (epoch + (optim.lr_per == "epoch")) / optim.epochs
    return peak * 0.5 * (1 + math.cos(math.pi * share))


def check_rates(optim: OptimConfig, section: str) -> None:
    """`UserError` if no step would move a weight."""
    only_the_last = optim.epochs == 1 and optim.warmup_epochs == 0
    if optim.schedule == "cosine" and optim.lr_per == "epoch" and only_the_last:
        raise UserError(
            f"{section}.epochs is 1, and a cosine per epoch (--protocol official) is 0 in the last "
            "epoch: nothing would be trained; take 2 epochs or more"
        )
