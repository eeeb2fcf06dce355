"""LWS, learnable weight scaling: one factor per class, trained with class-balanced draws (section
4.4). As in the authors' code the factor scales the logit, bias included: (w_j x + b_j) s_j."""

import torch
import torch.nn.functional as F

from fasttail.classify.balanced import train_balanced
from fasttail.classify.head import Head
from fasttail.classify.task import Task


def lws(task: Task) -> Head:
    """The joint classifier with its logits rescaled by the learned factors, folded into its
    weights."""
    joint = task.joint
    scale_C = torch.ones_like(joint.bias_C, requires_grad=True)
    train_balanced(
        "LWS",
        lambda features_BD: F.linear(features_BD, joint.weight_CD, joint.bias_C) * scale_C,
        [scale_C],
        task.train,
        task.config.classify.lws,
        task.config,
        task.reporter,
    )
    factor_C = scale_C.detach()
    return Head("lws", joint.weight_CD * factor_C[:, None], joint.bias_C * factor_C)
