"""tau-normalisation: w_j / |w_j|^tau (section 4.3, equation 4). tau is chosen on val, never on
test."""

import numpy as np
import torch
from torch import Tensor

from fasttail.classify.features import Features
from fasttail.classify.head import Head
from fasttail.classify.task import Task
from fasttail.config import TauConfig
from fasttail.evaluate.shots import Tally

BLOCK = 8_192


def tau(task: Task) -> Head:
    """The joint classifier with its weights rescaled, tau having the best mean class accuracy on
    val; where there is no val, the configured `fixed` one.

    Mean class accuracy, because a val that was held out of train is as long-tailed as train.
    """
    config = task.config.classify.tau
    bias_C = task.joint.bias_C if config.bias else torch.zeros_like(task.joint.bias_C)
    if task.val is None:
        chosen = config.fixed
        note = f"tau {chosen:g}, fixed: no val to choose it on"
        task.reporter.say(f"tau is not chosen but {chosen:g}, since the data set has no val split")
    else:
        grid_T = tau_grid(config)
        accuracy_T = accuracy_over_grid(task.joint.weight_CD, bias_C, task.val, grid_T)
        chosen = float(grid_T[int(np.argmax(accuracy_T))])
        note = f"tau {chosen:g}"
        if chosen == grid_T[-1]:
            note += ", the end of its grid"
        fewest = int(task.val.split.counts_C.min())
        if fewest < 5:
            task.reporter.say(
                f"tau is chosen on val, where the smallest class has {fewest} images: "
                "take it with caution"
            )
    chosen_on = "val" if task.val is not None else None
    weight_CD = normalize_weights(task.joint.weight_CD, chosen)
    return Head("tau", weight_CD, bias_C, note=note, chosen_on=chosen_on)


def tau_grid(config: TauConfig) -> np.ndarray:
    """0, step, 2 step, ... up to and with `grid_max`, float64 [T]."""
    return np.arange(round(config.grid_max / config.grid_step) + 1) * config.grid_step


def normalize_weights(weight_CD: Tensor, tau: float) -> Tensor:
    """w_j / |w_j|^tau; a class whose weights are all zero keeps them."""
    norm_C1 = weight_CD.norm(dim=1, keepdim=True)
    return torch.where(norm_C1 > 0, weight_CD / norm_C1**tau, weight_CD)


def accuracy_over_grid(
    weight_CD: Tensor, bias_C: Tensor, bank: Features, grid_T: np.ndarray
) -> np.ndarray:
    """Mean class accuracy for each tau, float64 [T].

    Rescaling a class's weights rescales its logits, so the product with the features is taken once
    for the whole grid: logits(tau)_j = (w_j x) |w_j|^-tau + b_j.
    """
    norm_C = weight_CD.norm(dim=1)
    norm_C = torch.where(norm_C > 0, norm_C, 1)
    scales_TC = [norm_C**-tau for tau in grid_T.tolist()]
    predicted_TN = np.empty((len(grid_T), len(bank.features_ND)), np.int64)
    for start in range(0, len(bank.features_ND), BLOCK):
        products_NC = bank.features_ND[start : start + BLOCK].float() @ weight_CD.T
        for row_N, scale_C in zip(predicted_TN, scales_TC, strict=True):
            logits_NC = torch.addcmul(bias_C, products_NC, scale_C)
            row_N[start : start + len(products_NC)] = logits_NC.argmax(1).cpu().numpy()
    labels_N = bank.labels_N.cpu().numpy()
    tallies = (Tally.of(row_N, labels_N, len(weight_CD)) for row_N in predicted_TN)
    return np.array([np.nanmean(tally.accuracy_C) for tally in tallies])
