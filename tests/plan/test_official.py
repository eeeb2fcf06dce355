import numpy as np
import pytest
from scipy import stats

from fasttail.errors import UserError
from fasttail.plan.official import (
    OFFICIAL,
    CycledOrder,
    MultinomialOrder,
    ShuffledOrder,
    draws,
)
from fasttail.plan.orders import Epoch
from fasttail.plan.samplers import SAMPLERS

UNUSED = np.empty(0)


def test_every_sampler_of_the_paper_has_an_official_order():
    assert set(OFFICIAL) == set(SAMPLERS)
    assert [draws(s) for s in ("sqrt", "class")] == ["iid", "cycled"]
    with pytest.raises(UserError, match="official protocol"):
        draws("power:0.3")


@pytest.mark.parametrize("total", [400, 402])  # a multiple of four, and not
def test_classes_cycle_and_give_four_images_in_a_row(total, make_split):
    split = make_split([30, 9, 4, 2, 1])
    in_order = []
    for number in range(3):
        order = CycledOrder(split, UNUSED, Epoch(0, number, steps=1, batch_size=total))
        ids_B, classes_B = order.draw(0, total)
        assert (split.labels_N[ids_B] == classes_B).all()
        counts_C = np.bincount(classes_B, minlength=5)
        assert np.ptp(counts_C) <= 8  # an epoch may begin and end within a cycle
        in_order.append(ids_B)
    ids_B = np.concatenate(in_order)
    for c in range(5):  # without replacement, and on from epoch to epoch
        times = np.bincount(ids_B, minlength=46)[split.labels_N == c]
        assert np.ptp(times) <= (1 if total % 4 == 0 else 2)


def test_batches_of_the_cycled_order_hold_whole_rows_and_are_shuffled(long_tail):
    order = CycledOrder(long_tail, UNUSED, Epoch(0, 0, steps=50, batch_size=64))
    shuffled = 0
    rows = []
    for step in range(50):
        _, classes_B = order.draw(step * 64, 64)
        counts_C = np.bincount(classes_B, minlength=200)
        assert set(counts_C) <= {0, 4, 8}
        shuffled += (np.diff(classes_B) != 0).sum() > 30
        rows.append(counts_C // 4)
    assert shuffled == 50
    # 16 rows a batch: each 200 rows, 12.5 batches, are one cycle
    assert (sum(rows[:25]) == 2).all()


def test_images_of_a_class_come_in_shuffles_of_all_of_them(make_split):
    split = make_split([12, 12])
    ids = []
    for step in range(30):  # a batch is one cycle of classes, one row each
        ids_B, classes_B = CycledOrder(split, UNUSED, Epoch(3, 0, 30, 8)).draw(step * 8, 8)
        ids.append(np.sort(ids_B[classes_B == 0]))
    for i in range(0, 30, 3):
        assert len(np.unique(ids[i : i + 3])) == 12
    assert not all(np.array_equal(ids[0], ids[i]) for i in range(3, 30, 3))


def test_the_shuffled_order_has_no_image_twice(long_tail):
    size = len(long_tail.labels_N)
    order = ShuffledOrder(long_tail, UNUSED, Epoch(0, 0, size // 64, 64))
    ids_B, classes_B = order.draw(0, size // 64 * 64)
    assert (long_tail.labels_N[ids_B] == classes_B).all()
    assert np.bincount(ids_B).max() == 1


def test_multinomial_counts_scatter_as_independent_draws_do(long_tail):
    p_C = SAMPLERS["progressive"](long_tail.counts_C, 0.5)
    surplus = []
    for seed in range(5):
        order = MultinomialOrder(long_tail, p_C, Epoch(seed, 0, 100, 100))
        assert order.quota_C.sum() == 10_000
        surplus.append(stats.chisquare(order.quota_C, 10_000 * p_C).statistic)
        ids_B, _ = order.draw(0, 10_000)
        times_N = np.bincount(ids_B, minlength=len(long_tail.labels_N))[long_tail.samples_N]
        assert all(np.ptp(t) <= 1 for t in np.split(times_N, long_tail.indptr_C1[1:-1]))
    # a chi-square of 199 degrees of freedom: 199 on average, with a deviation of 20
    assert 150 < np.mean(surplus) < 250
