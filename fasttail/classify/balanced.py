"""Training a classifier on the feature bank (section 4 of the paper: cRT, LWS)."""

from collections.abc import Callable

import numpy as np
import torch

from fasttail.classify.features import Features
from fasttail.classify.fit import BestEpoch, check_finite, epochs_of, rate_of
from fasttail.classify.task import Fitted, Job
from fasttail.config import TrainConfig
from fasttail.console import Reporter
from fasttail.engines.upload import to_device
from fasttail.plan import View
from fasttail.plan.compiled import kernel
from fasttail.plan.random import below, key, words
from fasttail.train import optimizers
from fasttail.world import World

BLOCK = 16_384


def fit_on_bank(
    job: Job,
    bank: Callable[[str], Features],
    *,
    has_val: bool,
    config: TrainConfig,
    reporter: Reporter,
) -> Fitted:
    """Minimises the job's loss over its classifier's parameters, in place. `bank` gives a split's
    features.

    The features are small and every process has them all, so each process trains the same head.
    """
    train, classifier = bank("train"), job.classifier
    optim = job.optim
    classifier.to(train.device).train()
    optimizer = optimizers.make([(classifier, 1.0)], optim)
    epoch_plan = epochs_of(job, config, train.split, View.whole(out_px=1), World())
    steps = epoch_plan(0).steps
    rate = rate_of(job, steps)
    best = BestEpoch(
        classifier, config, (lambda: micro_accuracy(job, bank("val"))) if has_val else None
    )
    with reporter.progress(job.what, optim.epochs * steps) as bar:
        for epoch in range(optim.epochs):
            plan = epoch_plan(epoch)
            for step in range(steps):
                optimizers.set_lr(optimizer, rate(epoch * steps + step))
                drawn = plan.batch(step)
                rows_B = rows_of(drawn.ids_B, train, config.seed, epoch, step)
                labels_B = to_device(torch.from_numpy(drawn.labels_B), train.device)
                loss = job.loss(classifier(train.rows(rows_B)), labels_B)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                bar.advance()
            best.look(epoch)
    check_finite(job)
    note, chosen_on = best.restore()
    return Fitted(None, note, chosen_on)


@torch.inference_mode()
def micro_accuracy(job: Job, bank: Features) -> float:
    """The share of a bank's rows that the job's classifier gets right."""
    hits = [
        (job.classifier(features).argmax(1) == labels).sum()
        for features, labels in bank.blocks(BLOCK)
    ]
    return float(torch.stack(hits).sum()) / len(bank)


def rows_of(ids_B: np.ndarray, bank: Features, seed: int, epoch: int, step: int) -> np.ndarray:
    """The rows for the samples of a batch, int64 [B]: of each one view, drawn by its position in
    the epoch, as crops are in training on images."""
    if bank.views == 1:
        return ids_B
    views_B = np.empty(len(ids_B), np.int64)
    draw_views(key("view of the bank", seed, epoch), step * len(ids_B), bank.views, views_B)
    return views_B * (len(bank) // bank.views) + ids_B


@kernel
def draw_views(stream, first, views, views_B):
    for b in range(len(views_B)):
        word, _, _, _ = words(stream, first + b, 0)
        views_B[b] = below(word, views)
