"""A training that is killed with -9, again and again, at random steps."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from killable import run_stage
from safetensors.torch import load_file

from fasttail.train.checkpoint import Checkpoints, Position

KILLS = 20


def written(run: Path) -> int:
    """Changes with every checkpoint."""
    paths = (run / "checkpoints" / f"{slot}.safetensors" for slot in Checkpoints.SLOTS)
    return max((path.stat().st_mtime_ns for path in paths if path.exists()), default=0)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_a_run_killed_at_twenty_random_points_ends_with_the_same_bits(
    blob_shards: Path, tmp_path: Path
) -> None:
    # The server imports everything once; its children start in no time, without its threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killable", "fasttail.engines.resident"])
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = context.Process(target=run_stage, args=(blob_shards, whole, False))
    process.start()
    process.join(300)
    assert process.exitcode == 0

    draw = random.Random(0)
    positions: list[Position] = []
    for kill in range(KILLS):
        process = context.Process(target=run_stage, args=(blob_shards, cut, kill > 0))
        before = written(cut)
        process.start()
        deadline_s = time.monotonic() + 60
        while written(cut) == before and process.is_alive() and time.monotonic() < deadline_s:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.25))  # anywhere in the steps and checkpoints that follow
        assert process.is_alive(), "the training is over: nothing was killed"
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        found = Checkpoints(cut / "checkpoints").latest()
        assert found is not None
        positions.append(found[0])
    assert len(set(positions)) == KILLS
    assert positions == sorted(positions)
    process = context.Process(target=run_stage, args=(blob_shards, cut, True))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    expected = load_file(whole / "model.safetensors")
    got = load_file(cut / "model.safetensors")
    assert set(expected) == set(got)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
