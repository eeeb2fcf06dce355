"""Normalising and colour jitter against torchvision's own functions."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from fasttail.engines.augment import augment, jitter
from fasttail.engines.base import Batch, Jitter

from .conftest import photo, random_jitter

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def batch_of(count: int, drawn: Jitter | None) -> Batch:
    images_BHWC = torch.from_numpy(np.stack([photo(20, 24, seed=i) for i in range(count)]))
    return Batch(images_BHWC, torch.zeros(count), torch.arange(count), drawn)


def torchvisions(
    image_CHW: torch.Tensor, factors_4: np.ndarray, order_4: np.ndarray
) -> torch.Tensor:
    apply = [tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue]
    for operation in order_4:
        image_CHW = apply[operation](image_CHW, float(factors_4[operation]))
    return image_CHW


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_normalising_is_torchvisions_and_channels_last(dtype: torch.dtype) -> None:
    batch = batch_of(3, None)
    result = augment(batch, mean=MEAN, std=STD, dtype=dtype, device=CPU)
    expected = tv.normalize(batch.images_BHWC.permute(0, 3, 1, 2) / 255, list(MEAN), list(STD))
    assert result.dtype == dtype
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, expected.to(dtype), rtol=2**-7, atol=1e-2)
    if dtype == torch.float32:
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("hue", [0.0, 0.5])
def test_jitter_is_torchvisions_image_by_image_order_included(hue: float) -> None:
    drawn = random_jitter(24, hue=hue, seed=1)
    images_BCHW = batch_of(24, None).images_BHWC.permute(0, 3, 1, 2).float() / 255
    expected = torch.stack(
        [
            torchvisions(image, factors, order)
            for image, factors, order in zip(
                images_BCHW, drawn.factors_B4, drawn.order_B4, strict=True
            )
        ]
    )
    found = jitter(images_BCHW, drawn)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    other_order = Jitter(drawn.factors_B4, np.ascontiguousarray(drawn.order_B4[:, ::-1]))
    assert (jitter(images_BCHW, other_order) - expected).abs().max() > 0.01
    assert (found - images_BCHW).abs().mean() > 0.02


def test_jitter_of_nothing_changes_nothing() -> None:
    neutral = random_jitter(4, hue=0, seed=2)
    neutral.factors_B4[:, :3] = 1
    images_BCHW = batch_of(4, None).images_BHWC.permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(jitter(images_BCHW, neutral), images_BCHW, rtol=0, atol=1e-6)


def test_augment_leaves_the_batch_as_it_was() -> None:
    batch = batch_of(5, random_jitter(5, hue=0.1, seed=3))
    before = batch.images_BHWC.clone()
    jittered = augment(batch, mean=MEAN, std=STD, dtype=torch.float32, device=CPU)
    assert torch.equal(batch.images_BHWC, before)
    assert jittered.is_contiguous(memory_format=torch.channels_last)
    plain = augment(batch_of(5, None), mean=MEAN, std=STD, dtype=torch.float32, device=CPU)
    assert not torch.allclose(jittered, plain, atol=0.05)
