"""The plan in a stock FFCV Loader, in a process of its own: see `helpers/stock_ffcv.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fasttail import BalancedBatchSampler, open_shards

pytest.importorskip("ffcv")

pytestmark = pytest.mark.ffcv

PROGRAM = """
import json, sys
import numpy as np
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader
from ffcv.pipeline.compiler import Compiler
from fasttail.errors import UserError
from fasttail.integrations.ffcv import Order

Compiler.set_enabled(False)  # of its pipelines: it would take most of the time
beton = sys.argv[1]
label = {"label": [IntDecoder()]}

def loader(order, **options):
    return Loader(beton, num_workers=1, order=order, os_cache=True, **options)

def sums(images):
    return images.reshape(len(images), -1)[:, :64].sum(1).tolist()

ranked = loader(Order("sqrt", epochs=5, rank=1, world_size=2), batch_size=4,
                pipelines={"image": [SimpleRGBImageDecoder()], **label})
subset = loader(Order("class"), batch_size=8, indices=list(range(0, 78, 2)),
                pipelines={"image": None, **label})
found = {
    "rank 1 of 2": [[[y.ravel().tolist(), sums(x)] for x, y in ranked] for _ in range(2)],
    "subset": [[y.ravel().tolist() for (y,) in subset] for _ in range(2)],
}
labels = np.arange(78) % 3
for order, batch_size in [
    (Order("class", field="lable"), 8), (Order("clas"), 8),
    (Order("class", labels=labels - 1), 8), (Order("class", labels=labels * 2), 8),
    (Order("class", labels=labels / 2), 8), (Order("class", labels=np.eye(3)[labels]), 8),
    (Order("class", rank=0, world_size=2), 64),
]:
    try:
        loader(order, batch_size=batch_size, pipelines=label)
    except UserError as error:
        found.setdefault("errors", []).append(str(error))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(blob_shards: Path) -> dict:
    (beton,) = blob_shards.glob("train*.beton")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(beton)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_stock_loader_gives_a_ranks_share_of_the_plan_epoch_after_epoch(found, blob_shards: Path):
    split = open_shards(blob_shards).split("train")
    sampler = BalancedBatchSampler(
        split.labels_N, "sqrt", batch_size=8, epochs=5, rank=1, world_size=2
    )

    def sums(ids: list[int]) -> list[int]:
        return [int(split.bytes(i)[:64].astype(int).sum()) for i in ids]

    expected = [[[split.labels_N[ids].tolist(), sums(ids)] for ids in sampler] for _ in range(2)]
    assert found["rank 1 of 2"] == expected


def test_with_indices_the_plan_is_of_those_samples(found, blob_shards: Path):
    labels_N = open_shards(blob_shards).split("train").labels_N[::2]
    sampler = BalancedBatchSampler(labels_N, "class", batch_size=8)
    assert found["subset"] == [[labels_N[ids].tolist() for ids in sampler] for _ in range(2)]


def test_a_users_mistake_is_told_when_the_loader_is_made(found):
    field, sampler, negative, gaps, dtype, shape, batch = found["errors"]
    assert "no field 'lable' among image, label" in field
    assert "did you mean 'class'" in sampler
    assert "label -1 of sample 0 is negative" in negative
    assert "no sample is of class 1, 3" in gaps
    assert "labels are float64, not whole numbers" in dtype
    assert "labels of shape [78, 3]" in shape
    assert "batch size 128 is more than the split's 78 images" in batch
