"""Mixed batches against a loop over images in NumPy float64."""

import numpy as np
import pytest
import torch

from fasttail.config import LossConfig
from fasttail.plan.mixing import Mix, Mixing
from fasttail.train.losses import BatchLoss, loss_for_epoch
from fasttail.train.mixed import Targets, mixed

B, H, W = 12, 9, 14
COUNTS_C = np.array([500, 120, 30, 7])


@pytest.fixture
def drawn() -> Mix:
    mix = Mixing(0.8, 0.8, 0.9).at(seed=2, epoch=0, first=0, count=B, out_hw=(H, W))
    ways = (mix.blends_B < 1).sum(), mix.boxes_B4[:, 2:].all(1).sum(), (mix.shares_B == 1).sum()
    assert min(ways) >= 1, "some by mixup, some by CutMix, some as they are"
    return mix


def batch(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    images_BHWC = torch.randn(B, H, W, 3).to(dtype)
    return images_BHWC.permute(0, 3, 1, 2), torch.randint(0, 4, (B,))


def reference(images_BCHW: torch.Tensor, mix: Mix) -> np.ndarray:
    before = images_BCHW.double().numpy()
    after = np.empty_like(before)
    for b, partner in enumerate(mix.partners_B):
        share = float(mix.blends_B[b])
        after[b] = share * before[b] + (1 - share) * before[partner]
        top, left, height, width = mix.boxes_B4[b]
        box = (slice(None), slice(top, top + height), slice(left, left + width))
        after[b][box] = before[partner][box]
    return after


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_images_are_mixed_as_drawn(drawn: Mix, dtype: torch.dtype) -> None:
    images, labels = batch(dtype)
    got, targets = mixed(images, labels, drawn)
    assert got.dtype == dtype
    assert got.is_contiguous(memory_format=torch.channels_last)
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 0.03}[dtype]
    np.testing.assert_allclose(got.double().numpy(), reference(images, drawn), atol=tolerance)
    assert targets.partners_B is not None
    assert targets.partners_B.tolist() == labels[drawn.partners_B].tolist()
    torch.testing.assert_close(images, batch(dtype)[0])


def test_without_a_mix_images_and_labels_are_what_they_were() -> None:
    images, labels = batch()
    got, targets = mixed(images, labels, None)
    assert got is images
    assert targets == Targets(labels)


def loss_named(name: str) -> BatchLoss:
    return loss_for_epoch(
        LossConfig(name=name, drw_from=0.0),
        COUNTS_C,
        device=torch.device("cpu"),
        logit_scale=1.0,
        label_smoothing=0.0,
    )(0.5)


@pytest.mark.parametrize("name", ["cross-entropy", "weighted", "balanced-softmax", "ldam-drw"])
def test_a_mixed_batchs_loss_is_both_labels_by_their_shares(drawn: Mix, name: str) -> None:
    images, labels = batch()
    _, targets = mixed(images, labels, drawn)
    logits = torch.randn(B, 4)
    loss_of = loss_named(name)
    total = weight = 0.0
    for b, partner in enumerate(drawn.partners_B):
        share = float(drawn.shares_B[b])
        for label, part in ((labels[b], share), (labels[partner], 1 - share)):
            one = logits[b : b + 1], label[None]
            total += part * loss_of.losses_of(*one).item()
            weight += part * loss_of.weight(label[None]).item()
    got = targets.losses(loss_of, logits).sum() / targets.weight(loss_of)
    assert got.item() == pytest.approx(total / weight, rel=1e-5)
    parts = [
        part.losses(loss_of, logits_b).sum()
        for part, logits_b in zip(targets.chunk(5), logits.chunk(5), strict=True)
    ]
    assert (sum(parts) / targets.weight(loss_of)).item() == pytest.approx(got.item(), rel=1e-6)
