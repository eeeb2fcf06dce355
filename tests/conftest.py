"""Shards that every test may read: real images, few and small."""

import os

# Batches here are tiny: a second thread of torch's only waits, on a busy machine for long. Set
# before torch is imported, and inherited by the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from fasttail import shards
from fasttail.config import ConvertConfig
from fasttail.datasets.base import ArrayImages, Index, SplitIndex

# On a GPU's machine, where the `gpu` tests run, hypothesis need not be.
with suppress(ImportError):
    from hypothesis import settings

    # How long an example takes is the machine's matter: the first one compiles, others wait.
    settings.register_profile("fasttail", deadline=None)
    settings.load_profile("fasttail")

# A suite started in the background inherits that Ctrl-C is ignored; so would its children.
signal.signal(signal.SIGINT, signal.default_int_handler)

COUNTS = (40, 20, 10, 5, 3)


def blobs(counts: tuple[int, ...], seed: int) -> SplitIndex:
    """Images 32 x 32 whose class is the place and colour of a blob on noise."""
    generator = np.random.default_rng(seed)
    labels_N = np.repeat(np.arange(len(counts)), counts)
    images_NHWC = generator.integers(0, 90, size=(len(labels_N), 32, 32, 3), dtype=np.uint8)
    for image_HWC, label in zip(images_NHWC, labels_N, strict=True):
        top, left = divmod(int(label) * 7 % 16, 4)
        image_HWC[top * 6 : top * 6 + 12, left * 6 : left * 6 + 12, label % 3] += 120
    return SplitIndex(ArrayImages(images_NHWC, "blobs"), labels_N)


@pytest.fixture(scope="session")
def blob_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five long-tailed classes with val and test."""
    from fasttail.shards.convert import convert

    splits = {
        "train": blobs(COUNTS, seed=1),
        "val": blobs((4,) * len(COUNTS), seed=2),
        "test": blobs((8,) * len(COUNTS), seed=3),
    }
    names = tuple(f"blob {c}" for c in range(len(COUNTS)))
    index = Index("blobs", names, splits, (0.3, 0.3, 0.3), (0.2, 0.2, 0.2))
    out = tmp_path_factory.mktemp("shards") / "blobs"
    convert(index, out, ConvertConfig(jobs=1))
    assert set(shards.open(out).split_names) == {"train", "val", "test"}
    return out


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-golden", action="store_true", help="write tests/train/golden_losses.json anew"
    )
