"""Increasing whole numbers in few bits, by integer arithmetic alone: the same bytes on every machine.

A sequence is n values, 0 < v[0] < v[1] < … ≤ span; the reader knows n and span. v[i] - (i + 1) never falls and is at
most span - n. Of each its `width` lowest bits are written side by side, then the rest in unary: of value i a 1 at bit
(rest + i). width = ⌊log2((span - n) / n)⌋ makes that less than width + 3 bits a value (Elias 1974; Fano 1971; Vigna
2013, "Quasi-succinct indices"). Where more than half of 1 … span are in the sequence, those left out are written
instead, so a range without gaps takes no bytes. Bits are counted from the lowest of the first byte.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["decode", "encode", "num_bytes"]

_I64 = NDArray[np.int64]


def encode(values: _I64, span: int) -> bytes:
    """The bytes of `values` [num_values], increasing, from 1 to `span`."""
    if _is_inverted(len(values), span):
        values = _others(values, span)
    width, high_bits = _layout(len(values), span)
    slack = values - _counting(len(values))
    low = slack[:, None] >> np.arange(width) & 1
    high = np.zeros(high_bits, np.uint8)
    high[(slack >> width) + np.arange(len(values))] = 1
    return b"".join(np.packbits(bits.astype(np.uint8), bitorder="little").tobytes() for bits in (low, high))


def decode(data: NDArray[np.uint8], num_values: int, span: int) -> _I64:
    """The sequence that `encode` made the bytes `data` of. Raises ValueError if they are not of such a sequence."""
    inverted = _is_inverted(num_values, span)
    written = span - num_values if inverted else num_values
    width, high_bits = _layout(written, span)
    border = _as_bytes(written * width)
    low = np.unpackbits(data[:border], count=written * width, bitorder="little").reshape(written, width)
    high = np.flatnonzero(np.unpackbits(data[border:], count=high_bits, bitorder="little"))
    if len(high) != written:
        raise ValueError(f"{len(high)} values, not {written}")
    values: _I64 = (high - np.arange(written) << width) + low @ (1 << np.arange(width)) + _counting(written)
    return _others(values, span) if inverted else values


def num_bytes(num_values: int, span: int) -> int:
    """How many bytes `encode` makes."""
    written = span - num_values if _is_inverted(num_values, span) else num_values
    width, high_bits = _layout(written, span)
    return _as_bytes(written * width) + _as_bytes(high_bits)


def _is_inverted(num_values: int, span: int) -> bool:
    return 2 * num_values > span


def _layout(written: int, span: int) -> tuple[int, int]:
    """Low bits of each value, and bits of all high parts."""
    if not written:
        return 0, 0
    slack = span - written
    width = max((slack // written).bit_length() - 1, 0)
    return width, written + (slack >> width)


def _others(values: _I64, span: int) -> _I64:
    """Those of 1 … span that are not among `values`."""
    is_other = np.ones(span + 1, bool)
    is_other[0] = False
    is_other[values] = False
    return np.flatnonzero(is_other)


def _counting(num_values: int) -> _I64:
    return np.arange(1, num_values + 1)


def _as_bytes(num_bits: int) -> int:
    return -(-num_bits // 8)
