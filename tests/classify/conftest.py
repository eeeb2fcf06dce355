"""A task over a bank of made-up features."""

from collections.abc import Callable

import pytest
import torch
from banks import COUNTS, DIM, bank

from fasttail.classify.balanced import fit_on_bank
from fasttail.classify.features import Features
from fasttail.classify.head import Head
from fasttail.classify.task import Fitted, Job, Task
from fasttail.config import ClassifyConfig, OptimConfig, TrainConfig
from fasttail.console import Reporter

MakeTask = Callable[..., Task]


@pytest.fixture
def make_task() -> MakeTask:
    """A task; `classify` changes its configuration, `banks` what there is of splits."""

    def make(banks: dict[str, Features] | None = None, **classify: object) -> Task:
        given = banks or {
            "train": bank(COUNTS, seed=1),
            "val": bank((30,) * len(COUNTS), seed=2),
        }
        generator = torch.Generator().manual_seed(3)
        weight_CD = torch.randn(len(COUNTS), DIM, generator=generator)
        weight_CD *= torch.tensor([3.0, 2.0, 1.0, 0.6, 0.3])[:, None]
        joint = Head("joint", weight_CD, torch.linspace(1, -1, len(COUNTS)))
        optim = OptimConfig(epochs=20, batch_size=32, lr=0.05, lr_batch_size=32)
        changed = ClassifyConfig(crt=optim, lws=optim).model_copy(update=classify)
        config = TrainConfig(classify=changed)
        reporter = Reporter(quiet=True)

        def fit(job: Job) -> Fitted:
            return fit_on_bank(
                job,
                lambda name: given[name],
                has_val="val" in given,
                config=config,
                reporter=reporter,
            )

        return Task(
            config,
            joint,
            given["train"].split,
            tuple(given),
            lambda name: given[name],
            fit,
            reporter,
        )

    return make


@pytest.fixture
def task(make_task: MakeTask) -> Task:
    return make_task()
