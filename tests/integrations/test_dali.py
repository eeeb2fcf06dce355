"""The plan in a DALI pipeline that somebody else has written."""

import gc
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fasttail import BalancedBatchSampler, open_shards
from fasttail.errors import UserError

pytest.importorskip("nvidia.dali")

from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline

from fasttail.integrations.dali import source

pytestmark = pytest.mark.dali

COUNTS = (20, 8, 4)
LABELS = np.repeat(np.arange(3), COUNTS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """JPEGs that tell which they are by their width."""
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / f"{i}.jpg" for i in range(len(LABELS))]
    for i, path in enumerate(paths):
        Image.new("RGB", (8 + i, 8)).save(path)
    return paths


def widths_and_labels(given, batch: int, **options) -> list[tuple[list[int], list[int]]]:
    """Two epochs, with a pipeline of our own."""
    pipeline = Pipeline(batch_size=batch, num_threads=1, device_id=None, **options)
    with pipeline:
        jpegs, labels = fn.external_source(
            given, num_outputs=2, batch=False, parallel="py_num_workers" in options,
            dtype=[types.UINT8, types.INT64],
        )  # fmt: skip
        pipeline.set_outputs(fn.decoders.image(jpegs, device="cpu"), labels)
    pipeline.build()
    found = []
    for _ in range(2):
        while True:
            try:
                images, labels = pipeline.run()
            except StopIteration:
                break
            widths = [images.at(b).shape[1] for b in range(len(images))]
            found.append((widths, labels.as_array().ravel().tolist()))
        pipeline.reset()
    return found


@pytest.mark.parametrize("rank", [None, 1])
def test_a_pipeline_gets_the_planned_files_epoch_after_epoch(rank, files):
    ranks = {} if rank is None else {"rank": rank, "world_size": 2}
    given = source(files, "sqrt", labels=LABELS, batch_size=8, epochs=5, **ranks)
    sampler = BalancedBatchSampler(LABELS, "sqrt", batch_size=8, epochs=5, **ranks)
    expected = [*sampler, *sampler]
    found = widths_and_labels(given, sampler.batch_size)
    assert [widths for widths, _ in found] == [[8 + i for i in ids] for ids in expected]
    assert [labels for _, labels in found] == [LABELS[ids].tolist() for ids in expected]


# DALI leaves the socket to its workers to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_worker_processes_get_the_same(files):
    given = source(files, "class", labels=LABELS, batch_size=8)
    again = pickle.loads(pickle.dumps(given))  # noqa: S301
    assert len(again) == 4
    in_workers = {"py_num_workers": 1, "py_start_method": "spawn"}
    assert widths_and_labels(again, 8, **in_workers) == widths_and_labels(given, 8)
    gc.collect()


def test_what_dali_can_not_take_is_told(files, blob_shards: Path):
    with pytest.raises(UserError, match="78 images of train are stored as pixels"):
        source(open_shards(blob_shards).split("train"), "class", batch_size=8)
    with pytest.raises(UserError, match="files come without labels"):
        source(files, "class", batch_size=8)
    with pytest.raises(UserError, match="32 images, but 31 labels"):
        source(files, "class", labels=LABELS[1:], batch_size=8)
    with pytest.raises(UserError, match="give it batch=False"):
        source(files, "class", labels=LABELS, batch_size=8)(0)
