"""A run over two hosts, joined by nothing but a network, is the run of two processes on one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
TWO_HOSTS = ROOT / "tools" / "two_hosts.sh"
NO_NAMESPACES = 77


def arguments(shards: Path, run: Path) -> list[str]:
    settings = ["optim.batch_size=16", "model.backbone=resnet20", "compute.device=cpu"]
    settings += ["compute.amp=fp32", "compute.tensorboard=false"]
    command = ["train", "--stage", "rep", "--shards", str(shards)]
    command += ["--run-dir", str(run), "--epochs", "1"]
    return command + [part for setting in settings for part in ("--set", setting)]


def start(command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable, **more}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env=environment
    )


@pytest.mark.skipif(
    shutil.which("ip") is None or os.geteuid() != 0, reason="needs root and iproute2"
)
def test_two_hosts_train_what_two_processes_on_one_host_train(
    blob_shards: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    apart = start([str(TWO_HOSTS), *arguments(blob_shards, two)])
    if apart.returncode == NO_NAMESPACES:
        pytest.skip(apart.stderr.strip())
    assert apart.returncode == 0, apart.stdout[-3000:] + apart.stderr[-1000:]
    torchrun = [sys.executable, "-m", "fasttail.torchrun", "--standalone"]
    together = start([*torchrun, "--nproc-per-node", "2", *arguments(blob_shards, one)])
    assert together.returncode == 0, together.stderr[-3000:]
    weights, expected = (load_file(run / "model.safetensors") for run in (two, one))
    assert set(weights) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-5, atol=1e-6, msg=name)
    assert "host a: " in apart.stdout
    assert "2 x cpu" in apart.stdout
