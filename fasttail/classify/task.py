"""What a stage-2 method is given."""

from dataclasses import dataclass

from fasttail.classify.features import Features
from fasttail.classify.head import Head
from fasttail.config import TrainConfig
from fasttail.console import Reporter


@dataclass(frozen=True)
class Task:
    """Features of train, and of val where there is one; stage 1's classifier; the configuration.

    No method is given the test split.
    """

    config: TrainConfig
    joint: Head
    train: Features
    val: Features | None
    reporter: Reporter
