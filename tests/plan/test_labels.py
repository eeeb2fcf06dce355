"""The order by itself, over labels alone."""

import numpy as np
import pytest
import torch

from fasttail import plan
from fasttail.errors import UserError
from fasttail.plan.samplers import schedule

COUNTS = (60, 25, 11, 4)


def labels(seed: int = 0) -> np.ndarray:
    labels_N = np.repeat(np.arange(len(COUNTS)), COUNTS)
    np.random.default_rng(seed).shuffle(labels_N)
    return labels_N


def whole(epoch: plan.OrderEpoch) -> tuple[np.ndarray, np.ndarray]:
    ids, classes = zip(*(epoch.batch(step) for step in range(epoch.steps)), strict=True)
    return np.concatenate(ids), np.concatenate(classes)


def test_the_order_is_that_of_training_on_images(make_split):
    split = make_split(COUNTS)
    view = plan.View.center(224, 256)
    p = schedule("progressive", split.counts_C, 6)
    at = plan.order(split.labels_N, "progressive", batch_size=8, epochs=6, seed=3)
    for epoch in (0, 5):
        images = plan.TrainEpoch(split, p_C=p, view=view, seed=3, epoch=epoch, batch_size=8)
        for step in (0, 7):
            ids_B, labels_B = at(epoch).batch(step)
            assert (ids_B == images.batch(step).ids_B).all()
            assert (labels_B == images.batch(step).labels_B).all()
            assert (split.labels_N[ids_B] == labels_B).all()


@pytest.mark.parametrize("sampler", ["instance", "class", "sqrt", "power:0.3", "deferred:2"])
def test_classes_are_drawn_by_their_shares_within_one_draw_over_all_epochs(sampler):
    at = plan.order(labels(), sampler, batch_size=10, epochs=4)
    p = schedule(sampler, np.array(COUNTS), 4)
    seen_C, owed_C = np.zeros(4), np.zeros(4)
    for epoch in range(4):
        ids, classes = whole(at(epoch))
        assert (labels()[ids] == classes).all()
        seen_C += np.bincount(classes, minlength=4)
        owed_C += 100 * p(epoch)
        assert np.abs(seen_C - owed_C).max() < 1


def test_after_the_last_epoch_a_sampler_that_changes_stays_as_it_was():
    at = plan.order(labels(), "progressive", batch_size=10, epochs=3)
    assert np.bincount(whole(at(7))[1]).tolist() == [25, 25, 25, 25]


@pytest.mark.parametrize(
    "given", [labels().astype(np.uint8), labels().tolist(), torch.from_numpy(labels())], ids=type
)
def test_labels_may_be_numpys_torchs_or_a_list(given):
    expected = whole(plan.order(labels(), "class", batch_size=10, epochs=1)(0))
    found = whole(plan.order(given, "class", batch_size=10, epochs=1)(0))
    assert (found[0] == expected[0]).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((4, 1), int), r"shape \[4, 1\].*labels.argmax\(1\)"),
        ([], r"shape \[0\]"),
        (3, r"shape \[\]"),
        ([0.0, 1.0], "float64, not whole numbers"),
        (["cat", "dog"], "not whole numbers"),
        ([True, False], "bool, not whole numbers"),
        ([0, 1, -1], "label -1 of sample 2 is negative"),
        ([0, 1, 3, 3, 5], "go up to 5, but no sample is of class 2, 4"),
        ([1, 2], "no sample is of class 0"),
        ([0, 10**12], "go up to 1000000000000, but no sample is of class 1"),
    ],
)
def test_labels_that_are_no_class_numbers_are_told_in_one_line(given, said):
    with pytest.raises(UserError, match=said) as raised:
        plan.order(given, "class", batch_size=1, epochs=1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampler": "sqr"}, "did you mean 'sqrt'"),
        ({"batch_size": 10, "world_size": 4}, "take a multiple of 4, 8 or 12"),
        ({"batch_size": 101}, "more than the split's 100 images"),
        ({"rank": 2, "world_size": 2}, "must be 0 to 1"),
        ({"draws": "iids"}, "did you mean 'iid'"),
    ],
)
def test_what_can_not_be_planned_is_refused_at_once(changes, said):
    with pytest.raises(UserError, match=said):
        plan.order(labels(), **{"sampler": "class", "batch_size": 10, "epochs": 1, **changes})
