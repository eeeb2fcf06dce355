"""NCM: an image is of the class whose mean training feature is nearest (section 4)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fasttail.classify.features import Features
from fasttail.classify.head import Head, transform
from fasttail.classify.task import Task

BLOCK = 16_384


def ncm(task: Task) -> Head:
    """Class means of the transformed training features, as a linear layer.

    Nearest by L2: argmin |x - m|^2 = argmax (m.x - |m|^2 / 2), a linear layer with a bias. By
    cosine: the means are scaled to unit length; x's own length does not change the order. By dot,
    as the authors' code has it: m.x / D, with means as they are.
    """
    how = task.config.classify.ncm
    center_D = mean_feature(task.train) if how.transform == "cl2n" else None
    weight_CD = class_means(task.train, how.transform, center_D)
    bias_C = torch.zeros_like(weight_CD[:, 0])
    if how.metric == "cosine":
        weight_CD = F.normalize(weight_CD, dim=1)
    elif how.metric == "dot":
        weight_CD = weight_CD / weight_CD.shape[1]
    else:
        bias_C = -weight_CD.square().sum(1) / 2
    return Head("ncm", weight_CD, bias_C, how.transform, center_D, f"{how.transform}, {how.metric}")


def mean_feature(bank: Features) -> Tensor:
    """The mean over all rows of the bank, float32 [D]."""
    total_D = torch.zeros(bank.dim, dtype=torch.float64, device=bank.device)
    for features_BD, _ in bank.blocks(BLOCK):
        total_D += features_BD.double().sum(0)
    return (total_D / len(bank)).float()


def class_means(bank: Features, how: str, center_D: Tensor | None) -> Tensor:
    """Means over each class of the transformed features, float32 [C, D], summed in float64."""
    num_classes = len(bank.split.class_names)
    sums_CD = torch.zeros(num_classes, bank.dim, dtype=torch.float64, device=bank.device)
    for features_BD, labels_B in bank.blocks(BLOCK):
        sums_CD.index_add_(0, labels_B, transform(features_BD, how, center_D).double())
    counts_C = torch.bincount(bank.labels, minlength=num_classes)
    return (sums_CD / counts_C[:, None]).float()
