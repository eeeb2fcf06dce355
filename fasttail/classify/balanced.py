"""Training on the feature bank with balanced draws: what cRT and LWS have in common."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fasttail.classify.features import Features
from fasttail.config import OptimConfig, TrainConfig
from fasttail.console import Reporter
from fasttail.plan import View
from fasttail.plan.random import key
from fasttail.plans import train_epochs
from fasttail.train.schedule import learning_rate
from fasttail.world import World


def train_balanced(
    what: str,
    logits: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor],
    bank: Features,
    optim: OptimConfig,
    config: TrainConfig,
    reporter: Reporter,
) -> None:
    """Minimises the cross entropy of `logits(features [B, D])` over `parameters`, in place, with
    the plan of stage 2's sampler (class-balanced by default, section 4.1 of the paper).

    The features are small and every process has them all, so each process trains the same head.
    """
    split = bank.split
    optimizer = torch.optim.SGD(
        parameters,
        lr=optim.scaled_lr,
        momentum=optim.momentum,
        nesterov=optim.nesterov,
        weight_decay=optim.weight_decay,
    )
    epoch_plan = train_epochs(
        config,
        split,
        # The same seed as stage 1's would give the same order where the samplers are the same.
        seed=int(key("stage 2", config.seed)),
        sampler=config.classify.sampler,
        optim=optim.model_copy(update={"batch_size": min(optim.batch_size, len(split))}),
        view=View.whole(out_px=1),
        world=World(),
    )
    steps_per_epoch = epoch_plan(0).steps
    with reporter.progress(what, optim.epochs * steps_per_epoch) as bar:
        for epoch in range(optim.epochs):
            plan = epoch_plan(epoch)
            for step in range(steps_per_epoch):
                lr = learning_rate(
                    epoch * steps_per_epoch + step, steps_per_epoch, optim, config.protocol
                )
                for group in optimizer.param_groups:
                    group["lr"] = lr
                ids_B = torch.from_numpy(plan.batch(step).ids_B).to(bank.labels_N.device)
                loss = F.cross_entropy(
                    logits(bank.features_ND[ids_B].float()),
                    bank.labels_N[ids_B],
                    label_smoothing=optim.label_smoothing,
                )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                bar.advance()
