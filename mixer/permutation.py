"""Permutations of [0, size) without a table: an alternating Feistel network with cycle walking, vectorised.

Every element may have a size and a key of its own, so one call serves all corpora of a batch. The network works on the
smallest power of two that holds `size`; a value that lands outside goes round again (Black and Rogaway, CT-RSA 2002),
less than twice on average. The round function is the 64-bit finaliser of SplitMix (Steele et al., OOPSLA 2014).
`unpermute` is the exact inverse.
"""

import numpy as np
from numpy.typing import NDArray

NUM_ROUNDS = 8  # each mixes one half into the other

_U64 = NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(1)


def permute(values: _U64, sizes: _U64, keys: _U64) -> _U64:
    """Where each of `values` [n] goes in the permutation of [0, size) that its key [n] names; values < sizes ≤ 2^62."""
    return _walk(values, sizes, keys, range(NUM_ROUNDS))


def unpermute(values: _U64, sizes: _U64, keys: _U64) -> _U64:
    """The inverse of `permute`."""
    return _walk(values, sizes, keys, range(NUM_ROUNDS - 1, -1, -1))


def mix(values: _U64) -> _U64:
    """SplitMix64's finaliser: a bijection of 64-bit words in which every input bit moves every output bit."""
    z = (values ^ (values >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def _walk(values: _U64, sizes: _U64, keys: _U64, rounds: range) -> _U64:
    low_bits, low_mask, high_mask = _halves(sizes)
    result = _feistel(values, low_bits, low_mask, high_mask, keys, rounds)
    outside = np.flatnonzero(result >= sizes)
    while outside.size:
        again = _feistel(
            result[outside], low_bits[outside], low_mask[outside], high_mask[outside], keys[outside], rounds
        )
        result[outside] = again
        outside = outside[again >= sizes[outside]]
    return result


def _halves(sizes: _U64) -> tuple[_U64, _U64, _U64]:
    """Bits of the low half, and the masks of the low and the high half, of the smallest 2^bits ≥ size (bits ≥ 2)."""
    # frexp is exact below 2^53 and rounds up by at most one bit above: a domain that is too large only walks more
    bits = np.maximum(np.frexp((sizes - _ONE).astype(np.float64))[1], 2).astype(np.uint64)
    low_bits = bits >> _ONE
    return low_bits, (_ONE << low_bits) - _ONE, (_ONE << (bits - low_bits)) - _ONE


def _feistel(values: _U64, low_bits: _U64, low_mask: _U64, high_mask: _U64, keys: _U64, rounds: range) -> _U64:
    low, high = values & low_mask, values >> low_bits
    for index in rounds:
        round_key = keys + np.uint64((index + 1) * int(_GOLDEN) & 0xFFFFFFFFFFFFFFFF)
        if index % 2 == 0:
            high ^= mix(low + round_key) & high_mask
        else:
            low ^= mix(high + round_key) & low_mask
    return (high << low_bits) | low
