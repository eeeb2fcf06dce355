import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fasttail.plan.random import below, below64, key, philox4x32, unit, words

# From the authors' Random123 library, kat_vectors: philox4x32, 10 rounds.
KNOWN_ANSWERS = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
# Multipliers and key steps of Philox4x32 and Philox4x64, from the paper.
CONSTANTS = {
    32: (0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85),
    64: (0xD2E7470EE14C6C93, 0xCA5A826395121157, 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B),
}


def philox_in_words_of(bits, counter, key_pair):
    """Philox4xW-10 in plain Python, for W of 32 or 64."""
    mask = (1 << bits) - 1
    mul_0, mul_1, step_0, step_1 = CONSTANTS[bits]
    c0, c1, c2, c3 = counter
    k0, k1 = key_pair
    for _ in range(10):
        p0, p1 = mul_0 * c0, mul_1 * c2
        c0, c1, c2, c3 = (p1 >> bits) ^ c1 ^ k0, p1 & mask, (p0 >> bits) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + step_0) & mask, (k1 + step_1) & mask
    return c0, c1, c2, c3


def ours(counter, key_pair):
    return tuple(int(w) for w in philox4x32(*map(np.uint32, counter), *map(np.uint32, key_pair)))


@pytest.mark.parametrize(("counter", "key_pair", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter, key_pair, answer):
    assert ours(counter, key_pair) == answer


def test_philox_in_plain_python_is_numpys_at_64_bits_and_ours_at_32():
    generator = np.random.default_rng(3)
    for _ in range(20):
        key_pair = [int(k) for k in generator.integers(0, 2**63, 2)]
        low = int(generator.integers(0, 2**63))
        bit_generator = np.random.Philox(key=key_pair[0] + (key_pair[1] << 64), counter=low)
        theirs = tuple(int(w) for w in bit_generator.random_raw(4))
        # numpy counts up before it draws
        assert philox_in_words_of(64, (low + 1, 0, 0, 0), key_pair) == theirs
    for _ in range(200):
        counter = [int(c) for c in generator.integers(0, 2**32, 4)]
        key_pair = [int(k) for k in generator.integers(0, 2**32, 2)]
        assert philox_in_words_of(32, counter, key_pair) == ours(counter, key_pair)


def test_words_use_all_64_bits_of_position_and_key():
    stream = key("test", 1)
    seen = {
        tuple(words(np.uint64(int(stream) ^ bit), position, block))
        for bit in (0, 1, 1 << 31, 1 << 32, 1 << 63)
        for position in (0, 1, 1 << 31, 1 << 32, 1 << 50)
        for block in (0, 1)
    }
    assert len(seen) == 5 * 5 * 2


def test_keys_of_different_tuples_differ_and_stay_what_they_are():
    tuples = [(seed, epoch) for seed in range(50) for epoch in range(50)]
    keys = {int(key(purpose, *t)) for purpose in ("order", "box") for t in tuples}
    assert len(keys) == 2 * len(tuples)
    assert key("order", 0, 1) != key("order", 1, 0)
    assert key("order", 1, 11) != key("order", 11, 1)
    assert key("order", 0, 0) == 11032319043029159210  # pinned: a run's order hangs on it


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(1, 2**62), st.integers(1, 32)
)
def test_numbers_below_n_are_the_upper_half_of_the_product(low, high, n, bits):
    assert below64(np.uint32(low), np.uint32(high), n) == ((high << 32 | low) * n) >> 64
    small = 1 + n % (1 << bits)
    assert below(np.uint32(low), small) == (low * small) >> 32


def test_units_lie_strictly_between_0_and_1():
    assert 0 < unit(np.uint32(0)) < 1e-9
    assert 1 - 1e-9 < unit(np.uint32(2**32 - 1)) < 1
