"""Making a feature bank: shared by the processes of a job, and resumed after a kill.

features/SPLIT.making/
  about.json       what the bank is made from; another content, and it is begun again
  rows.npy         the bank, as far as it is there
  done-0003.txt    the blocks whose rows rank 3 has written and synced to disk, a line each

The blocks are the same for every number of processes, so the job that takes a bank up may have
another one.
"""

import os
import re
import shutil
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from fasttail import records
from fasttail.atomic import rename
from fasttail.classify.blocks import BlockPlan, Blocks
from fasttail.classify.features import is_current, kept_dtype
from fasttail.compute import Compute, wait_for_all
from fasttail.config import TrainConfig
from fasttail.console import Reporter
from fasttail.engines.kept import Kept
from fasttail.models import Recognizer
from fasttail.plan import View
from fasttail.plans import planned_loader
from fasttail.rundir import write_json
from fasttail.shards import Shards, Split
from fasttail.world import World

SYNC_EVERY_S = 5.0


@dataclass(frozen=True)
class Work:
    """What extraction needs: the model whose backbone runs, and where and how."""

    model: Recognizer
    shards: Shards
    config: TrainConfig
    world: World
    compute: Compute
    reporter: Reporter
    engines: Kept


def extract(
    path: Path, split: Split, view: View, *, views: int, about: dict[str, Any], work: Work
) -> None:
    """Makes the bank `path`, if it is not there already, made from `about`. All processes of the
    job call this together; it returns when the bank is whole."""
    if is_current(path, about):
        return
    world, making = work.world, path.with_suffix(".making")
    blocks = Blocks(len(split), views, work.config.data.eval_batch_size)
    if world.is_main:
        _begin(making, about | {"block": blocks.size}, views * len(split), work)
    wait_for_all(world)
    done = _done(making)
    wait_for_all(world)  # nobody adds to what is done before all have read it
    if done:
        work.reporter.say(
            f"features of {split.name}: {len(done)} of {len(blocks)} blocks were there already"
        )
    chosen = blocks.share(done, world.rank, world.size)
    plan = BlockPlan(split, blocks, chosen, view=view, seed=work.config.seed)
    _run(making, split, plan, blocks, chosen, work)
    wait_for_all(world)
    if world.is_main:
        missing = len(blocks) - len(_done(making))
        if missing:
            raise RuntimeError(f"{making}: {missing} of {len(blocks)} blocks are missing")
        # In this order a kill at any point leaves either bank and description, or what can go on.
        path.unlink(missing_ok=True)
        write_json(path.with_suffix(".json"), about)
        rename(making / "rows.npy", path)
        shutil.rmtree(making)
    wait_for_all(world)


def _begin(making: Path, about: dict[str, Any], rows: int, work: Work) -> None:
    """An empty bank, unless there is an unfinished one of the same."""
    beside, bank = making / "about.json", making / "rows.npy"
    if bank.exists() and records.says(beside, about):
        return
    if making.exists():
        shutil.rmtree(making)
    making.mkdir(parents=True)
    shape = rows, work.model.classifier.in_features
    dtype = np.float32 if kept_dtype(work.compute.dtype) is torch.float32 else np.float16
    np.lib.format.open_memmap(bank, "w+", dtype, shape).flush()
    write_json(beside, about)


def _done(making: Path) -> set[int]:
    """The blocks that are on disk. A line that a kill cut short does not count."""
    return {
        int(match[1])
        for file in making.glob("done-*.txt")
        for line in file.read_text().split("\n")
        if (match := re.fullmatch(r"(\d+) done", line))
    }


@torch.inference_mode()
def _run(
    making: Path, split: Split, plan: BlockPlan, blocks: Blocks, chosen: list[int], work: Work
) -> None:
    """Writes this process's blocks."""
    model, compute = work.model.eval(), work.compute
    whole = np.load(making / "rows.npy", mmap_mode="r")
    first_byte, row_bytes = int(whole.offset), int(whole.strides[0])  # type: ignore[attr-defined]
    written: list[int] = []
    synced_s = time.monotonic()
    loader = planned_loader(
        work.shards, split, lambda _: plan, work.config.data, work.engines, compute
    )
    with (
        (making / "rows.npy").open("rb+") as bank,
        (making / f"done-{work.world.rank:04d}.txt").open("ab") as done,
        closing(iter(loader)) as batches,
        work.reporter.progress(f"features of {split.name}", plan.steps) as bar,
    ):
        done.write(b"\n")  # ends a line that a kill cut short
        for block, (images, *_) in zip(chosen, batches, strict=True):
            with compute.autocast():
                features_BD = model.backbone(images)
            rows = blocks.rows(block)
            # Not through a map: on a network disk two machines would write over each other's pages.
            bank.seek(first_byte + (rows.view * blocks.samples + rows.start) * row_bytes)
            kept_BD = features_BD.to(kept_dtype(compute.dtype))
            bank.write(kept_BD.cpu().contiguous().numpy().tobytes())
            written.append(block)
            if time.monotonic() - synced_s >= SYNC_EVERY_S:
                _sync(bank, done, written)
                written, synced_s = [], time.monotonic()
            bar.advance()
        _sync(bank, done, written)


def _sync(bank: BinaryIO, done: BinaryIO, written: Iterable[int]) -> None:
    """First the rows, then the word that they are there."""
    for file, content in ((bank, b""), (done, b"".join(b"%d done\n" % b for b in written))):
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
