import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from scipy import stats

from fasttail.plan.permute import _ONE, _S32, _WEYL, PAIRS, _hash, cut, inline, permutation, permute
from fasttail.plan.random import key


def permuted(n: int, permutation_key: np.uint64) -> np.ndarray:
    out_N = np.empty(n, dtype=np.int64)
    permutation(n, permutation_key, out_N)
    return out_N


def test_every_n_up_to_5000_is_permuted_one_to_one():
    for n in range(1, 5001):
        assert (np.bincount(permuted(n, key("test", n)), minlength=n) == 1).all(), n


@pytest.mark.parametrize("n", [65_536, 65_537, 262_143, 1_000_003, 3_000_000])
def test_large_n_are_permuted_one_to_one(n):
    out_N = permuted(n, key("test", n))
    assert (np.bincount(out_N, minlength=n) == 1).all()
    assert not (out_N == permuted(n, key("test", n + 1))).all()


@inline
def unpermute(y, n, bits, rows, key):
    """The x that `permute` sends to y."""
    mask = (_ONE << bits) - _ONE
    last_key = key + np.uint64(2 * PAIRS) * _WEYL
    while True:
        left, right, key = y >> bits, y & mask, last_key
        for _ in range(PAIRS):
            key -= _WEYL
            right ^= _hash(left, key) & mask
            key -= _WEYL
            left -= (_hash(right, key) * rows) >> _S32
            left = min(left, left + rows)
        y = (left << bits) | right
        if y < n:
            return y


@given(st.integers(1, 2**62), st.integers(0, 2**62), st.integers(0, 2**64 - 1))
def test_any_n_can_be_run_backwards(n, x, permutation_key):
    x %= n
    bits, rows = (np.uint64(part) for part in cut(np.uint64(n)))
    args = np.uint64(n), bits, rows, np.uint64(permutation_key)
    y = permute(np.uint64(x), *args)
    assert 0 <= y < n
    assert unpermute(np.uint64(y), *args) == x


def test_the_product_exceeds_n_by_less_than_its_root_or_so():
    for n in [*range(9, 3000), 10**6, 10**9, 10**12 + 7, 2**62]:
        bits, rows = (int(part) for part in cut(np.uint64(n)))
        assert n <= rows << bits < n + (1 << bits)
        assert (1 << bits) ** 2 < 2 * n


@njit
def tally(keys, n, seen_pairs):
    """seen_pairs[i, j, a, b]: how often i went to a and j to b."""
    bits, rows = cut(n)
    to = np.empty(n, dtype=np.int64)
    for permutation_key in keys:
        for x in range(n):
            to[x] = permute(np.uint64(x), np.uint64(n), bits, rows, permutation_key)
        for i in range(n):
            for j in range(n):
                seen_pairs[i, j, to[i], to[j]] += 1


@njit
def tally_shifts(keys, n, seen_pairs):
    """The same for a poor permutation: every number moved on by the same random step."""
    for permutation_key in keys:
        step = np.int64(permutation_key % np.uint64(n))
        for i in range(n):
            for j in range(n):
                seen_pairs[i, j, (i + step) % n, (j + step) % n] += 1


def smallest_p_values(count, n: int, trials: int) -> tuple[float, float]:
    """Chi-square of where each number goes, and of where each pair goes, over many keys; the
    smallest p-value of each, times the number of tests."""
    keys = np.random.default_rng(n).integers(0, 2**64, trials, dtype=np.uint64)
    seen = np.zeros((n,) * 4, dtype=np.int64)
    count(keys, n, seen)
    singles = [np.diagonal(seen[i, i]) for i in range(n)]
    pairs = [seen[i, j][~np.eye(n, dtype=bool)] for i in range(n) for j in range(i)]
    single_p = min(stats.chisquare(cells).pvalue for cells in singles) * len(singles)
    pair_p = min(stats.chisquare(cells).pvalue for cells in pairs) * len(pairs)
    return single_p, pair_p


@pytest.mark.parametrize("n", range(2, 21))
def test_every_place_and_every_pair_of_places_is_equally_likely(n):
    single_p, pair_p = smallest_p_values(tally, n, trials=200_000)
    assert single_p > 1e-3
    assert pair_p > 1e-3


def test_the_chi_square_of_pairs_finds_a_poor_permutation_that_singles_pass():
    single_p, pair_p = smallest_p_values(tally_shifts, 7, trials=60_000)
    assert single_p > 1e-3
    assert pair_p < 1e-12


@pytest.mark.parametrize("n", [100, 1009, 437_513])
def test_places_and_distances_of_neighbours_are_even_for_larger_n(n):
    places, distances = np.zeros(50, dtype=np.int64), np.zeros(50, dtype=np.int64)
    rounds = max(1, 400_000 // n)
    for trial in range(rounds):
        out_N = permuted(n, key("chi", n, trial))
        for at in range(0, n - 1, 2):
            # one in two: neighbours' distances then share no number
            if at >= 20_000:
                break
            places[out_N[at] * 50 // n] += 1
            distances[(out_N[at + 1] - out_N[at]) % n * 50 // n] += 1
    share = np.bincount(np.arange(n) * 50 // n, minlength=50) / n
    assert stats.chisquare(places, share * places.sum()).pvalue > 1e-4
    share[0] -= 1 / n  # a distance is never 0
    assert stats.chisquare(distances, share / share.sum() * distances.sum()).pvalue > 1e-4


def test_orders_of_neighbouring_keys_are_not_correlated():
    n = 100_000
    orders = [permuted(n, key("order", s, e)) for s, e in ((0, 0), (0, 1), (1, 0), (1, 1))]
    for i, a in enumerate(orders):
        for b in orders[:i]:
            assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(n)
            assert (a == b).sum() < 12  # one is expected
