"""The feature bank: its blocks, and that a bank killed anywhere is taken up to the same bytes."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from banks import bank
from torch import nn

from fasttail import shards
from fasttail.classify import extract as extraction
from fasttail.classify.balanced import rows_of
from fasttail.classify.blocks import BlockPlan, Blocks
from fasttail.classify.extract import Work, extract
from fasttail.classify.features import Features, load
from fasttail.compute import Compute
from fasttail.config import DataConfig, TrainConfig
from fasttail.console import Reporter
from fasttail.engines.kept import Kept
from fasttail.models import Recognizer
from fasttail.plan import View
from fasttail.world import World

CPU = Compute(torch.device("cpu"), torch.float32, channels_last=False)
RANDOM = View.random_crop(out_px=32, padding=4, flip_p=0.5)
ABOUT = {"model": "a"}


class Colours(nn.Module):
    """Images -> 6 features, in no time."""

    features_dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.cat([images_BCHW.mean((2, 3)), images_BCHW[:, :, 3, 5]], 1)


@pytest.fixture
def work(blob_shards: Path) -> Work:
    config = TrainConfig(data=DataConfig(px=32, eval_view="whole", eval_batch_size=7))
    model = Recognizer(Colours(), nn.Linear(6, 5))
    reporter = Reporter(quiet=True)
    engines = Kept(config.data, CPU.device)
    return Work(model, shards.open(blob_shards), config, World(), CPU, reporter, engines)


def make(work: Work, path: Path, views: int = 3, about: dict | None = None) -> np.ndarray:
    split = work.shards.split("train")
    path.parent.mkdir(exist_ok=True)
    extract(path, split, RANDOM, views=views, about=about or ABOUT, work=work)
    return np.load(path)


def calls(work: Work) -> int:
    assert isinstance(work.model.backbone, Colours)
    return work.model.backbone.calls


@pytest.mark.parametrize(
    ("samples", "views", "size"), [(78, 1, 7), (78, 3, 7), (14, 2, 7), (3, 1, 9)]
)
def test_blocks_hold_every_row_once_whatever_is_done_and_whoever_shares(
    samples: int, views: int, size: int
) -> None:
    blocks = Blocks(samples, views, size)
    rows = [
        (part.view, row)
        for block in range(len(blocks))
        for part in [blocks.rows(block)]
        for row in range(part.start, part.stop)
    ]
    assert rows == list(itertools.product(range(views), range(samples)))
    for done, ranks in itertools.product((set(), {0}, {0, len(blocks) - 1}), (1, 2, 5)):
        shared = [block for rank in range(ranks) for block in blocks.share(done, rank, ranks)]
        assert shared == sorted(set(range(len(blocks))) - done)


def test_a_banks_rows_are_each_views_own_crops_of_each_sample(work: Work, tmp_path: Path) -> None:
    split = work.shards.split("train")
    rows_ND = make(work, tmp_path / "bank" / "train.npy")
    assert rows_ND.dtype == np.float32, "features of float32 are kept as they are"
    assert rows_ND.shape == (3 * len(split), 6)
    views_VND = rows_ND.reshape(3, len(split), 6)
    assert not np.array_equal(views_VND[0], views_VND[1])
    # View 2 of sample 50, cut by hand from its stored pixels.
    plan = BlockPlan(split, Blocks(len(split), 3, 7), [2 * 12 + 7], view=RANDOM, seed=0)
    drawn = plan.batch(0)
    assert drawn.ids_B[1] == 50
    top, left, height, width = drawn.boxes_B4[1]
    padded = np.zeros((40, 40, 3), np.uint8)
    padded[4:36, 4:36] = split.bytes(50).reshape(32, 32, 3)
    crop = padded[top + 4 : top + 4 + height, left + 4 : left + 4 + width]
    crop = crop[:, ::-1] if drawn.flips_B[1] else crop
    pixels = (crop / 255 - work.shards.meta.mean) / work.shards.meta.std
    expected = np.concatenate([pixels.mean((0, 1)), pixels[3, 5]])
    np.testing.assert_allclose(views_VND[2, 50], expected, atol=1e-5)


def test_features_of_mixed_precision_take_two_bytes_a_number(work: Work, tmp_path: Path) -> None:
    half = replace(work, compute=replace(CPU, dtype=torch.bfloat16))
    rows_ND = make(half, tmp_path / "half" / "train.npy")
    assert rows_ND.dtype == np.float16
    whole_ND = make(work, tmp_path / "whole" / "train.npy")
    np.testing.assert_allclose(rows_ND, whole_ND, atol=3e-2)


class Killed(Exception):
    """Stands for SIGKILL: nothing after it runs that the bank would need."""


@pytest.mark.parametrize("after", [0, 1, 17, 35])
@pytest.mark.parametrize("torn", [b"", b"3", b"31 do"])
def test_a_bank_killed_after_any_block_is_taken_up_to_the_same_bytes(
    work: Work, tmp_path: Path, after: int, torn: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(work, tmp_path / "whole" / "train.npy")
    path = tmp_path / "cut" / "train.npy"
    sync, synced = extraction._sync, 0

    def kills(*arguments: object) -> None:
        nonlocal synced
        if synced == after:
            raise Killed
        sync(*arguments)  # type: ignore[arg-type]
        synced += 1

    monkeypatch.setattr(extraction, "SYNC_EVERY_S", 0.0)
    monkeypatch.setattr(extraction, "_sync", kills)
    with pytest.raises(Killed):
        make(work, path)
    assert not path.exists()
    with (path.with_suffix(".making") / "done-0000.txt").open("ab") as file:
        file.write(torn)
    monkeypatch.setattr(extraction, "_sync", sync)
    before = calls(work)
    np.testing.assert_array_equal(make(work, path), whole)
    assert calls(work) - before == 36 - after, "what was on disk is not computed again"
    assert sorted(p.name for p in path.parent.iterdir()) == ["train.json", "train.npy"]


def test_a_bank_begun_by_three_processes_is_ended_by_one(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(work, tmp_path / "whole" / "train.npy")
    path = tmp_path / "cut" / "train.npy"
    # Two of three processes do their share, one after the other, and the third never comes.
    monkeypatch.setattr(extraction, "wait_for_all", lambda world: None)
    with pytest.raises(RuntimeError, match="24 of 36 blocks are missing"):
        make(replace(work, world=World(rank=0, size=3)), path)
    split = work.shards.split("train")
    done = extraction._done(path.with_suffix(".making"))
    assert done == set(range(12))
    extract(
        path, split, RANDOM, views=3, about=ABOUT, work=replace(work, world=World(rank=1, size=3))
    )
    left = 36 - len(extraction._done(path.with_suffix(".making")))
    assert 0 < left < 24
    before = calls(work)
    np.testing.assert_array_equal(make(work, path), whole)
    assert calls(work) - before == left


def test_a_bank_is_kept_for_the_same_content_and_made_anew_for_another(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bank" / "train.npy"
    first = make(work, path)
    once = calls(work)
    assert np.array_equal(make(work, path), first)
    assert calls(work) == once
    make(work, path, about={"model": "b"})
    assert calls(work) == 2 * once
    assert json.loads(path.with_suffix(".json").read_text()) == {"model": "b"}
    # An unfinished bank of other content is of no use.
    monkeypatch.setattr(extraction, "_sync", lambda *_: None)
    with pytest.raises(RuntimeError, match="missing"):
        make(work, path, about={"model": "c"})
    monkeypatch.undo()
    begun = calls(work)
    make(work, path, about={"model": "d"})
    assert calls(work) - begun == once


def test_a_bank_stays_on_disk_and_its_rows_come_by_batches(tmp_path: Path) -> None:
    content = np.arange(6 * 4, dtype=np.float16).reshape(6, 4)
    np.save(tmp_path / "train.npy", content)
    split = SimpleNamespace(labels_N=np.array([0, 1, 1], np.int32))
    mapped = load(
        tmp_path / "train.npy",
        split,  # type: ignore[arg-type]
        views=2,
        device=torch.device("cpu"),
        budget_bytes=0,
    )
    np.testing.assert_array_equal(mapped.rows(np.array([5, 0])), content[[5, 0]])
    np.testing.assert_array_equal(torch.cat([x for x, _ in mapped.blocks(4)]), content)
    assert torch.cat([y for _, y in mapped.blocks(4)]).tolist() == [0, 1, 1, 0, 1, 1]
    assert mapped.rows(np.array([1])).dtype is torch.float32


def test_a_sample_is_seen_in_each_of_its_views_about_as_often() -> None:
    plain = bank((40, 10), seed=1)
    four = Features(plain.split, plain.features_ND.repeat(4, 1), plain.labels_N, views=4)
    ids_B = np.full(2000, 7)
    rows_B = rows_of(ids_B, four, seed=3, epoch=0, step=0)
    assert (rows_B % 50 == 7).all()
    assert np.bincount(rows_B // 50, minlength=4).min() > 400
    again_B = rows_of(ids_B, four, seed=3, epoch=1, step=0)
    assert not np.array_equal(rows_B, again_B)
    next_B = rows_of(ids_B, four, seed=3, epoch=0, step=1)
    assert not np.array_equal(rows_B, next_B)
    # Views are drawn by the position in the epoch, however it is cut into steps.
    np.testing.assert_array_equal(
        rows_of(np.full(4000, 7), four, seed=3, epoch=0, step=0), np.concatenate([rows_B, next_B])
    )
    np.testing.assert_array_equal(rows_of(ids_B, plain, seed=3, epoch=0, step=0), ids_B)
