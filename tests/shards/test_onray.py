"""Parts made on a real Ray cluster of this machine, one of whose workers is killed."""

import os
import signal
from pathlib import Path

import photos
import pytest

from fasttail.config import ConvertConfig
from fasttail.datasets import index
from fasttail.shards.convert import convert

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray's own


def workers() -> list[int]:
    """Ray's processes that make parts now."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if b"ray::_make" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


def test_ray_makes_the_same_shards_and_a_killed_worker_s_part_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos.index(tmp_path / "in/train", photos.jpegs((150, 120)))
    cfg = ConvertConfig(jobs=1, part_size=60_000, val_fraction=0)
    source = index("folder", tmp_path / "in", cfg)
    convert(source, tmp_path / "whole", cfg)
    monkeypatch.setenv("RAY_ADDRESS", "")
    killed: list[int] = []

    def show(what: str, done: int, total: int) -> None:
        if not killed:
            killed.extend(workers()[:1])
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    real = ray.init
    monkeypatch.setattr(ray, "init", lambda address, **how: real(num_cpus=2, **how))
    convert(source, tmp_path / "out", cfg, show, on="ray")
    assert killed
    assert photos.tree(tmp_path / "out") == photos.tree(tmp_path / "whole")
