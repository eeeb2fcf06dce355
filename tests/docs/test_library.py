"""The code on the page about one's own training loop, run as it stands but for smaller numbers."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

import fasttail

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
SMALLER = {"256": "8", "224": "32", "90": "2"}
LABELS = np.repeat(np.arange(3), (20, 9, 4))


class Step:
    """Keeps what a loop gave it."""

    def __init__(self) -> None:
        self.given: list[tuple[Any, ...]] = []

    def __call__(self, *given: Any) -> None:
        self.given.append(given)


def run(named: str) -> tuple[Step, dict[str, Any]]:
    """Runs the only block with these words."""
    (block,) = [block for block in BLOCKS if named in block]
    for number, smaller in SMALLER.items():
        block = re.sub(rf"\b{number}\b", smaller, block)
    step = Step()
    generator = np.random.default_rng(0)
    features = (LABELS[:, None] == np.arange(8)) + generator.normal(0, 0.1, (len(LABELS), 8))
    features = features.astype(np.float32)
    given = {
        **dict.fromkeys(("train_step", "evaluate_step", "fetch_step"), step),
        "model": nn.Linear(2, 2),
        "labels": LABELS,
        "dataset": TensorDataset(torch.zeros(len(LABELS), 3, 4, 4), torch.from_numpy(LABELS)),
        **{"features": features, "val_features": features, "val_labels": LABELS},
        "paths": [f"{i}.jpg" for i in range(len(LABELS))],
    }
    exec(compile(block, str(PAGE), "exec"), given)
    return step, given


@pytest.fixture(autouse=True)
def here(blob_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "mine").symlink_to(blob_shards)
    monkeypatch.chdir(tmp_path)


def spread(step: Step, classes: int) -> int:
    """Between the most and the least drawn class."""
    drawn = torch.cat([torch.as_tensor(labels).reshape(-1) for _, labels in step.given])
    counts_C = drawn.bincount(minlength=classes)
    return int(counts_C.max() - counts_C.min())


def test_loader_in_five_lines() -> None:
    step, _ = run('"train", sampler="class"')
    assert len(step.given) == 2 * 9
    assert step.given[0][0].shape == (8, 3, 32, 32)
    assert spread(step, 5) <= 2


def test_evaluation_gives_every_image_once() -> None:
    step, _ = run("evaluate_step")
    assert torch.cat([ids for _, _, ids in step.given]).tolist() == list(range(40))


def test_a_loaded_state_goes_on_with_the_rest_of_the_epoch() -> None:
    step, _ = run("checkpoint.pt")
    assert len(step.given) == 9


def test_ones_own_dataset() -> None:
    step, _ = run("batch_sampler=sampler")
    assert len(step.given) == 2 * 4
    drawn_C = np.bincount(torch.cat([labels for _, labels in step.given]).numpy())
    share_C = np.sqrt([20, 9, 4]) / np.sqrt([20, 9, 4]).sum()
    assert np.abs(drawn_C - 64 * share_C).max() <= 2


def test_the_order_alone() -> None:
    step, _ = run("fasttail.plan import order")
    assert len(step.given) == 2 * 4
    assert spread(step, 3) <= 2
    assert all((LABELS[ids] == labels).all() for ids, labels in step.given)


@pytest.mark.ffcv
@pytest.mark.filterwarnings("ignore")  # FFCV's own
def test_the_order_in_a_stock_ffcv_loader() -> None:
    compiler = pytest.importorskip("ffcv.pipeline.compiler").Compiler
    compiler.set_enabled(False)  # half a minute
    try:
        step, _ = run("integrations.ffcv import Order")
    finally:
        compiler.set_enabled(True)
    assert len(step.given) == 9


@pytest.mark.dali
@pytest.mark.filterwarnings("ignore")  # DALI's own
def test_the_order_in_a_dali_pipeline() -> None:
    pytest.importorskip("nvidia.dali")
    for i in range(len(LABELS)):
        Image.new("RGB", (16, 16)).save(f"{i}.jpg")
    step, _ = run("integrations.dali import source")
    assert len(step.given) == 4
    drawn = np.concatenate([labels.as_array().ravel() for _, labels in step.given])
    assert np.ptp(np.bincount(drawn, minlength=3)) <= 1


def test_heads_on_features() -> None:
    _, given = run("fit_heads(")
    assert (given["predicted"] == LABELS).all()
    assert given["weight"].shape == (3, 8)


def test_shards_are_looked_into(capsys: pytest.CaptureFixture[str]) -> None:
    _, given = run("open_shards(")
    assert "78" in capsys.readouterr().out
    assert len(given["jpeg"]) > 0


def test_the_page_has_every_public_name_and_every_example() -> None:
    assert all(f"`fasttail.{name}`" in TEXT for name in fasttail.__all__)
    examples = (PAGE.parents[1] / "examples").glob("*.py")
    assert all(f"`{example.name}`" in TEXT for example in examples)
