"""Randomness as a function: no state, no sequence, only (key, counter) -> words.

Keys come from `key`, a hash of a tuple, so that (seed, epoch) = (0, 1) and (1, 0) share nothing.
Words come from Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
1, 2, 3", SC 2011), which passes TestU01's BigCrush and is what cuRAND and PyTorch draw with on
GPUs. `tests/plan/test_random.py` holds the paper's known answers.
"""

import hashlib

import numpy as np

from fasttail.plan.compiled import inline

_MUL_0 = np.uint64(0xD2511F53)
_MUL_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint32(0x9E3779B9)
_WEYL_1 = np.uint32(0xBB67AE85)
_SHIFT_32 = np.uint64(32)
_LOW_32 = np.uint64(0xFFFFFFFF)
_ROUNDS = 10


def key(purpose: str, *parts: int) -> np.uint64:
    """A 64-bit key for one purpose of one (seed, epoch, ...): BLAKE2b of the tuple's text.

    Different tuples give unrelated keys; the same tuple gives the same key on every machine.
    """
    text = "/".join([purpose, *(str(int(part)) for part in parts)])
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"fasttail.plan").digest()
    return np.uint64(int.from_bytes(digest, "little"))


@inline
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10: four 32-bit counter words and two key words -> four random words, uint32."""
    for _ in range(_ROUNDS):
        p0 = _MUL_0 * np.uint64(c0)
        p1 = _MUL_1 * np.uint64(c2)
        c0 = np.uint32(np.uint32(p1 >> _SHIFT_32) ^ c1 ^ k0)
        c1 = np.uint32(p1 & _LOW_32)
        c2 = np.uint32(np.uint32(p0 >> _SHIFT_32) ^ c3 ^ k1)
        c3 = np.uint32(p0 & _LOW_32)
        k0 = np.uint32(k0 + _WEYL_0)
        k1 = np.uint32(k1 + _WEYL_1)
    return c0, c1, c2, c3


@inline
def words(stream, position, block):
    """Four random words, uint32, of draw `block` at `position` in the stream of key `stream`."""
    at = np.uint64(position)
    return philox4x32(
        np.uint32(at & _LOW_32),
        np.uint32(at >> _SHIFT_32),
        np.uint32(block),
        np.uint32(0),
        np.uint32(stream & _LOW_32),
        np.uint32(stream >> _SHIFT_32),
    )


@inline
def unit(word):
    """A float64 in the open interval (0, 1) from a 32-bit word."""
    return (np.float64(word) + 0.5) * (1.0 / 4294967296.0)


@inline
def below(word, n):
    """An int64 in 0..n-1 from a 32-bit word, for n <= 2^32: uneven by at most n / 2^32 (Lemire,
    "Fast random integer generation in an interval", 2019, without the rejection)."""
    return np.int64((np.uint64(word) * np.uint64(n)) >> _SHIFT_32)


@inline
def below64(low, high, n):
    """An int64 in 0..n-1 from two 32-bit words, for n < 2^63: upper half of the 128-bit product."""
    n0 = np.uint64(n) & _LOW_32
    n1 = np.uint64(n) >> _SHIFT_32
    r0 = np.uint64(low)
    r1 = np.uint64(high)
    carry = (r0 * n0) >> _SHIFT_32
    middle = r1 * n0 + carry
    cross = r0 * n1 + (middle & _LOW_32)
    return np.int64(r1 * n1 + (middle >> _SHIFT_32) + (cross >> _SHIFT_32))
