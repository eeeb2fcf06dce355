"""A keyed permutation of 0..n-1 for any n: O(1) time, no table.

A number x < n is cut into (left, right), `right` its lowest `bits` bits, about half of n's. Rounds
then change one part by a keyed hash of the other, in turn:

    left  = (left + hash(right)) mod rows        rows = n / 2^bits, rounded up
    right = right xor hash(left)

Each round can be undone, whatever the hash: an alternating Feistel network over a product of two
ranges (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). The product
exceeds n by less than 2^bits; the few numbers that land out there go through again until they come
back ("cycle walking", same paper), with odds of less than 1 in sqrt(n) or so. A Feistel network
over whole bits walks up to four times.

Luby and Rackoff (1988): four rounds of random functions already pass for a random permutation when
n is large. Here are twelve, for small n's sake, where the functions have few values: chi-square
tests over many keys, of where each number goes and where each pair goes, find nothing from n = 2 on
(`tests/plan/test_permute.py`). The hash is two multiplications of 32-bit words by Philox's
constants, the high word folded back between them; round keys are a Weyl sequence, as in Philox.
"""

import numpy as np

from fasttail.plan.compiled import inline, kernel, stage

PAIRS = 6  # of rounds

_WEYL = np.uint64(0x9E3779B97F4A7C15)
_MUL_A = np.uint64(0xD2511F53)
_MUL_B = np.uint64(0xCD9E8D57)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_LOW_32 = np.uint64(0xFFFFFFFF)
_S27 = np.uint64(27)
_S30 = np.uint64(30)
_S31 = np.uint64(31)
_S32 = np.uint64(32)
_ONE = np.uint64(1)


@inline
def subkey(key, number):
    """Key `number` of a family, for the ring of class `number`, say: SplitMix64 at that place
    (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014)."""
    x = key + (np.uint64(number) + _ONE) * _WEYL
    x = (x ^ (x >> _S30)) * _MIX_A
    x = (x ^ (x >> _S27)) * _MIX_B
    return x ^ (x >> _S31)


@inline
def cut(n):
    """(bits, rows) of 0..n-1, both uint64, for 1 <= n <= 2^62.

    5 to 8 are cut as 9 is: with two columns or two rows, twelve rounds are too few.
    """
    last = np.uint64(n) - _ONE if n < 5 or n > 8 else np.uint64(8)
    bits = np.uint64(0)
    rest = last
    while rest > np.uint64(0):
        rest >>= _ONE
        bits += _ONE
    bits >>= _ONE
    return bits, (last >> bits) + _ONE


@inline
def _hash(half, round_key):
    """32 random bits, as uint64, of a number below 2^32."""
    x = ((half ^ round_key) & _LOW_32) * _MUL_A
    x = ((x ^ (x >> _S32)) & _LOW_32) ^ (round_key >> _S32)
    return (x * _MUL_B) >> _S32


@inline
def _through(x, bits, rows, key):
    """x after all rounds: a permutation of 0 .. rows * 2^bits - 1."""
    mask = (_ONE << bits) - _ONE
    left, right = x >> bits, x & mask
    for _ in range(PAIRS):
        left += (_hash(right, key) * rows) >> _S32
        left = min(left, left - rows)  # modulo: left - rows wraps around where left is smaller
        key += _WEYL
        right ^= _hash(left, key) & mask
        key += _WEYL
    return (left << bits) | right


@inline
def permute(x, n, bits, rows, key):
    """Where x goes in the permutation of 0..n-1 that `key` stands for; (bits, rows) = cut(n).
    All are uint64."""
    x = _through(x, bits, rows, key)
    while x >= n:
        x = _through(x, bits, rows, key)
    return x


@stage
def permute_run(first, n, bits, rows, key, out_B):
    """Where first, first + 1, ... go, into `out_B`, uint64. Without a branch but for those few that
    walk, so that the compiler does several at a time."""
    for b in range(len(out_B)):
        out_B[b] = _through(first + np.uint64(b), bits, rows, key)
    for b in range(len(out_B)):
        while out_B[b] >= n:
            out_B[b] = _through(out_B[b], bits, rows, key)


@stage
def permute_each(x_B, n_B, bits_B, rows_B, key_B, out_B):
    """Where each x goes in a permutation of its own, into `out_B`; all uint64 [B]."""
    for b in range(len(out_B)):
        out_B[b] = _through(x_B[b], bits_B[b], rows_B[b], key_B[b])
    for b in range(len(out_B)):
        while out_B[b] >= n_B[b]:
            out_B[b] = _through(out_B[b], bits_B[b], rows_B[b], key_B[b])


@kernel
def permutation(n, key, out_N):
    """All of 0..n-1, permuted: int64 [n]. For tests and small things."""
    bits, rows = cut(n)
    for x in range(n):
        out_N[x] = permute(np.uint64(x), np.uint64(n), bits, rows, key)
