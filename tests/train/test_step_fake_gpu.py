"""A step and every loss on a GPU that need not be there: one device, and no wait."""

import fakegpu
import numpy as np
import plain
import pytest
import torch
from fakegpu import GPU
from torch import nn

from fasttail.compute import Compute
from fasttail.config import ComputeConfig, LossConfig, OptimConfig
from fasttail.models import Recognizer
from fasttail.train import step as stepping
from fasttail.train.losses import LOSSES, loss_for_epoch
from fasttail.train.step import Step
from fasttail.world import World


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_stays_on_the_device(name: str) -> None:
    with fakegpu.fake_gpu() as kernels:
        loss_at = loss_for_epoch(
            LossConfig(name=name, drw_from=0.0),
            np.array([50, 10, 5, 2]),
            device=GPU,
            logit_scale=1.0,
            label_smoothing=0.1,
        )
        loss = loss_at(0.5)
        logits_BC = torch.empty((8, 4), device=GPU)
        labels_B = torch.empty(8, dtype=torch.int64, device=GPU)
        before = kernels.count
        value = loss.losses_of(logits_BC, labels_B).sum() / loss.weight(labels_B)
        assert value.device == GPU
        assert kernels.count - before < 40


@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_waits_for_nothing(monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    monkeypatch.setattr(stepping, "_generator", lambda device: torch.default_generator)
    with fakegpu.fake_gpu():
        torch.set_default_device(GPU)
        try:
            model = Recognizer(plain.Plain(), nn.Linear(16, 4))
        finally:
            torch.set_default_device(None)
        step = Step(
            model,
            optim=OptimConfig(batch_size=8, accumulate=parts),
            config=ComputeConfig(),
            compute=Compute(GPU, torch.float32, channels_last=True),
            world=World(),
            seed=0,
        )
        images_BCHW = torch.empty((8, 3, 32, 32), device=GPU)
        labels_B = torch.empty(8, dtype=torch.int64, device=GPU)
        loss_at = loss_for_epoch(
            LossConfig(), np.array([5, 3, 2, 1]), device=GPU, logit_scale=1.0, label_smoothing=0.0
        )
        for number in range(2):
            loss = step(images_BCHW, labels_B, loss_at(0.0), lr=0.1, step=number)
        assert loss.device == GPU
