"""LWS, learnable weight scaling: one factor per class, trained with class-balanced draws (section
4). As in the authors' code the factor scales the logit, bias included: (w_j x + b_j) s_j."""

from dataclasses import replace

from fasttail.classify.classifiers import Scaled, with_fitted
from fasttail.classify.head import Head
from fasttail.classify.task import Job, Task
from fasttail.train.losses import cross_entropy_of_batch


def lws(task: Task) -> Head:
    """The joint classifier with its logits rescaled by the learned factors, folded into its
    weights."""
    classify, joint = task.config.classify, task.joint
    scaled, optim = Scaled(joint), classify.lws
    loss = cross_entropy_of_batch(optim.label_smoothing)
    fitted = task.fit(Job("lws", scaled, optim, classify.sampler, loss))
    factor_C = scaled.scale_C.detach()
    head = replace(
        joint,
        method="lws",
        weight_CD=joint.weight_CD * factor_C[:, None],
        bias_C=joint.bias_C * factor_C,
    )
    return with_fitted(head, fitted)
