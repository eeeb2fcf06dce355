"""What only a GPU can show: where batches lie, and that no memory is reused while it is read."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from fasttail import engines
from fasttail.engines import dali
from fasttail.engines.augment import augment
from fasttail.engines.dali_backend import KINDS, decoded_by

from .conftest import StoredSplit, jpeg, photo, random_jitter, random_plan

Store = Callable[[Sequence[bytes | np.ndarray]], StoredSplit]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU"),
]
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
ON_GPU = ["ffcv", "resident", pytest.param("dali", marks=pytest.mark.dali)]


def make(name: str, split: StoredSplit) -> engines.Engine:
    if name == "dali" and not dali.available():
        pytest.skip("DALI is not installed")
    return engines.make(name, split, device=GPU, threads=2)


@pytest.mark.parametrize("name", ON_GPU)
def test_batches_on_the_gpu_are_the_references(store: Store, name: str) -> None:
    split = store(
        [jpeg(photo(64, 64, seed=i)) if i % 2 else photo(64, 64, seed=i) for i in range(16)]
    )
    plan = random_plan(split, (48, 40), batch=6, draws=40, seed=1)
    engine, reference = make(name, split), engines.make("reference", split, device=CPU, threads=1)
    for found, expected in zip(engine.run(plan), reference.run(plan), strict=True):
        assert found.images_BHWC.device == found.labels_B.device == found.ids_B.device == GPU
        assert torch.equal(found.labels_B.cpu(), expected.labels_B)
        difference = (found.images_BHWC.cpu().float() - expected.images_BHWC.float()).abs()
        assert difference.mean() <= 1.5
    engine.close()


@pytest.mark.dali
@pytest.mark.parametrize("kind", KINDS)
def test_dali_decodes_every_kind_of_jpeg_on_the_gpu(store: Store, kind: str) -> None:
    pixels = [photo(97, 130, seed=i) for i in range(8)]
    if kind == "grey":
        pixels = [image[:, :, 0] for image in pixels]
    split = store([jpeg(image, **KINDS[kind]) for image in pixels])
    plan = random_plan(split, (48, 40), batch=6, draws=40, seed=6)
    engine, reference = make("dali", split), engines.make("reference", split, device=CPU, threads=1)
    for found, expected in zip(engine.run(plan), reference.run(plan), strict=True):
        difference = found.images_BHWC.cpu().float() - expected.images_BHWC.float()
        assert difference.abs().mean() <= 1.5
    engine.close()
    assert decoded_by(GPU)[kind] != "the CPU"


@pytest.mark.parametrize("name", ON_GPU)
def test_no_batch_is_touched_while_the_gpu_still_reads_it(store: Store, name: str) -> None:
    split = store([photo(64, 64, seed=i) for i in range(32)])
    plan = random_plan(split, (224, 224), batch=32, draws=32 * 30, seed=2)
    engine = make(name, split)
    expected = [batch.images_BHWC.double().sum().item() for batch in engine.run(plan)]
    weight = torch.randn(2048, 2048, device=GPU)
    sums = []
    for batch in engine.run(plan):
        # The GPU is kept busy, so that batches are read long after they were dropped here.
        for _ in range(20):
            weight = (weight @ weight).clamp_(-1, 1)
        sums.append(batch.images_BHWC.double().sum() + 0 * weight[0, 0])
        del batch
    assert [value.item() for value in sums] == expected
    assert len(set(expected)) > 1
    engine.close()


@pytest.mark.parametrize("name", ON_GPU)
def test_nothing_leaks_on_the_gpu(store: Store, name: str) -> None:
    split = store([photo(64, 64, seed=i) for i in range(16)])
    plan = random_plan(split, (64, 64), batch=8, draws=64, seed=3)
    engine = make(name, split)
    for _ in range(3):
        list(engine.run(plan))
    torch.cuda.synchronize()
    free, _ = torch.cuda.mem_get_info()
    for number in range(20):
        batches = engine.run(plan)
        for step, _ in enumerate(batches):
            if number % 2 and step == 1:
                break
        batches.close()
    torch.cuda.synchronize()
    assert free - torch.cuda.mem_get_info()[0] < 32e6
    engine.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_augment_on_the_gpu_is_augment_on_the_cpu(store: Store, dtype: torch.dtype) -> None:
    split = store([photo(64, 64, seed=i) for i in range(8)])
    plan = random_plan(split, (32, 32), batch=8, draws=8, seed=4)
    (batch,) = engines.make("reference", split, device=CPU, threads=1).run(plan)
    for drawn in (None, random_jitter(8, hue=0.2, seed=5)):
        jittered = type(batch)(batch.images_BHWC, batch.labels_B, batch.ids_B, drawn)
        settings = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.3), "dtype": dtype}
        on_cpu = augment(jittered, device=CPU, **settings)
        on_gpu = augment(jittered, device=GPU, **settings)
        assert on_gpu.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=2**-7, atol=1e-2)
