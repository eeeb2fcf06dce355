"""What stage 1 minimises: the method's cross entropy, and what people compare it with.

Each loss is a function of logits [B, C], labels int64 [B] and `Classes`; it returns the images'
losses [B], of which a batch's is the mean, weighted where `WEIGHTS` has the loss's classes'. The
prior is that of the images of train, whatever the sampler: balanced softmax and logit adjustment
mean the instance-balanced one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fasttail.config import LossConfig
from fasttail.errors import UserError, unknown


@dataclass(frozen=True)
class Classes:
    """What a loss may know of the classes and of how far the training is.

    `counts_C` is training images per class, float32; `t` the share of the epochs that are done;
    `logit_scale` what the classifier multiplies cosines by (1 for a linear one).
    """

    counts_C: Tensor
    t: float
    config: LossConfig
    logit_scale: float
    label_smoothing: float

    @property
    def prior_C(self) -> Tensor:
        """Each class's share of the training images."""
        return self.counts_C / self.counts_C.sum()


Loss = Callable[[Tensor, Tensor, Classes], Tensor]


@dataclass(frozen=True)
class BatchLoss:
    """The weighted mean over a batch: the sum of `losses_of`, which has the weights in it, by that
    of the images' weights.

    The latter is known from the labels of the whole batch: one that is taken in parts, or shared by
    processes, has the same loss.
    """

    losses_of: Callable[[Tensor, Tensor], Tensor]  # logits [B, C], labels [B] -> [B]
    weight_C: Tensor | None = None  # None: all images alike

    def weight(self, labels_B: Tensor) -> Tensor:
        """The sum of the images' weights, a scalar."""
        if self.weight_C is None:
            return torch.tensor(float(len(labels_B)))
        return self.weight_C[labels_B].sum()

    def __call__(self, logits_BC: Tensor, labels_B: Tensor) -> Tensor:
        """The mean over these images, a scalar."""
        return self.losses_of(logits_BC, labels_B).sum() / self.weight(labels_B)


def cross_entropy_of_batch(label_smoothing: float = 0.0) -> BatchLoss:
    """Plain cross entropy."""
    return BatchLoss(partial(F.cross_entropy, label_smoothing=label_smoothing, reduction="none"))


def cross_entropy(
    logits_BC: Tensor, labels_B: Tensor, classes: Classes, weight_C: Tensor | None = None
) -> Tensor:
    """-log softmax(z)_y."""
    return F.cross_entropy(
        logits_BC,
        labels_B,
        weight_C,
        label_smoothing=classes.label_smoothing,
        reduction="none",
    )


def weighted(logits_BC: Tensor, labels_B: Tensor, classes: Classes) -> Tensor:
    """Cross entropy with classes weighted by what of them is rare, 1 in the mean."""
    return cross_entropy(logits_BC, labels_B, classes, class_weights(classes))


def class_weights(classes: Classes) -> Tensor:
    """`loss.weights`: by 1 / n, or by the effective numbers of the classes' images."""
    config = classes.config
    if config.weights == "effective":
        return inverse(effective_number(classes.counts_C, config.weights_beta))
    return inverse(classes.counts_C)


def effective_number(counts_C: Tensor, beta: float) -> Tensor:
    """(1 - beta^n) / (1 - beta) (Cui et al., "Class-Balanced Loss Based on Effective Number of
    Samples", CVPR 2019, equation 2)."""
    return (1 - beta**counts_C) / (1 - beta)


def inverse(numbers_C: Tensor) -> Tensor:
    """Weights in proportion to 1 / number, 1 in the mean."""
    weight_C = 1 / numbers_C
    return weight_C / weight_C.mean()


def balanced_softmax(logits_BC: Tensor, labels_B: Tensor, classes: Classes) -> Tensor:
    """-log (n_y e^{z_y} / sum_j n_j e^{z_j}) (Ren et al., "Balanced Meta-Softmax for Long-Tailed
    Visual Recognition", NeurIPS 2020, equation 3)."""
    return cross_entropy(logits_BC.float() + classes.counts_C.log(), labels_B, classes)


def logit_adjustment(logits_BC: Tensor, labels_B: Tensor, classes: Classes) -> Tensor:
    """Cross entropy of z + tau log(prior) (Menon et al., "Long-tail learning via logit adjustment",
    ICLR 2021, equation 10). With tau 1 it is balanced softmax."""
    adjustment_C = classes.config.adjustment_tau * classes.prior_C.log()
    return cross_entropy(logits_BC.float() + adjustment_C, labels_B, classes)


def ldam_drw(logits_BC: Tensor, labels_B: Tensor, classes: Classes) -> Tensor:
    """Cross entropy with the right class's cosine lowered by a margin ~ n^{-1/4}, and from
    `drw_from` on with classes re-weighted by their effective number (Cao et al., "Learning
    Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019, equation 13 and
    algorithm 1; the weights are Cui et al.'s, CVPR 2019)."""
    margin_C = classes.counts_C**-0.25
    margin_C = margin_C * (classes.config.max_margin / margin_C.max()) * classes.logit_scale
    right_BC = F.one_hot(labels_B, logits_BC.shape[1]).bool()
    logits_BC = torch.where(right_BC, logits_BC.float() - margin_C, logits_BC.float())
    return cross_entropy(logits_BC, labels_B, classes, deferred_weights(classes))


def deferred_weights(classes: Classes) -> Tensor | None:
    """By the effective numbers of the classes' images, 1 in the mean; none before `drw_from`."""
    config = classes.config
    if classes.t < config.drw_from:
        return None
    return inverse(effective_number(classes.counts_C, config.drw_beta))


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "weighted": weighted,
    "balanced-softmax": balanced_softmax,
    "logit-adjustment": logit_adjustment,
    "ldam-drw": ldam_drw,
}

WEIGHTS: dict[str, Callable[[Classes], Tensor | None]] = {
    "weighted": class_weights,
    "ldam-drw": deferred_weights,
}


def loss_for_epoch(
    config: LossConfig,
    counts_C: np.ndarray,
    *,
    device: torch.device,
    logit_scale: float,
    label_smoothing: float,
) -> Callable[[float], BatchLoss]:
    """t (share of the epochs that are done) -> that epoch's loss.

    Raises `UserError` for a name that is no loss's.
    """
    if config.name not in LOSSES:
        raise unknown("loss", config.name, LOSSES)
    if config.name != "cross-entropy" and not (counts_C > 0).all():
        raise UserError(
            f"loss {config.name}: {int((counts_C == 0).sum())} classes have no training image"
        )
    loss = LOSSES[config.name]
    on_device_C = torch.as_tensor(counts_C, dtype=torch.float32, device=device)

    def for_epoch(t: float) -> BatchLoss:
        classes = Classes(on_device_C, t, config, logit_scale, label_smoothing)
        weights = WEIGHTS.get(config.name)
        return BatchLoss(
            lambda logits_BC, labels_B: loss(logits_BC, labels_B, classes),
            weights(classes) if weights else None,
        )

    return for_epoch
