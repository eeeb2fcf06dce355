import re

import numpy as np
import pytest
from scipy import stats

from fasttail.config import TrainConfig
from fasttail.errors import UserError
from fasttail.plan import TrainEpoch, View
from fasttail.plan.epoch import DRAWS
from fasttail.plan.mixing import Mix, Mixing
from fasttail.plan.samplers import SAMPLERS
from fasttail.plans import stage1_mixes
from fasttail.world import World

HW = (24, 40)
COUNT = 20_000


def mix(mixup: float, cutmix: float, p: float = 1.0, *, epoch: int = 0, first: int = 0) -> Mix:
    return Mixing(mixup, cutmix, p).at(seed=0, epoch=epoch, first=first, count=COUNT, out_hw=HW)


def arrays(given: Mix) -> tuple[np.ndarray, ...]:
    return given.partners_B, given.blends_B, given.boxes_B4, given.shares_B


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0])
def test_shares_of_mixup_are_from_the_beta_distribution(alpha: float):
    drawn = mix(alpha, 0)
    numpys = np.random.default_rng(0).beta(alpha, alpha, COUNT).astype(np.float32)
    assert stats.ks_2samp(drawn.shares_B, numpys).pvalue > 0.01
    np.testing.assert_array_equal(drawn.blends_B, drawn.shares_B)
    assert not drawn.boxes_B4.any()


def test_a_box_of_cutmix_is_within_the_image_and_what_it_leaves_is_the_share():
    drawn = mix(0, 1.0)
    top, left, height, width = drawn.boxes_B4.T
    assert min(top.min(), left.min(), height.min(), width.min()) == 0
    assert (top + height).max() == HW[0]
    assert (left + width).max() == HW[1]
    np.testing.assert_allclose(drawn.shares_B, 1 - height * width / (HW[0] * HW[1]), rtol=1e-6)
    assert (drawn.blends_B == 1).all()


def test_boxes_of_cutmix_are_those_of_the_paper_in_numpy():
    generator = np.random.default_rng(0)
    share = generator.beta(0.7, 0.7, COUNT)
    height, width = (np.rint(px * np.sqrt(1 - share)).astype(int) for px in HW)
    y, x = (generator.integers(0, px, COUNT) for px in HW)
    bottom, right = (
        np.minimum(y - height // 2 + height, HW[0]),
        np.minimum(x - width // 2 + width, HW[1]),
    )
    top, left = np.maximum(y - height // 2, 0), np.maximum(x - width // 2, 0)
    expected = np.stack([top, left, bottom - top, right - left])
    ours = mix(0, 0.7).boxes_B4.T
    for drawn, theirs in zip(ours, expected, strict=True):
        assert stats.ks_2samp(drawn, theirs).pvalue > 0.01


def test_with_both_an_image_is_mixed_in_one_way_and_p_is_the_share_of_those_that_are():
    drawn = mix(0.5, 0.5, p=0.6)
    by_mixup, by_box = drawn.blends_B < 1, drawn.boxes_B4[:, 2:].all(1)
    assert not (by_mixup & by_box).any()
    assert (drawn.shares_B[~(by_mixup | by_box)] == 1).all()
    assert abs(by_mixup.mean() - 0.3) < 0.015
    assert abs(by_box.mean() - 0.3) < 0.02  # a box may have no pixel


def test_partners_are_each_others_and_draws_hang_on_seed_epoch_and_position_alone():
    whole = mix(0.3, 0.3, first=200)
    np.testing.assert_array_equal(whole.partners_B[whole.partners_B], np.arange(COUNT))
    assert (abs(whole.partners_B - np.arange(COUNT)) == 1).all()
    part = Mixing(0.3, 0.3, 1.0).at(seed=0, epoch=0, first=300, count=50, out_hw=HW)
    for drawn, expected in zip(arrays(part)[1:], arrays(whole)[1:], strict=True):
        np.testing.assert_array_equal(drawn, expected[100:150])
    shares = [mix(0.3, 0).shares_B, mix(0.3, 0, epoch=1).shares_B]
    shares.append(Mixing(0.3, 0, 1.0).at(1, 0, 0, COUNT, HW).shares_B)
    assert not np.array_equal(shares[0], shares[1])
    assert not np.array_equal(shares[1], shares[2])


def test_the_first_draws_are_those_that_are_pinned():
    drawn = Mixing(0.2, 1.0, 1.0).at(seed=0, epoch=0, first=0, count=6, out_hw=(32, 32))
    assert drawn.shares_B.astype(float).round(6).tolist() == PINNED_SHARES
    assert drawn.boxes_B4.tolist() == PINNED_BOXES


PINNED_SHARES = [0.8125, 0.785156, 0.707031, 0.648438, 0.999999, 0.795898]
PINNED_BOXES = [
    [20, 0, 12, 16],
    [9, 0, 20, 11],
    [2, 0, 20, 15],
    [14, 12, 18, 20],
    [0, 0, 0, 0],
    [0, 0, 11, 19],
]


def config(batch_size: int = 48, **mixing: float) -> TrainConfig:
    return TrainConfig.model_validate(
        {"optim": {"batch_size": batch_size}, "mix": mixing, "data": {"px": 32}}
    )


def test_the_same_images_are_mixed_on_1_2_and_4_ranks():
    asked = config(mixup_alpha=0.4, cutmix_alpha=1.0)
    alone = stage1_mixes(asked, World())(3, 7)
    assert alone is not None
    for size in (2, 4):
        ranks = [stage1_mixes(asked, World(rank=r, size=size))(3, 7) for r in range(size)]
        shares = [arrays(rank) for rank in ranks if rank is not None]
        for r, share in enumerate(shares):
            share[0][:] += r * 48 // size  # places in the whole batch
        for whole, parts in zip(arrays(alone), zip(*shares, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_nothing_is_mixed_unless_it_is_asked_for():
    assert stage1_mixes(config(), World())(0, 0) is None
    assert stage1_mixes(config(mixup_alpha=1.0, p=0.0), World())(0, 0) is None
    assert stage1_mixes(config(cutmix_alpha=1.0), World())(0, 0) is not None


def test_a_batch_that_ranks_can_not_take_in_pairs_is_refused():
    stage1_mixes(config(36), World(rank=0, size=4))
    message = "batch size 36 can't be mixed in pairs on 4 ranks: take a multiple of 8, 32 or 40"
    with pytest.raises(UserError, match=re.escape(message)):
        stage1_mixes(config(36, mixup_alpha=1.0), World(rank=0, size=4))


@pytest.mark.parametrize("draws", DRAWS)
def test_a_partner_is_of_the_same_class_as_often_as_any_image_of_the_batch(draws, long_tail):
    view = View.whole(8)
    same = expected = 0.0
    for epoch in range(2):
        p_C = SAMPLERS["sqrt"](long_tail.counts_C, 0.5)
        plan = TrainEpoch(
            long_tail, p_C=p_C, view=view, seed=0, epoch=epoch, batch_size=48, draws=draws
        )
        for step in range(plan.steps):
            labels_B = plan.batch(step).labels_B
            same += (labels_B[0::2] == labels_B[1::2]).sum()
            counts_C = np.bincount(labels_B)
            expected += 24 * (counts_C * (counts_C - 1)).sum() / (48 * 47)
    assert abs(same - expected) < 4 * np.sqrt(expected)
