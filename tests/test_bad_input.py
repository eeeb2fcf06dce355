"""What may be wrong in a call of the library: one exception, which says what to do about it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fasttail import BalancedBatchSampler, Loader
from fasttail.config import ConvertConfig
from fasttail.datasets.base import ArrayImages, Index, SplitIndex
from fasttail.errors import UserError
from fasttail.integrations.dali import source
from fasttail.plan import order
from fasttail.shards.convert import convert

LABELS = np.repeat(np.arange(3), (6, 4, 2))
FILES = [f"{i}.jpg" for i in range(12)]

TAKE_LABELS: dict[str, Callable[..., Any]] = {
    "order": order,
    "sampler": BalancedBatchSampler,
    "dali": lambda labels, sampler, **options: source(FILES, sampler, labels=labels, **options),
}


@pytest.mark.parametrize("make", TAKE_LABELS.values(), ids=TAKE_LABELS)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": LABELS - 1}, "label -1 of sample 0 is negative: .* leave out"),
        ({"labels": LABELS * 2}, r"no sample is of class 1, 3: .* np.unique"),
        ({"labels": LABELS[LABELS != 1]}, "no sample is of class 1: nothing can be drawn"),
        ({"labels": np.eye(3)[LABELS]}, r"shape \[12, 3\]: .* labels.argmax\(1\)"),
        ({"labels": []}, r"shape \[0\]: give one class number a sample"),
        ({"labels": [[0], [1, 2]]}, r"inhomogeneous.*give one class number a sample"),
        ({"labels": LABELS.astype(np.float32)}, "float32, not whole numbers: .* np.unique"),
        ({"labels": torch.tensor(LABELS) > 0}, "bool, not whole numbers"),
        ({"labels": ["ant", "bee"] * 6}, "not whole numbers"),
        ({"batch_size": 6, "rank": 0, "world_size": 4}, "take a multiple of 4, 4 or 8"),
        ({"batch_size": 13}, "more than the split's 12 images: take 12 or less"),
        ({"batch_size": 0}, "batch size 0: give .* a whole number"),
        ({"batch_size": 4.0}, "batch size 4.0: give .* a whole number"),
        ({"batch_size": "4"}, "batch size '4': give .* a whole number"),
        ({"rank": 2, "world_size": 2}, "rank 2 of 2 ranks: must be 0 to 1"),
        ({"epochs": 0}, "epochs 0: give the length of the training"),
        ({"epochs": 2.5}, "epochs 2.5: give the length of the training"),
    ],
)  # fmt: skip
def test_whatever_takes_labels_tells_what_is_wrong_with_them(
    make: Callable[..., Any], changes: dict[str, Any], said: str
) -> None:
    good = {"labels": LABELS, "sampler": "sqrt", "batch_size": 4, "epochs": 5}
    make(**good)
    with pytest.raises(UserError, match=said) as raised:
        make(**{**good, **changes})
    assert "\n" not in str(raised.value)


def shards(folder: Path, seed: int = 0) -> Path:
    """Two classes, of which test has one."""

    def split(labels: list[int]) -> SplitIndex:
        shape = (len(labels), 16, 16, 3)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        return SplitIndex(ArrayImages(pixels, "noise"), np.array(labels))

    splits = {"train": split([0, 0, 0, 0, 1, 1]), "test": split([0, 0])}
    convert(Index("two", ("a", "b"), splits, None, None), folder, ConvertConfig(jobs=1))
    return folder


def load(folder: Path, split: str = "train", **changes: Any) -> Loader:
    options = {"sampler": "class", "batch_size": 2, "px": 16, "device": "cpu", "threads": 1}
    return Loader(folder, split, **{**options, "engine": "reference", **changes})


def test_a_loader_tells_a_class_without_images_and_data_that_has_changed(tmp_path: Path) -> None:
    before, after = shards(tmp_path / "before"), shards(tmp_path / "after", seed=1)
    with pytest.raises(UserError, match=r"no image of 1 of 2 classes \('b'\): .* add images"):
        load(before, "test")
    for batch_size in (0, "2"):
        for sampler in ("class", None):
            with pytest.raises(UserError, match="give the images of a batch"):
                load(before, sampler=sampler, batch_size=batch_size)
    with load(before) as loader, load(after) as other:
        state = loader.state_dict()
        loader.load_state_dict(state)
        with pytest.raises(UserError, match=r"the state is of data .*, but this is of .*: load it"):
            other.load_state_dict(state)


@pytest.mark.parametrize(
    "state", [None, {}, {"epoch": 1, "step": 0}, {"epoch": "x", "step": 0, "settings": {}}], ids=str
)
def test_what_is_no_state_is_told(state: Any) -> None:
    sampler = BalancedBatchSampler(LABELS, "class", batch_size=4)
    with pytest.raises(UserError, match=r"no state of .*: give what its state_dict\(\) returned"):
        sampler.load_state_dict(state)
    with pytest.raises(UserError, match="the state is of labels None"):
        sampler.load_state_dict({"epoch": 1, "step": 0, "settings": {}})
