"""The seek index and the cache change how fast an image is there, never a pixel of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fasttail import engines, kernels, shards
from fasttail.config import ConvertConfig
from fasttail.datasets.base import FileImages, Index, SplitIndex
from fasttail.errors import CorruptSample, UserError
from fasttail.shards import Split, tail
from fasttail.shards.columns import SEEK, digest
from fasttail.shards.convert import convert

from .conftest import FixedPlan, jpeg, photo, random_plan

pytestmark = pytest.mark.skipif(not kernels.available(), reason=kernels.why_missing())

OUT = [(64, 64), (17, 40), (200, 180), (3, 2)]
HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of every sampling in three classes, half of the images kept decoded."""
    folder = tmp_path_factory.mktemp("beside")
    names = []
    for i in range(24):
        pixels = photo(150 + 37 * (i % 4), 130 + 29 * (i % 5), seed=i)
        options = [{"subsampling": i % 3}, {"subsampling": 2, "restart_marker_rows": 1}][i % 2]
        names.append(f"{i}.jpg")
        (folder / names[-1]).write_bytes(jpeg(pixels[:, :, 0] if i % 7 == 6 else pixels, **options))
    (folder / "1x1.jpg").write_bytes(jpeg(photo(1, 1, seed=90)))
    (folder / "1x300.jpg").write_bytes(jpeg(photo(1, 300, seed=91)))
    names += ["1x1.jpg", "1x300.jpg"]
    labels_N = np.repeat([0, 1, 2], [15, 7, 4])
    split = SplitIndex(FileImages(folder, names), labels_N)
    index = Index("beside", ("a", "b", "c"), {"train": split}, HALF, HALF)
    convert(index, folder / "shards", ConvertConfig(jobs=1, raw_budget="50%", seek_spacing=64))
    return folder / "shards"


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "shards")


def pixels(split: Split, plan: FixedPlan) -> torch.Tensor:
    engine = engines.make("ffcv", split, device=torch.device("cpu"), threads=2)
    try:
        return torch.cat([batch.images_BHWC for batch in engine.run(plan)])
    finally:
        engine.close()


@pytest.mark.parametrize("out_hw", OUT)
def test_a_cached_image_and_its_jpeg_give_the_same_pixels(
    copy: Path, out_hw: tuple[int, int]
) -> None:
    cached = shards.open(copy).split("train")
    assert cached.cache is not None
    assert cached.cache.meta.images == 13
    plan = random_plan(cached, out_hw, batch=16, draws=256, seed=1)
    whole = FixedPlan([whole_images(cached)], out_hw)
    found = [pixels(cached, plan), pixels(cached, whole)]
    assert tail.remove(copy)
    assert cached.cache is None
    for before, after in zip(found, [pixels(cached, plan), pixels(cached, whole)], strict=True):
        assert before.float().std() > 20
        assert torch.equal(before, after)


def whole_images(split: Split):
    plan = random_plan(split, (8, 8), batch=len(split), draws=len(split), seed=2).batches[0]
    full_B2 = np.stack([split.heights_N[plan.ids_B], split.widths_N[plan.ids_B]], 1)
    plan.boxes_B4[:] = np.concatenate([np.zeros_like(full_B2), full_B2], 1)
    return plan


@pytest.mark.parametrize("out_hw", OUT)
def test_with_and_without_a_seek_index_the_same_pixels(copy: Path, out_hw: tuple[int, int]) -> None:
    tail.remove(copy)
    split = shards.open(copy).split("train")
    assert split.seek is not None
    assert (np.diff(split.seek[1]) > 1).all()
    plan = random_plan(split, out_hw, batch=16, draws=256, seed=3)
    found = pixels(split, plan)
    rewrite(copy, lambda meta: meta.update(seek=None))
    without = shards.open(copy).split("train")
    assert without.seek is None
    assert torch.equal(pixels(without, plan), found)


def rewrite(folder: Path, change: Callable[[dict], None]) -> None:
    """Changes what dataset.json says of train."""
    meta = json.loads((folder / "dataset.json").read_text())
    change(meta["splits"]["train"])
    (folder / "dataset.json").write_text(json.dumps(meta))


def seal(folder: Path, **columns: np.ndarray) -> None:
    """Writes columns and their digests, as somebody would who means harm."""
    for name, column in columns.items():
        np.save(folder / "train.index" / f"{name}.npy", column.astype(SEEK[name]))
    sums = {name: digest(column.astype(SEEK[name])) for name, column in columns.items()}
    rewrite(folder, lambda meta: meta["columns"].update(sums))


@pytest.mark.parametrize("what", ["noise", "a bit", "another's", "shuffled", "zeros"])
def test_points_that_do_not_fit_are_named(copy: Path, what: str) -> None:
    tail.remove(copy)
    split = shards.open(copy).split("train")
    assert split.seek is not None
    words, starts = (np.array(column) for column in split.seek)
    rng = np.random.default_rng(5)
    a, b = int(starts[3]), int(starts[4])
    if what == "noise":
        words[a + 1 : b] = rng.integers(0, 1 << 63, b - a - 1).astype(np.uint64)
    elif what == "a bit":
        words[a + 2] ^= np.uint64(1)
    elif what == "another's":
        words[a : a + 2] = words[int(starts[5]) : int(starts[5]) + 2]
    elif what == "shuffled":
        words[a + 1 : b] = words[a + 1 : b][::-1]
    else:
        words[a:b] = 0
    plan = random_plan(split, (32, 32), batch=26, draws=26, seed=4)
    assert len(pixels(split, plan)) == 26
    seal(copy, seek=words)
    with pytest.raises(
        CorruptSample, match=r"sample 3 \(class 0 'a', from 3\.jpg\): the seek index does not"
    ):
        pixels(shards.open(copy).split("train"), plan)


@pytest.mark.parametrize("value", [-1, 1 << 62, -(1 << 63), 10**6])
@pytest.mark.parametrize("place", [0, 7, 26])
def test_starts_that_cannot_be_are_named_and_never_followed(
    copy: Path, place: int, value: int
) -> None:
    tail.remove(copy)
    split = shards.open(copy).split("train")
    assert split.seek is not None
    starts = np.array(split.seek[1])
    starts[place] = value
    seal(copy, seek_starts=starts)
    plan = random_plan(split, (32, 32), batch=26, draws=26, seed=4)
    with pytest.raises(CorruptSample, match="its seek index lies past the end of the file"):
        pixels(shards.open(copy).split("train"), plan)


def test_damage_of_the_index_is_seen_when_it_is_opened(copy: Path) -> None:
    path = copy / "train.index/seek.npy"
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"seek\.npy is not what was written: run"):
        engines.make(
            "ffcv", shards.open(copy).split("train"), device=torch.device("cpu"), threads=1
        )


def test_damage_of_a_cached_image_names_it_and_says_how_to_go_on(copy: Path) -> None:
    split = shards.open(copy).split("train")
    assert split.cache is not None
    path = copy / "train.cache/planes.bin"
    content = bytearray(path.read_bytes())
    content[int(split.cache.offsets_K[2]) + 40] ^= 1
    i = int(split.cache.ids_K[2])
    path.write_bytes(content)
    plan = random_plan(split, (32, 32), batch=26, draws=26, seed=4)
    with pytest.raises(CorruptSample, match=rf"sample {i} .*checksum.*in the cache: .* --remove"):
        pixels(split, plan)
    tail.remove(copy)
    assert len(pixels(split, plan)) == 26
