"""What a process computes on, on a machine that is made to look as if it had a GPU."""

import pytest
import torch

from fasttail.compute import pick
from fasttail.config import ComputeConfig
from fasttail.errors import UserError
from fasttail.world import World


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated: True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)


@pytest.mark.usefixtures("one_gpu")
def test_on_a_gpu_each_convolutions_fastest_way_is_looked_for() -> None:
    compute = pick(ComputeConfig(device="cpu"), World())
    assert compute.device.type == "cpu"
    assert not torch.backends.cudnn.benchmark
    compute = pick(ComputeConfig(), World())
    assert compute.device == torch.device("cuda", 0)
    assert compute.dtype is torch.bfloat16
    assert torch.backends.cudnn.benchmark


@pytest.mark.usefixtures("one_gpu")
def test_more_processes_than_gpus_are_refused() -> None:
    with pytest.raises(UserError, match="2 processes on this node but 1 GPUs"):
        pick(ComputeConfig(), World(rank=1, local_rank=1, size=2, local_size=2))
