import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttail.plan import samplers
from fasttail.plan.quotas import MAX_TOTAL, quotas, shares

COUNTS = {
    "short": np.array([1000, 300, 40, 9, 2]),
    "exponential": np.array([int(1280 * 256 ** (-c / 999)) for c in range(1000)]),
    "pareto": np.sort(np.random.default_rng(0).pareto(0.8, 3000) * 3 + 2).astype(np.int64),
}


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("name", ["instance", "class", "sqrt", "power:0.3"])
def test_quotas_add_up_and_are_their_share_rounded_up_or_down(counts, name):
    counts_C = COUNTS[counts]
    p_C = samplers.parse(name, epochs=1)(counts_C, 0.0)
    for total in (1, 7, int(counts_C.sum()) // 128 * 128, 10**9 + 1):
        for epoch in (0, 1, 17):
            quota_C = quotas(p_C, total, epoch).quota_C
            assert quota_C.sum() == total
            assert np.abs(quota_C - total * p_C).max() < 1


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("name", ["instance", "class", "sqrt", "progressive", "deferred:20"])
def test_after_any_number_of_epochs_every_class_is_within_one_draw_of_its_shares(counts, name):
    counts_C, epochs = COUNTS[counts], 60
    p = samplers.schedule(name, counts_C, epochs)
    total = int(counts_C.sum()) // 32 * 32
    owed_C, before_C = np.zeros(len(counts_C)), np.zeros(len(counts_C), dtype=np.int64)
    rounded = 0
    for epoch in range(0, epochs):
        drawn_C, quota_C = quotas(p, total, epoch)
        assert (drawn_C == before_C).all()
        owed_C += total * p(epoch)
        before_C = drawn_C + quota_C
        assert np.abs(before_C - owed_C).max() < 1
        rounded += int((quota_C != total * p(epoch)).sum())
    assert rounded > 0


def test_a_whole_epoch_of_every_image_is_exactly_that():
    counts_C = COUNTS["exponential"]
    p_C = samplers.instance(counts_C, 0.0)
    assert (quotas(p_C, int(counts_C.sum()), 5).quota_C == counts_C).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30).filter(lambda p: sum(p) > 0.01),
    st.integers(1, 500),
    st.integers(0, 40),
)
def test_anything_is_within_two_draws_and_classes_without_probability_are_never_drawn(p, total, e):
    p_C = np.array(p) / sum(p)
    drawn_C, quota_C = quotas(p_C, total, e)
    assert drawn_C.sum() == e * total
    assert quota_C.sum() == total
    assert (quota_C >= 0).all()
    assert np.abs(quota_C - total * p_C).max() < 1 + 1e-5
    assert np.abs(drawn_C - e * total * p_C).max() < 2
    assert not quota_C[p_C == 0].any()
    assert not drawn_C[p_C == 0].any()


def test_shares_are_exact_where_they_are_whole():
    assert shares(np.array([0.25, 0.25, 0.5]), 8).tolist() == [0, 2 << 20, 4 << 20, 8 << 20]


@pytest.mark.parametrize("p", [[], [0.0, 0.0], [0.5, -0.1], [np.nan, 1.0], [np.inf], [[0.5, 0.5]]])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match="class probabilities"):
        shares(np.array(p), 10)


@pytest.mark.parametrize("total", [0, -1, MAX_TOTAL + 1])
def test_epochs_too_short_or_too_long_are_refused(total):
    with pytest.raises(ValueError, match="draws an epoch"):
        shares(np.array([1.0]), total)
