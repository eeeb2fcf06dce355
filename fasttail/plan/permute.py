"""A keyed permutation of 0..n-1 for any n: O(1) time, no table, and it can be run backwards.

A number x < n is cut into (left, right) with `right` its lowest k bits, k about half of n's. Rounds
then change one part by a keyed hash of the other, in turn:

    left  = (left + hash(right)) mod ceil(n / 2^k)
    right = right xor hash(left)

Each round can be undone, whatever the hash: an alternating Feistel network over a product of two
ranges (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). The product is
larger than n by less than 2^k; the few numbers that land out there go through again until they come
back ("cycle walking", same paper), which happens with odds of less than 1 in sqrt(n) or so: cheaper
than a Feistel network over whole bits, which walks up to four times.

Luby and Rackoff (1988): four rounds with random functions already pass for a random permutation.
Here are `ROUNDS` pairs of rounds, since for small n the functions have few values; chi-square tests
of places and of pairs of places (`tests/plan/test_permute.py`) hold from n = 2 on. The hash is two
multiplications with a xor-shift between, the constants Stafford's (variant 13 of his mixers of
MurmurHash3), the round keys a Weyl sequence from the key, as in Philox.
"""

import numpy as np

from fasttail.plan.compiled import inline, kernel

ROUNDS = 4  # pairs of rounds

_WEYL = np.uint64(0x9E3779B97F4A7C15)
_MUL_A = np.uint64(0xBF58476D1CE4E5B9)
_MUL_B = np.uint64(0x94D049BB133111EB)
_S27 = np.uint64(27)
_S30 = np.uint64(30)
_S31 = np.uint64(31)
_S32 = np.uint64(32)
_S64 = np.uint64(64)
_ONE = np.uint64(1)


@inline
def mix(x):
    """A bijection of 64-bit words whose every output bit depends on every input bit (SplitMix64's
    last step, Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> _S30)) * _MUL_A
    x = (x ^ (x >> _S27)) * _MUL_B
    return x ^ (x >> _S31)


@inline
def subkey(key, number):
    """Key `number` of a family: for the ring of class `number`, say."""
    return mix(key + (np.uint64(number) + _ONE) * _WEYL)


@inline
def low_bits(n):
    """How many bits of 0..n-1 make the right part: half of those that n - 1 has, rounded down."""
    bits = np.uint64(0)
    rest = np.uint64(n) - _ONE
    while rest > np.uint64(0):
        rest >>= _ONE
        bits += _ONE
    return bits >> _ONE


@inline
def _round_hash(x, round_key):
    x = (x ^ round_key) * _MUL_A
    return (x ^ (x >> _S32)) * _MUL_B


@inline
def permute(x, n, bits, key):
    """The place of x in the permutation of 0..n-1 that `key` stands for; `bits` = low_bits(n).

    Uneven by no more than n^(1/2) / 2^32 from the hash's scaling; n up to 2^62.
    """
    mask = (_ONE << bits) - _ONE
    rows = (np.uint64(n) + mask) >> bits
    y = np.uint64(x)
    while True:
        left = y >> bits
        right = y & mask
        round_key = key
        for _ in range(ROUNDS):
            left += ((_round_hash(right, round_key) >> _S32) * rows) >> _S32
            if left >= rows:
                left -= rows
            round_key += _WEYL
            right ^= (_round_hash(left, round_key) >> _S32) & mask
            round_key += _WEYL
        y = (left << bits) | right
        if y < np.uint64(n):
            return np.int64(y)


@inline
def unpermute(y, n, bits, key):
    """The x with permute(x, n, bits, key) == y."""
    mask = (_ONE << bits) - _ONE
    rows = (np.uint64(n) + mask) >> bits
    x = np.uint64(y)
    last_key = key + np.uint64(2 * ROUNDS) * _WEYL
    while True:
        left = x >> bits
        right = x & mask
        round_key = last_key
        for _ in range(ROUNDS):
            round_key -= _WEYL
            right ^= (_round_hash(left, round_key) >> _S32) & mask
            round_key -= _WEYL
            back = ((_round_hash(right, round_key) >> _S32) * rows) >> _S32
            if left < back:
                left += rows
            left -= back
        x = (left << bits) | right
        if x < np.uint64(n):
            return np.int64(x)


@kernel
def permuted(first, n, key, out_B):
    """Writes the places of first, first + 1, ... into `out_B`, int64."""
    bits = low_bits(n)
    for i in range(len(out_B)):
        out_B[i] = permute(first + i, n, bits, key)
