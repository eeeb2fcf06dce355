"""The classifiers that stage 2 trains, and what they are as heads."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fasttail.classify.head import Head
from fasttail.classify.task import Fitted, Task
from fasttail.models.recognizer import CosineClassifier


def fresh(task: Task) -> nn.Linear | CosineClassifier:
    """A classifier of stage 1's kind with fresh weights, the same for every method and process."""
    num_classes, dim = task.joint.weight_CD.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.config.seed)
        if task.joint.transform == "l2n":
            return CosineClassifier(dim, num_classes, task.config.model.cosine_scale)
        return nn.Linear(dim, num_classes)


def as_head(method: str, classifier: nn.Linear | CosineClassifier) -> Head:
    """A classifier's weights as a head; a cosine one's are scaled to the length that it gives
    them."""
    weight_CD = classifier.weight.detach().clone()
    if isinstance(classifier, CosineClassifier):
        weight_CD = classifier.scale * F.normalize(weight_CD, dim=1)
        return Head(method, weight_CD, torch.zeros_like(weight_CD[:, 0]), transform="l2n")
    return Head(method, weight_CD, classifier.bias.detach().clone())


def with_fitted(head: Head, fitted: Fitted) -> Head:
    """A head with what its training says of itself; `note` comes before the epoch's."""
    note = ", ".join(part for part in (head.note, fitted.note) if part)
    return replace(head, note=note, chosen_on=fitted.chosen_on, backbone=fitted.backbone)


class Scaled(nn.Module):
    """A head whose logits are multiplied by one learned factor a class; the head stays as it is."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        # A recognizer's classifier says what it takes.
        self.in_features = head.weight_CD.shape[1]
        self._head = head
        self.scale_C = nn.Parameter(torch.ones_like(head.bias_C))

    def forward(self, features_BD: Tensor) -> Tensor:
        return self._head.logits(features_BD) * self.scale_C
