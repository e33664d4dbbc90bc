"""One step's batch in one compiled call: what `Plan.batch` does with NumPy, bit for bit, many times as fast.

Not another algorithm: each function names the code that it must equal, and tests/mixer/test_compiled.py holds it to
that. Only `mixer.compiled` imports this module; it decides whether there is a compiler, and whether it pays.

Words are uint64 and counts int64 throughout: numba turns a mixture of the two into floating point. The constants of the
order are written out again here, since numba's cache does not notice when those of another module change.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

_I64 = NDArray[np.int64]
_U64 = NDArray[np.uint64]

_Stretch = tuple[_I64, int, _I64]
_Slots = tuple[np.uint64, np.uint64, np.uint64]
_Windows = tuple[_I64, _I64, _U64, _I64]

_WORD = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_PHILOX_0, _PHILOX_1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_KEY_1, _KEY_2, _KEY_3, _KEY_4, _KEY_5, _KEY_6 = (np.uint64(i * 0x9E3779B9 & 0xFFFFFFFF) for i in range(1, 7))


def _multiply(typing: Any, a: Any, b: Any) -> Any:
    """The upper 64 of the 128 bits of a · b, one instruction; numba itself has no 128-bit integers."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


_high_product: Any = intrinsic(_multiply)


@njit()
def philox(key_low: np.uint64, key_high: np.uint64, step: np.uint64, words: _U64) -> None:
    """`keys.random_words(key, step, len(words))`: Philox4x64-10 from the counter step · 2^64 on.

    NumPy counts up before it makes a block of four.
    """
    for block in range((words.size + 3) // 4):
        c0, c1, c2, c3 = np.uint64(block + 1), step, np.uint64(0), np.uint64(0)
        k0, k1 = key_low, key_high
        for _ in range(10):
            high0, high1 = _high_product(_PHILOX_0, c0), _high_product(_PHILOX_1, c2)
            c0, c1, c2, c3 = high1 ^ c1 ^ k0, _PHILOX_1 * c2, high0 ^ c3 ^ k1, _PHILOX_0 * c0
            k0, k1 = k0 + np.uint64(0x9E3779B97F4A7C15), k1 + np.uint64(0xBB67AE8584CAA73B)
        for offset, word in enumerate((c0, c1, c2, c3)):
            if 4 * block + offset < words.size:
                words[4 * block + offset] = word


@njit()
def argsort(words: _U64) -> _I64:
    """`np.argsort(words, kind="stable")`, made for random words: buckets by the top bits, each sorted by insertion."""
    num_bits = 1
    while 1 << num_bits < words.size:
        num_bits += 1
    shift = np.uint64(64 - num_bits)
    starts = np.zeros((1 << num_bits) + 1, np.int64)
    for word in words:
        starts[np.int64(word >> shift) + 1] += 1
    starts = np.cumsum(starts)
    order = np.empty(words.size, np.int64)
    filled = starts.copy()
    for index, word in enumerate(words):
        bucket = np.int64(word >> shift)
        place = filled[bucket]
        filled[bucket] += 1
        while place > starts[bucket] and words[order[place - 1]] > word:
            order[place] = order[place - 1]
            place -= 1
        order[place] = index
    return order


@njit(inline="always")
def _hash(word: np.uint64, round_key: np.uint64) -> np.uint64:
    """`permutation._hash` of a 32-bit word."""
    word = word ^ round_key
    word ^= word >> np.uint64(16)
    word = word * np.uint64(0x7FEB352D) & _WORD
    word ^= word >> np.uint64(15)
    word = word * np.uint64(0x846CA68B) & _WORD
    return word ^ word >> np.uint64(16)


@njit(inline="always")
def _forward(value: np.uint64, low_bits: np.uint64, num_high: np.uint64, key: np.uint64) -> np.uint64:
    """`permutation._forward` of one value."""
    low_mask = (np.uint64(1) << low_bits) - np.uint64(1)
    key_low, key_high = key & _WORD, key >> _32
    high, low = value >> low_bits, value & low_mask
    high = _add_below(high, _hash(low + key_low & _WORD, _KEY_1), num_high)
    low ^= _hash(high + key_high & _WORD, _KEY_2) & low_mask
    high = _add_below(high, _hash(low + key_low & _WORD, _KEY_3), num_high)
    low ^= _hash(high + key_high & _WORD, _KEY_4) & low_mask
    high = _add_below(high, _hash(low + key_low & _WORD, _KEY_5), num_high)
    low ^= _hash(high + key_high & _WORD, _KEY_6) & low_mask
    return high << low_bits | low


@njit(inline="always")
def _add_below(high: np.uint64, word: np.uint64, num_high: np.uint64) -> np.uint64:
    high += word * num_high >> _32
    return high - (num_high if high >= num_high else np.uint64(0))


@njit()
def permute(first: int, size: int, key: np.uint64, results: _I64) -> None:
    """`permutation.permute` of first, first + 1, … under one size and key, into `results`.

    The first trip through the network is a loop without branches, for the sake of vector instructions.
    """
    low_bits = np.uint64(math.frexp(float(size - 1))[1] >> 1)
    num_high = (np.uint64(size - 1) >> low_bits) + np.uint64(1)
    for index in range(results.size):
        results[index] = np.int64(_forward(np.uint64(first + index), low_bits, num_high, key))
    for index in range(results.size):
        while results[index] >= size:
            results[index] = np.int64(_forward(np.uint64(results[index]), low_bits, num_high, key))


@njit()
def to_samples(positions: _I64, segments: _I64) -> None:
    """Positions in a window → sample_ids, in place; `segments` [3, num_segments] as in `compiled.Windows`.

    A binary search for all positions in step, so that nothing branches on a random number.
    """
    ends, sample_ends, strides = segments[0], segments[1], segments[2]
    segment = np.zeros(positions.size, np.uint64)
    count = np.uint64(ends.size)
    while count > np.uint64(1):
        half = count >> np.uint64(1)
        for index in range(positions.size):
            is_right = ends[segment[index] + half - np.uint64(1)] <= positions[index]
            segment[index] += half if is_right else np.uint64(0)
        count -= half
    for index in range(positions.size):
        back = strides[segment[index]] * (ends[segment[index]] - positions[index])
        positions[index] = sample_ends[segment[index]] - back


@njit(inline="always")
def _split(places: _I64, spare: _I64, share: int, total: int, carry: int) -> int:
    """Of a split's draws, bring those that go left to the front, both sides in order; how many these are."""
    num_left = 0
    for index in range(places.size):
        carry += share
        goes_left = carry >= total
        carry -= total if goes_left else 0
        spare[index - num_left] = places[num_left] = places[index]
        num_left += goes_left
    for index in range(num_left, places.size):
        places[index] = spare[index - num_left]
    return num_left


@njit()
def pick(stretch: _Stretch, start: int, begins: _I64, ends: _I64, corpora: _I64, ordinals: _I64) -> None:
    """`Stretch.pick` of the draws from `start` on: `corpora` and `ordinals` by draw [num_draws].

    `begins` and `ends` [num_corpora] come as what was drawn before the stretch, and go as the ordinals of each corpus
    at the first draw and after the last.
    """
    tree, root, head = stretch
    num_draws, num_corpora = corpora.size, begins.size
    for draw in range(min(head.size, start + num_draws)):
        corpus = head[draw]
        if draw < start:
            begins[corpus] += 1
        else:
            corpora[draw - start] = corpus
            ordinals[draw - start] = ends[corpus]
        ends[corpus] += 1

    in_head = min(max(head.size - start, 0), num_draws)
    places, spare = np.arange(in_head, num_draws), np.empty(num_draws, np.int64)
    firsts = np.zeros(num_corpora + len(tree), np.int64)  # of corpora and splits: the first draw that reaches them
    lows, highs = np.zeros_like(firsts), np.zeros_like(firsts)  # and the range of `places` of all that do
    firsts[root], highs[root] = max(start - head.size, 0), places.size
    for index in range(len(tree) - 1, -1, -1):
        share, total, phi = tree[index, 0], tree[index, 1], tree[index, 2]
        first, low, high = firsts[num_corpora + index], lows[num_corpora + index], highs[num_corpora + index]
        scaled = share * (first % total) + phi  # below 2^63: share and total are at most 10^9
        first_left = share * (first // total) + scaled // total
        middle = low + _split(places[low:high], spare, share, total, scaled % total)
        left, right = tree[index, 3], tree[index, 4]
        firsts[left], lows[left], highs[left] = first_left, low, middle
        firsts[right], lows[right], highs[right] = first - first_left, middle, high

    for corpus in range(num_corpora):
        begins[corpus] += firsts[corpus]
        ends[corpus] += firsts[corpus]
        for place in range(lows[corpus], highs[corpus]):
            corpora[places[place]] = corpus
            ordinals[places[place]] = ends[corpus]
            ends[corpus] += 1


@njit(nogil=True)
def fill_batch(stretch: _Stretch, drawn: _I64, start: int, slots: _Slots, windows: _Windows, out: _I64) -> int:
    """Fill `out` [4, batch_size] with corpus, ordinal, epoch and sample_id by slot.

    Args:
        stretch: `Stretch.arrays`.
        drawn: samples of each corpus before the stretch [num_corpora].
        start: the batch's first draw, counted from the stretch's.
        slots: the key of the slots, low word first, and the step.
        windows: `compiled.Windows`.

    Returns -1, or a corpus of which the windows lack an ordinal that the batch needs; `out` is then undefined.
    """
    rows_of, rows, keys, segments = windows
    batch_size = out.shape[1]
    corpora, ordinals = np.empty(batch_size, np.int64), np.empty(batch_size, np.int64)  # by draw
    epochs, samples = np.empty(batch_size, np.int64), np.empty(batch_size, np.int64)  # by corpus and ordinal
    begins, ends = drawn.copy(), drawn.copy()
    pick(stretch, start, begins, ends, corpora, ordinals)

    place = 0
    for corpus in range(drawn.size):
        ordinal, end = begins[corpus], ends[corpus]
        begins[corpus] = place - ordinal  # from now on: where ordinal 0 would lie in `epochs` and `samples`
        for row in range(rows_of[corpus], rows_of[corpus + 1]):
            first, last = rows[row, 0], min(rows[row, 1], end)
            if first <= ordinal < last:
                until = place + last - ordinal
                permute(rows[row, 3] + ordinal - first, rows[row, 4], keys[row], samples[place:until])
                to_samples(samples[place:until], segments[:, rows[row, 5] : rows[row, 6]])
                epochs[place:until] = rows[row, 2]
                ordinal, place = last, until
        if ordinal < end:
            return corpus

    words = np.empty(batch_size, np.uint64)
    philox(slots[0], slots[1], slots[2], words)
    order = argsort(words)
    for slot in range(batch_size):
        draw = order[slot]
        place = begins[corpora[draw]] + ordinals[draw]
        out[0, slot], out[1, slot] = corpora[draw], ordinals[draw]
        out[2, slot], out[3, slot] = epochs[place], samples[place]
    return -1


SIGNATURE = """int64(
    Tuple((int64[:, ::1], int64, int64[::1])),
    int64[::1],
    int64,
    UniTuple(uint64, 3),
    Tuple((int64[::1], int64[:, ::1], uint64[::1], int64[:, ::1])),
    int64[:, ::1])"""
"""The types of `fill_batch`, the only function that is called from Python."""
