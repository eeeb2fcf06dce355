"""Balanced Softmax on the frozen backbone: a new classifier, trained with instance-balanced
draws, the class counts in its loss instead (Ren et al., NeurIPS 2020, equation 3)."""

from fasttail.classify.classifiers import as_head, fresh, with_fitted
from fasttail.classify.head import Head
from fasttail.classify.task import Job, Task
from fasttail.config import LossConfig
from fasttail.train.losses import loss_for_epoch


def balanced_softmax(task: Task) -> Head:
    """A classifier from fresh weights, by the rates and epochs of cRT."""
    optim = task.config.classify.crt
    classifier = fresh(task)
    loss = loss_for_epoch(
        LossConfig(name="balanced-softmax"),
        task.train_split.counts_C,
        device=task.joint.bias_C.device,
        logit_scale=1.0,
        label_smoothing=optim.label_smoothing,
    )
    fitted = task.fit(Job("balanced-softmax", classifier, optim, "instance", loss(0.0)))
    return with_fitted(as_head("balanced-softmax", classifier), fitted)
