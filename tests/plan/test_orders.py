from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fasttail.plan.orders import ClassDraws, Epoch, IidOrder, Lookup, QuotaOrder, find
from fasttail.plan.permute import PAIRS, cut
from fasttail.plan.random import key
from fasttail.plan.samplers import SAMPLERS, class_balanced, instance

MASK = (1 << 64) - 1


def python_hash(half: int, round_key: int) -> int:
    x = ((half ^ round_key) & 0xFFFFFFFF) * 0xD2511F53
    x = ((x ^ (x >> 32)) & 0xFFFFFFFF) ^ (round_key >> 32)
    return (x * 0xCD9E8D57 & MASK) >> 32


def python_permute(x: int, n: int, permutation_key: int) -> int:
    bits, rows = (int(part) for part in cut(np.uint64(n)))
    while True:
        left, right, k = x >> bits, x & ((1 << bits) - 1), permutation_key
        for _ in range(PAIRS):
            left = (left + (python_hash(right, k) * rows >> 32)) % rows
            k = (k + 0x9E3779B97F4A7C15) & MASK
            right ^= python_hash(left, k) & ((1 << bits) - 1)
            k = (k + 0x9E3779B97F4A7C15) & MASK
        x = left << bits | right
        if x < n:
            return x


def python_subkey(family: int, number: int) -> int:
    x = (family + (number + 1) * 0x9E3779B97F4A7C15) & MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def python_draw(position, indptr, drawn, quota, order_key, ring_key) -> tuple[int, int]:
    """Place in the class-index table, and class, of a position: the order told in plain Python."""
    slot = python_permute(position, sum(quota), order_key)
    c = 0
    while slot >= quota[c]:
        slot -= quota[c]
        c += 1
    size = indptr[c + 1] - indptr[c]
    place = python_permute((drawn[c] + slot) % size, size, python_subkey(ring_key, c))
    return indptr[c] + place, c


def plain_ints(*arrays):
    return [[int(x) for x in array] for array in arrays]


def test_the_order_is_that_of_a_plain_python_telling(make_split):
    split = make_split([50, 20, 7, 8, 2, 1])
    drawn_C, quota_C = np.array([3, 99, 0, 7, 1, 12]), np.array([10, 0, 31, 8, 1, 50])
    keys = key("order", 1, 2), key("ring", 1)
    ids_B, classes_B = ClassDraws(split, drawn_C, quota_C, *keys).draw(0, 100)
    for position in range(100):
        at, c = python_draw(
            position, *plain_ints(split.indptr_C1, drawn_C, quota_C), *map(int, keys)
        )
        assert (ids_B[position], classes_B[position]) == (split.samples_N[at], c)
    assert len(set(ids_B.tolist())) > 20


def test_a_billion_samples_are_reached_without_overflow(tmp_path):
    counts = [1_200_000_000, 3, 1_500_000_000]
    indptr_C1 = np.concatenate([[0], np.cumsum(counts)])
    samples_N = np.memmap(tmp_path / "sparse", dtype=np.int64, mode="w+", shape=(sum(counts),))
    drawn_C, quota_C = np.array([5 * 10**12, 7, 10**13]), np.array([2**31 + 5, 9, 2**33])
    keys = key("order", 0, 0), key("ring", 0)
    table = SimpleNamespace(indptr_C1=indptr_C1, samples_N=samples_N)
    order = ClassDraws(table, drawn_C, quota_C, *keys)
    first = int(quota_C.sum()) - 64
    told = [
        python_draw(p, *plain_ints(indptr_C1, drawn_C, quota_C), *map(int, keys))
        for p in range(first, first + 64)
    ]
    assert max(at for at, _ in told) > 2**31
    for i, (at, _) in enumerate(told):
        samples_N[at] = 1000 + i
    ids_B, classes_B = order.draw(first, 64)
    assert ids_B.tolist() == [1000 + i for i in range(64)]
    assert classes_B.tolist() == [c for _, c in told]


@pytest.mark.parametrize("name", SAMPLERS)
def test_quotas_are_exact_and_every_image_of_a_class_is_drawn_k_or_k_plus_1_times(name, long_tail):
    p_C = SAMPLERS[name](long_tail.counts_C, 0.4)
    size = len(long_tail.labels_N)
    run_N = np.zeros(size, dtype=np.int64)
    orders = []
    for number in range(4):
        order = QuotaOrder(long_tail, p_C, Epoch(0, number, steps=size // 64, batch_size=64))
        ids_B, classes_B = order.draw(0, size // 64 * 64)
        assert (classes_B == long_tail.labels_N[ids_B]).all()
        assert (np.bincount(classes_B, minlength=200) == order.quota_C).all()
        times_N = np.bincount(ids_B, minlength=size)
        run_N += times_N
        for seen_N in (times_N, run_N):  # in the epoch, and in all epochs so far
            by_class = np.split(seen_N[long_tail.samples_N], long_tail.indptr_C1[1:-1])
            assert all(np.ptp(times) <= 1 for times in by_class)
        orders.append(ids_B)
    assert not (orders[0] == orders[1]).all()


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.integers(1, 60),
    st.integers(0, 5),
    st.sampled_from(["instance", "class", "sqrt", "progressive"]),
)
def test_any_set_however_ragged_is_drawn_exactly(make_split, counts, batch_size, number, name):
    split = make_split(counts)
    p_C = SAMPLERS[name](split.counts_C, 0.5)
    order = QuotaOrder(split, p_C, Epoch(0, number, steps=3, batch_size=batch_size))
    ids_B, classes_B = order.draw(0, 3 * batch_size)
    assert (split.labels_N[ids_B] == classes_B).all()
    quota_C = np.bincount(classes_B, minlength=len(counts))
    assert np.abs(quota_C - 3 * batch_size * p_C).max() < 1 + 1e-5
    times_N = np.bincount(ids_B, minlength=len(split.labels_N))[split.samples_N]
    for times in np.split(times_N, split.indptr_C1[1:-1]):
        assert np.ptp(times) <= 1


def test_draws_are_spread_over_the_epoch_evenly(long_tail):
    """Chi-square of classes by tenths of the epoch: as in a random order, neither more nor less."""
    p_C = class_balanced(long_tail.counts_C, 0)
    tables = []
    for seed in range(10):
        order = QuotaOrder(long_tail, p_C, Epoch(seed, 0, steps=200, batch_size=100))
        _, classes_B = order.draw(0, 20_000)
        table = np.zeros((10, 200), dtype=np.int64)
        np.add.at(table, (np.arange(20_000) // 2_000, classes_B), 1)
        tables.append(stats.chi2_contingency(table).pvalue)
    assert stats.kstest(tables, "uniform").pvalue > 1e-3


def test_epochs_and_seeds_are_not_correlated(long_tail):
    p_C = instance(long_tail.counts_C, 0)
    total = len(long_tail.labels_N)
    runs = {
        (seed, number): QuotaOrder(long_tail, p_C, Epoch(seed, number, 1, total)).draw(0, total)[0]
        for seed, number in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0))
    }
    keys = list(runs)
    for i, a in enumerate(keys):
        for b in keys[:i]:
            assert abs(stats.spearmanr(runs[a], runs[b]).statistic) < 5 / np.sqrt(total)
            assert (runs[a] == runs[b]).sum() < 12  # one is expected


def test_iid_draws_are_the_papers(long_tail):
    p_C = SAMPLERS["sqrt"](long_tail.counts_C, 0)
    ids_B, classes_B = IidOrder(long_tail, p_C, Epoch(0, 0, 1, 1)).draw(0, 400_000)
    assert (classes_B == long_tail.labels_N[ids_B]).all()
    assert stats.chisquare(np.bincount(classes_B), p_C * 400_000).pvalue > 1e-3
    head = np.bincount(ids_B[classes_B == 0], minlength=len(long_tail.labels_N))
    assert stats.chisquare(head[long_tail.labels_N == 0]).pvalue > 1e-3
    assert np.ptp(head[long_tail.labels_N == 0]) > 5  # not quotas
    follow = np.zeros((4, 4), dtype=np.int64)
    np.add.at(follow, (classes_B[:-1] // 50, classes_B[1:] // 50), 1)
    assert stats.chi2_contingency(follow).pvalue > 1e-3


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50).filter(any), st.integers(0, 2**40))
def test_a_slot_is_found_in_its_class(quotas, factor):
    sums_C1 = np.concatenate([[0], np.cumsum(np.array(quotas) * (factor + 1))])
    lookup = Lookup(sums_C1)
    for c in np.flatnonzero(quotas):
        for slot in (sums_C1[c], sums_C1[c + 1] - 1):
            assert find(slot, lookup.sums_C1, lookup.guide_G, lookup.shift) == c
