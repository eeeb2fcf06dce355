"""cRT: the classifier is made anew and trained with class-balanced draws (section 4.1)."""

import torch
import torch.nn.functional as F
from torch import nn

from fasttail.classify.balanced import train_balanced
from fasttail.classify.head import Head
from fasttail.classify.task import Task


def crt(task: Task) -> Head:
    """A linear classifier from fresh weights, on the frozen features."""
    dim = task.train.features_ND.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.config.seed)
        linear = nn.Linear(dim, len(task.train.split.class_names))
    linear.to(task.train.features_ND.device)
    train_balanced(
        "cRT",
        lambda features_BD: F.linear(features_BD, linear.weight, linear.bias),
        list(linear.parameters()),
        task.train,
        task.config.classify.crt,
        task.config,
        task.reporter,
    )
    return Head("crt", linear.weight.detach(), linear.bias.detach())
