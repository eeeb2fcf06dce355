"""Post-hoc logit adjustment: tau log(prior) taken off the joint classifier's logits (Menon et al.,
"Long-tail learning via logit adjustment", ICLR 2021, equation 9)."""

from dataclasses import replace

import numpy as np
import torch

from fasttail.classify.head import Head
from fasttail.classify.task import Task


def logit_adjust(task: Task) -> Head:
    """argmax_j w_j x + b_j - tau log(prior_j), the prior being a class's share of train, and tau
    `classify.adjust_tau`, which is not chosen on anything."""
    tau = task.config.classify.adjust_tau
    counts_C = np.asarray(task.train_split.counts_C, np.float64)
    log_prior_C = torch.from_numpy(np.log(counts_C / counts_C.sum())).to(task.joint.bias_C)
    return replace(
        task.joint,
        method="logit-adjust",
        bias_C=task.joint.bias_C - tau * log_prior_C,
        note=f"tau {tau:g}",
    )
