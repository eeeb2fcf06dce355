"""NCM: an image is of the class whose mean training feature is nearest (section 4.2)."""

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
    cosine: the means are scaled to unit length; x's own length does not change the order.
    """
    how = task.config.classify.ncm
    center_D = mean_feature(task.train) if how.transform == "cl2n" else None
    means_CD = class_means(task.train, how.transform, center_D)
    if how.metric == "cosine":
        weight_CD = F.normalize(means_CD, dim=1)
        bias_C = torch.zeros_like(means_CD[:, 0])
    else:
        weight_CD = means_CD
        bias_C = -means_CD.square().sum(1) / 2
    return Head("ncm", weight_CD, bias_C, how.transform, center_D, f"{how.transform}, {how.metric}")


def mean_feature(bank: Features) -> Tensor:
    """The mean over all training images, float32 [D]."""
    total_D = torch.zeros(
        bank.features_ND.shape[1], dtype=torch.float64, device=bank.features_ND.device
    )
    for block in bank.features_ND.split(BLOCK):
        total_D += block.double().sum(0)
    return (total_D / len(bank.features_ND)).float()


def class_means(bank: Features, how: str, center_D: Tensor | None) -> Tensor:
    """Means over each class of the transformed features, float32 [C, D], summed in float64."""
    num_classes = len(bank.split.class_names)
    sums_CD = torch.zeros(
        num_classes, bank.features_ND.shape[1], dtype=torch.float64, device=bank.labels_N.device
    )
    for block_ND, labels_N in zip(
        bank.features_ND.split(BLOCK), bank.labels_N.split(BLOCK), strict=True
    ):
        sums_CD.index_add_(0, labels_N, transform(block_ND.float(), how, center_D).double())
    counts_C = torch.bincount(bank.labels_N, minlength=num_classes)
    return (sums_CD / counts_C[:, None]).float()
