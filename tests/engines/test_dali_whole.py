"""DALI's two ways to a box: an image decoded whole and cut, which is the GPU's, and its region."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from fasttail import engines
from fasttail.engines import dali
from fasttail.engines.base import Engine
from fasttail.engines.dali_backend import KINDS, decoded_by, samples, why_not_regions
from fasttail.errors import NotHere

from .conftest import StoredSplit, jpeg, photo, random_plan

Store = Callable[[Sequence[bytes | np.ndarray]], StoredSplit]
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
pytestmark = [
    pytest.mark.dali,
    pytest.mark.skipif(not dali.available(), reason="DALI is not installed"),
]


def stored(kind: str, seed: int) -> bytes:
    pixels_HWC = photo(97, 130, seed=seed)
    return jpeg(pixels_HWC[:, :, 0] if kind == "grey" else pixels_HWC, **KINDS[kind])


def images(engine: Engine, plan: object) -> torch.Tensor:
    found = torch.cat([batch.images_BHWC for batch in engine.run(plan)])  # type: ignore[arg-type]
    engine.close()
    return found.float()


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_box_of_a_whole_image_is_its_region_and_the_references(
    store: Store, kind: str, raw: bool
) -> None:
    samples: list[bytes | np.ndarray] = [stored(kind, seed=i) for i in range(6)]
    if raw:
        samples[1::2] = [photo(97, 130, seed=i) for i in range(3)]
    split = store(samples)
    plan = random_plan(split, (48, 40), batch=5, draws=40, seed=3)
    boxes_B4 = np.concatenate([batch.boxes_B4 for batch in plan.batches])
    assert (boxes_B4[:, :2] < 0).any(), "some leave the image"
    whole = images(dali.Dali(split, device=CPU, threads=2, regions=False), plan)
    region = images(dali.Dali(split, device=CPU, threads=2, regions=True), plan)
    assert (whole - region).abs().mean() < 0.05  # chroma at the region's edge
    expected = images(engines.make("reference", split, device=CPU, threads=1), plan)
    assert (whole - expected).abs().mean() <= 1.5
    assert expected.std() > 20


def test_regions_are_decoded_on_a_gpu_only_by_versions_that_do_it_right(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    assert why_not_regions("0.8.0.22") is None
    assert why_not_regions("0.9.0.20") == (
        "nvImageCodec 0.9.0.20 does not decode regions reliably, 0.8 (DALI 2.2) does"
    )
    monkeypatch.setattr("fasttail.engines.dali_backend._nvimgcodec", lambda: "0.9.0.20")
    split = store([stored("4:2:0", seed=0)])
    with pytest.raises(NotHere, match="the engine dali-region decodes no regions here: nvImage"):
        engines.make("dali-region", split, device=GPU, threads=1)
    # By itself it decodes whole images there, whatever the version; on a CPU, regions.
    assert not engines.make("dali", split, device=GPU, threads=1)._content.regions  # type: ignore[attr-defined]
    assert engines.make("dali", split, device=CPU, threads=1)._content.regions  # type: ignore[attr-defined]


def test_it_is_found_out_what_decodes_which_jpeg() -> None:
    assert decoded_by(CPU) == dict.fromkeys(KINDS, "the CPU")
    assert len(set(samples().values())) == len(KINDS)
