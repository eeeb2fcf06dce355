"""What a stage-2 method is given, and what it asks to have trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from fasttail.classify.features import Features
from fasttail.classify.head import Head
from fasttail.config import OptimConfig, TrainConfig
from fasttail.console import Reporter
from fasttail.shards import Split
from fasttail.train.losses import BatchLoss


@dataclass(frozen=True)
class Job:
    """A training: of `classifier`, features [B, D] -> logits [B, C], in place, and with
    "last-block" of the backbone's last stage too. Only parameters with gradients are trained."""

    what: str
    classifier: nn.Module
    optim: OptimConfig
    sampler: str
    loss: BatchLoss
    trained: Literal["classifier", "last-block"] = "classifier"


@dataclass(frozen=True)
class Fitted:
    """What came of a job beside the classifier's weights: the backbone's tensors that changed, if
    any did, and which epoch was kept, if it was chosen."""

    backbone: Mapping[str, Tensor] | None = None
    note: str = ""
    chosen_on: str | None = None


@dataclass(frozen=True)
class Task:
    """Stage 1's classifier, the banks of features, and how trainings are done.

    `config` is one that its protocol has settled (`fasttail.protocol`). `bank` extracts
    at the first asking. A method asks for train and val, and for test only where the configuration
    says that something is to be chosen on it.
    """

    config: TrainConfig
    joint: Head
    train_split: Split
    split_names: tuple[str, ...]
    bank: Callable[[str], Features]
    fit: Callable[[Job], Fitted]
    reporter: Reporter

    @property
    def train(self) -> Features:
        return self.bank("train")

    @property
    def num_classes(self) -> int:
        return len(self.train_split.class_names)
