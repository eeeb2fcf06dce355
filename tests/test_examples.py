"""Every example runs, and what it prints of its draws is balanced over all processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = ("--px", "32", "--epochs", "2")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images in three classes."""
    root = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for name, images in (("ant", 14), ("bee", 7), ("cat", 3)):
        (root / name).mkdir()
        for i in range(images):
            pixels = noise.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.jpg")
    return root


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300,
        check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def draws(output: str) -> dict[int, list[int]]:
    """Epoch -> draws of each class."""
    lines = re.findall(r"epoch (\d+):.* drawn \[([\d, ]+)\]", output)
    return {int(epoch): [int(count) for count in counts.split(",")] for epoch, counts in lines}


def balanced(counts: list[int], total: int) -> bool:
    return sum(counts) == total and max(counts) - min(counts) <= 1


def test_ddp_loader_goes_on_in_the_middle_of_an_epoch(blob_shards: Path, tmp_path: Path):
    command = (*TORCHRUN, EXAMPLES / "ddp_loader.py", blob_shards, *SMALL, "--batch-size", 8)
    found = draws(run(*command, "--save-every", 5, cwd=tmp_path))
    assert list(found) == [0, 1]
    assert all(balanced(counts, 72) for counts in found.values())
    # The last checkpoint is of epoch 1 after 5 of its 9 steps: 4 are left.
    again = draws(run(*command, cwd=tmp_path))
    assert list(again) == [1]
    assert sum(again[1]) == 4 * 8


def test_sampler_only(folder: Path, tmp_path: Path):
    example = EXAMPLES / "sampler_only.py"
    found = draws(run(sys.executable, example, folder, *SMALL, "--batch-size", 4, "--workers", 1,
                      cwd=tmp_path))  # fmt: skip
    share_C = np.sqrt([14, 7, 3])
    for counts in found.values():
        assert np.abs(np.array(counts) - 24 * share_C / share_C.sum()).max() < 1
    assert list(found) == [0, 1]


def test_lightning_loop_with_two_processes(folder: Path, tmp_path: Path):
    example = EXAMPLES / "lightning_loop.py"
    found = draws(run(sys.executable, "-W", "ignore", example, folder, *SMALL, "--batch-size", 4,
                      "--devices", 2, cwd=tmp_path))  # fmt: skip
    assert list(found) == [0, 1]
    assert all(balanced(counts, 24) for counts in found.values())


def test_accelerate_loop_with_two_processes(folder: Path, tmp_path: Path):
    example = EXAMPLES / "accelerate_loop.py"
    found = draws(run(*TORCHRUN, example, folder, *SMALL, "--batch-size", 4, cwd=tmp_path))
    assert list(found) == [0, 1]
    assert all(balanced(counts, 24) for counts in found.values())


# FFCV compiles its pipelines for half a minute, for six batches.
UNCOMPILED = """
import runpy, sys
from ffcv.pipeline.compiler import Compiler
Compiler.set_enabled(False)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.ffcv
def test_ffcv_order(blob_shards: Path, tmp_path: Path):
    pytest.importorskip("ffcv")
    (beton,) = blob_shards.glob("train*.beton")
    found = draws(run(sys.executable, "-W", "ignore", "-c", UNCOMPILED, EXAMPLES / "ffcv_order.py",
                      beton, *SMALL, "--batch-size", 8, cwd=tmp_path))  # fmt: skip
    assert found[0] == [37, 18, 9, 5, 3]  # instance-balanced: 72 of 78
    assert balanced(found[1], 72)


def test_clip_features(tmp_path: Path):
    means_CD = np.random.default_rng(0).normal(size=(3, 16))
    for name, counts in (("train", (120, 40, 8)), ("test", (20, 20, 20))):
        labels = np.repeat(np.arange(3), counts)
        noise = np.random.default_rng(len(labels)).normal(size=(len(labels), 16))
        np.savez(tmp_path / f"{name}.npz", features=means_CD[labels] + noise, labels=labels)
    output = run(sys.executable, EXAMPLES / "clip_features.py", "train.npz", "test.npz",
                 cwd=tmp_path)  # fmt: skip
    lines = output.splitlines()
    assert lines[0].split() == ["many", "medium", "few", "all"]
    assert [line.split()[0] for line in lines[1:]] == [
        *("joint", "crt", "tau", "lws", "ncm", "logit-adjust")
    ]
    assert all(float(line.split()[-1]) > 60 for line in lines[1:])
    assert np.load(tmp_path / "crt.npz")["weight"].shape == (3, 16)


def test_every_example_is_short_and_is_run_here():
    source = Path(__file__).read_text(encoding="utf-8")
    for example in EXAMPLES.glob("*.py"):
        assert example.name in source
        assert len(example.read_text(encoding="utf-8").splitlines()) < 60
