"""Permutations of [0, size) without a table: an alternating Feistel network with cycle walking, vectorised.

Every element may have a size and a key of its own, so one call serves all corpora of a batch. A value is written as
high · 2^b + low with 2^b near the root of the size; in turn, a keyed hash of the low part is added to the high part
(modulo the number of high parts) and one of the high part is XORed into the low part. The domain is the size rounded up
to a multiple of 2^b, so few values land outside; those go round again (Black and Rogaway, CT-RSA 2002). The round
function is a 32-bit finaliser with low bias (two multiplications, three shifts). `unpermute` is the exact inverse.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_SIZE = 2**62
NUM_ROUNDS = 6

_I64 = NDArray[np.int64]
_U32 = NDArray[np.uint32]
_U64 = NDArray[np.uint64]

_ROUND_KEYS = [np.uint32((index + 1) * 0x9E3779B9 & 0xFFFFFFFF) for index in range(NUM_ROUNDS)]
_32 = np.uint64(32)


class _Domain(NamedTuple):
    """Per element [n]: bits and mask of the low part, number of high parts, and the two halves of the key."""

    low_bits: _U64
    low_mask: _U32
    num_high: _U64
    key_low: _U32
    key_high: _U32


def permute(values: _I64, sizes: _I64, keys: _U64) -> _I64:
    """Where each of `values` [n] goes in the permutation of [0, size) that its key [n] names.

    0 ≤ value < size ≤ `MAX_SIZE`, element by element.
    """
    return _walk(values, sizes, keys, _forward)


def unpermute(values: _I64, sizes: _I64, keys: _U64) -> _I64:
    """The inverse of `permute`."""
    return _walk(values, sizes, keys, _backward)


def mix(word: int) -> int:
    """SplitMix64's finaliser (Steele et al., OOPSLA 2014): a bijection of 64-bit words that spreads every bit."""
    mask = 0xFFFFFFFFFFFFFFFF
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & mask
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & mask
    return word ^ (word >> 31)


def _walk(values: _I64, sizes: _I64, keys: _U64, network: Callable[[_U64, _Domain], _U64]) -> _I64:
    domain = _domain(sizes, keys)
    limits = sizes.astype(np.uint64)
    result = network(values.astype(np.uint64), domain)
    outside = np.flatnonzero(result >= limits)
    while outside.size:
        again = network(result[outside], _domain(sizes[outside], keys[outside]))
        result[outside] = again
        outside = outside[again >= limits[outside]]
    return result.astype(np.int64)


def _domain(sizes: _I64, keys: _U64) -> _Domain:
    # frexp gives the bits of size - 1; above 2^53 it may give one more, which is a domain all the same
    low_bits = np.frexp((sizes - 1).astype(np.float64))[1].astype(np.int64) >> 1
    return _Domain(
        low_bits=low_bits.astype(np.uint64),
        low_mask=((1 << low_bits) - 1).astype(np.uint32),
        num_high=(-(-sizes >> low_bits)).astype(np.uint64),
        key_low=keys.astype(np.uint32),
        key_high=(keys >> _32).astype(np.uint32),
    )


def _forward(values: _U64, domain: _Domain) -> _U64:
    high, low = values >> domain.low_bits, values.astype(np.uint32) & domain.low_mask
    for index, round_key in enumerate(_ROUND_KEYS):
        if index % 2 == 0:
            high = high + _below(low, round_key, domain)
            high -= domain.num_high * (high >= domain.num_high)
        else:
            low ^= _hash(high.astype(np.uint32) + domain.key_high, round_key) & domain.low_mask
    return high << domain.low_bits | low


def _backward(values: _U64, domain: _Domain) -> _U64:
    high, low = values >> domain.low_bits, values.astype(np.uint32) & domain.low_mask
    for index, round_key in reversed(list(enumerate(_ROUND_KEYS))):
        if index % 2 == 0:
            high = high + domain.num_high - _below(low, round_key, domain)
            high -= domain.num_high * (high >= domain.num_high)
        else:
            low ^= _hash(high.astype(np.uint32) + domain.key_high, round_key) & domain.low_mask
    return high << domain.low_bits | low


def _below(low: _U32, round_key: np.uint32, domain: _Domain) -> _U64:
    """A hash of the low part, in [0, num_high)."""
    return _hash(low + domain.key_low, round_key).astype(np.uint64) * domain.num_high >> _32


def _hash(words: _U32, round_key: np.uint32) -> _U32:
    words = words ^ round_key
    words ^= words >> np.uint32(16)
    words *= np.uint32(0x7FEB352D)
    words ^= words >> np.uint32(15)
    words *= np.uint32(0x846CA68B)
    words ^= words >> np.uint32(16)
    return words
