"""The way of a batch on a GPU, tried without one: nothing of it is on the wrong device, the host
waits for nothing, and there are few kernels."""

from typing import Any

import fakegpu
import numpy as np
import pytest
import torch
from fakegpu import GPU

from fasttail.engines import augment as augmenting
from fasttail.engines.augment import augment
from fasttail.engines.base import Batch, BatchPlan, Jitter
from fasttail.engines.resident import Resident

from .conftest import random_jitter

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_the_fake_notices_what_it_is_for() -> None:
    with fakegpu.fake_gpu() as kernels:
        on_gpu = torch.empty(4, device=GPU)
        with pytest.raises(RuntimeError, match="same device"):
            on_gpu + torch.empty(4)
        for ask in (lambda: int(on_gpu.max()), lambda: on_gpu.cpu().numpy(), on_gpu.tolist):
            with pytest.raises(fakegpu.WAITS):
                ask()
        before = kernels.count
        on_gpu.view(2, 2).permute(1, 0).mul(2).add_(1)
        assert kernels.count - before == 2


def images(batch: int, side: int, drawn: Jitter | None) -> Batch:
    return Batch(
        torch.empty((batch, side, side, 3), dtype=torch.uint8, device=GPU),
        torch.empty(batch, dtype=torch.int64, device=GPU),
        torch.empty(batch, dtype=torch.int64, device=GPU),
        drawn,
    )


def augmented(drawn: Jitter | None) -> tuple[torch.Tensor, int]:
    with fakegpu.fake_gpu() as kernels:
        batch = images(8, 32, drawn)
        before = kernels.count
        result = augment(batch, mean=MEAN, std=STD, dtype=torch.bfloat16, device=GPU)
        return result, kernels.count - before


def test_normalising_takes_few_kernels() -> None:
    result, kernels = augmented(None)
    assert result.device == GPU
    assert result.shape == (8, 3, 32, 32)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert kernels <= 4, "the constants' copy, their scale, the product, its type"


def test_jitter_is_two_passes_over_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("fasttail.engines.jitter_kernel")
    launched: list[tuple[str, tuple[int, ...]]] = []

    class Recorded:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            def launch(*arguments: Any) -> None:
                tensors = [value for value in arguments if isinstance(value, torch.Tensor)]
                assert all(tensor.device == GPU for tensor in tensors)
                assert all(tensor.is_contiguous() for tensor in tensors)
                launched.append((self.name, grid))

            return launch

    for name in ("sums", "finish"):
        monkeypatch.setattr(module, name, Recorded(name))
    result, kernels = augmented(random_jitter(8, hue=0.2, seed=1))
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert launched == [("sums", (8, 1)), ("finish", (8, 1))]
    assert kernels <= 10, "beside the two passes: what is small"


def test_jitter_without_triton_waits_for_nothing_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmenting, "_has_triton", lambda: False)
    result, _ = augmented(random_jitter(8, hue=0.2, seed=1))
    assert result.device == GPU


class OnePlan:
    """A batch of boxes, of the output's size or of others."""

    steps = 1
    out_hw = (32, 32)
    max_batch = 8

    def __init__(self, extent: int) -> None:
        self._extent = extent

    def batch(self, step: int) -> BatchPlan:
        return BatchPlan(
            ids_B=np.arange(8),
            labels_B=np.zeros(8, np.int64),
            boxes_B4=np.tile(np.array([-2, 3, self._extent, self._extent], np.int32), (8, 1)),
            flips_B=np.arange(8) % 2 == 0,
        )


@pytest.mark.parametrize(("extent", "most"), [(32, 30), (20, 80)])
def test_resident_gathers_and_cuts_without_asking_the_device(extent: int, most: int) -> None:
    with fakegpu.fake_gpu() as kernels:
        engine = Resident.__new__(Resident)
        engine.device = GPU
        engine._images_NHWC = torch.empty((100, 32, 32, 3), dtype=torch.uint8, device=GPU)
        before = kernels.count
        (batch,) = engine.run(OnePlan(extent))
        assert batch.images_BHWC.shape == (8, 32, 32, 3)
        assert {batch.images_BHWC.device, batch.labels_B.device, batch.ids_B.device} == {GPU}
        assert kernels.count - before <= most
