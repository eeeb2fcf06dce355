"""tau-normalisation: w_j / |w_j|^tau (section 4, equation 3), and how tau is chosen.

On val where there is one. Without val tau is fixed, 1 unless configured: all images that are left
were seen in stage 1, and the better it has learned the tail's, the less is gained on them by tau.
It can be chosen there (`choose_on: train`), with a warning; better is a val held out before stage 1
(`fasttail convert --val-fraction`).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fasttail.classify.features import Features
from fasttail.classify.grid import predict_over_grid
from fasttail.classify.head import Head
from fasttail.classify.task import Task
from fasttail.config import TauConfig
from fasttail.errors import UserError
from fasttail.evaluate.shots import Tally

SEEN = "train (seen by stage 1)"
WIDE = 0.5  # half the way from joint (tau 0) to weights of one length (tau 1)


def tau(task: Task) -> Head:
    """The joint classifier with its weights rescaled, tau having the best accuracy on the split
    that `classify.tau.choose_on` says.

    By mean class accuracy unless configured: a val that was held out of train is as long-tailed.
    `UserError` if the data set has no such split.
    """
    config = task.config.classify.tau
    bias_C = task.joint.bias_C if config.bias else torch.zeros_like(task.joint.bias_C)
    split_name = _split(task)
    if split_name is None:
        value, chosen_on = config.fixed, None
        note = f"tau {value:g}, fixed"
        if config.choose_on == "auto":
            note += ": no val to choose it on"
            task.reporter.say(f"tau is not chosen but {value:g}, since the data set has no val")
    else:
        choice = choose(task.joint.weight_CD, bias_C, task.bank(split_name), config)
        value, note = choice.tau, f"tau {choice.tau:g}"
        chosen_on = SEEN if split_name == "train" else split_name
        if choice.tau == choice.grid_T[-1]:
            note += ", the end of its grid"
        _warn(task, split_name, choice)
    weight_CD = normalize_weights(task.joint.weight_CD, value)
    return replace(
        task.joint, method="tau", weight_CD=weight_CD, bias_C=bias_C, note=note, chosen_on=chosen_on
    )


def _split(task: Task) -> str | None:
    """The split to choose on; None where tau is fixed."""
    choose_on = task.config.classify.tau.choose_on
    if choose_on == "fixed":
        return None
    if choose_on == "auto":
        return "val" if "val" in task.split_names else None
    if choose_on not in task.split_names:
        raise UserError(
            f"classify.tau.choose_on is {choose_on}, but the data set has no {choose_on}: "
            f"there is {', '.join(task.split_names)}, and fixed"
        )
    return choose_on


def tau_grid(config: TauConfig) -> np.ndarray:
    """0, step, 2 step, ... up to and with `grid_max`, float64 [T]."""
    return np.arange(round(config.grid_max / config.grid_step) + 1) * config.grid_step


def normalize_weights(weight_CD: Tensor, tau: float) -> Tensor:
    """w_j / |w_j|^tau; a class whose weights are all zero keeps them."""
    norm_C1 = weight_CD.norm(dim=1, keepdim=True)
    return torch.where(norm_C1 > 0, weight_CD / norm_C1**tau, weight_CD)


@dataclass(frozen=True)
class Choice:
    """The best tau of a grid (the smallest of equals), each tau's accuracy in 0..1, and which taus
    the split can't tell from the best: their accuracy is within two standard errors of its."""

    tau: float
    grid_T: np.ndarray
    accuracy_T: np.ndarray
    as_good_T: np.ndarray


def choose(weight_CD: Tensor, bias_C: Tensor, bank: Features, config: TauConfig) -> Choice:
    """Reads tau off a bank."""
    grid_T = tau_grid(config)
    predicted_TN = predict_over_grid(weight_CD, bias_C, bank, grid_T)
    labels_N = bank.labels.cpu().numpy()
    by_class = config.choose_by == "macro"
    accuracy_T = accuracies(predicted_TN, labels_N, len(weight_CD), by_class=by_class)
    best = int(np.argmax(accuracy_T))
    hits_TN = predicted_TN == labels_N
    error_T = np.array(
        [standard_error(hits_N, hits_TN[best], labels_N, by_class=by_class) for hits_N in hits_TN]
    )
    as_good_T = accuracy_T[best] - accuracy_T <= 2 * error_T
    as_good_T[best] = True
    return Choice(float(grid_T[best]), grid_T, accuracy_T, as_good_T)


def accuracies(
    predicted_TN: np.ndarray, labels_N: np.ndarray, num_classes: int, *, by_class: bool
) -> np.ndarray:
    """The accuracy of each row of predictions, float64 [T]: mean over classes, or over images."""
    if not by_class:
        return (predicted_TN == labels_N).mean(1)
    tallies = (Tally.of(row_N, labels_N, num_classes) for row_N in predicted_TN)
    return np.array([np.nanmean(tally.accuracy_C) for tally in tallies])


def standard_error(
    hits_N: np.ndarray, other_N: np.ndarray, labels_N: np.ndarray, *, by_class: bool
) -> float:
    """Of the difference of two accuracies on the same images, in 0..1.

    An image's difference is -1, 0 or 1. Its variance is taken to be the same in all classes, since
    a class of the tail has too few images for one of its own, and one difference more is counted
    than there is, since none among a few images does not mean none among many.
    """
    different = int((hits_N != other_N).sum())
    variance = (different + 1) / (len(labels_N) + 1)
    if not by_class:
        return float(np.sqrt(variance / len(labels_N)))
    images_C = np.bincount(labels_N)
    images_C = images_C[images_C > 0]
    return float(np.sqrt(variance * (1 / images_C).sum()) / len(images_C))


def _warn(task: Task, split_name: str, choice: Choice) -> None:
    say = task.reporter.say
    if split_name == "train":
        say(
            "tau is chosen on train, whose images stage 1 has seen: the better it has learned "
            "them, the more tau comes out too small; hold a val out before stage 1 "
            "(fasttail convert --val-fraction 0.1)"
        )
        return
    low, high = choice.grid_T[choice.as_good_T][[0, -1]]
    if high - low > WIDE:
        fewest = int(task.bank(split_name).split.counts_C.min())
        say(
            f"{split_name} has too few images to choose tau: any from {low:g} to {high:g} is "
            f"within two standard errors of the chosen {choice.tau:g} "
            f"(its smallest class has {fewest} images)"
        )
