"""Stage 2's training and the tau grid on a GPU that need not be there: no step is waited for."""

import fakegpu
import numpy as np
import pytest
import torch
from fakegpu import GPU
from torch import nn

from fasttail import shards
from fasttail.classify import balanced, grid
from fasttail.classify.features import Features
from fasttail.classify.task import Job
from fasttail.config import OptimConfig, TrainConfig
from fasttail.console import Reporter
from fasttail.train.losses import cross_entropy_of_batch


def test_a_head_is_trained_on_the_bank_without_a_wait(
    blob_shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balanced, "check_finite", lambda job: None)  # at the end it waits, once
    split = shards.open(blob_shards).split("train")
    optim = OptimConfig(epochs=2, batch_size=16, lr=0.1, lr_batch_size=16)
    with fakegpu.fake_gpu() as kernels:
        for where in (GPU, torch.device("cpu")):  # a bank above the budget stays on the host
            features_ND = torch.empty((len(split), 16), dtype=torch.float16, device=where)
            labels_N = torch.empty(len(split), dtype=torch.int64, device=GPU)
            bank = Features(split, features_ND, labels_N)
            head = nn.Linear(16, 5, device=GPU)
            job = Job("crt", head, optim, "class", cross_entropy_of_batch())
            before = kernels.count
            balanced.fit_on_bank(
                job,
                lambda name, bank=bank: bank,
                has_val=False,
                config=TrainConfig(),
                reporter=Reporter(quiet=True),
            )
            steps = 2 * (len(split) // 16)
            assert 5 * steps < kernels.count - before < 40 * steps


def test_the_tau_grid_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "ROWS", 10)
    seen = []
    real = grid._best_by_torch

    def counted(*given: torch.Tensor) -> None:
        real(*given)
        seen.append(len(given[0]))

    monkeypatch.setattr(grid, "_best_by_torch", counted)
    with fakegpu.fake_gpu():
        features_ND = torch.empty((35, 16), dtype=torch.float16, device=GPU)
        bank = Features(None, features_ND, torch.empty(35, dtype=torch.int64, device=GPU))  # type: ignore[arg-type]
        weight_CD, bias_C = torch.empty((5, 16), device=GPU), torch.empty(5, device=GPU)
        with pytest.raises(fakegpu.WAITS):  # for the predictions, when all are made
            grid.predict_over_grid(weight_CD, bias_C, bank, np.linspace(0, 2, 21))
    assert seen == [10, 10, 10, 5]
