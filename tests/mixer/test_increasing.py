"""Increasing numbers: every sequence comes back, in as few bytes as promised."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.increasing import decode, encode, num_bytes

GAPS = st.one_of(st.integers(1, 3), st.integers(1, 300), st.integers(1, 1 << 40))


@given(st.lists(GAPS, min_size=1, max_size=50), st.integers(0, 5))
def test_comes_back_and_is_as_small_as_said(gaps: list[int], behind: int) -> None:
    values = np.cumsum(gaps)
    span = int(values[-1]) + behind
    data = encode(values, span)
    assert len(data) == num_bytes(len(values), span)
    assert np.array_equal(decode(np.frombuffer(data, np.uint8), len(values), span), values)
    bits = max(math.floor(math.log2(span / len(values))), 0) + 3
    assert len(data) <= len(values) * bits / 8 + 2


def test_the_bytes_by_hand() -> None:
    # slack 0, 6, 7 of at most 17: two low bits each (00, 10, 11), high parts 0, 1, 1 as ones at 0, 2, 3
    values = np.array([1, 8, 10])
    assert encode(values, 20) == bytes([0b111000, 0b1101])
    assert decode(np.array([0b111000, 0b1101], np.uint8), 3, 20).tolist() == [1, 8, 10]
    # no low bits: ones at 0 and 1 + 1; and of more than half of 1 … 5 those left out, 2 and 5: ones at 1 and 3 + 1
    assert encode(np.array([1, 3]), 5) == bytes([0b101])
    assert encode(np.array([1, 3, 4]), 5) == bytes([0b10010])


def test_what_has_no_gaps_takes_no_bytes() -> None:
    assert encode(np.arange(1, 5001), 5000) == b""
    assert decode(np.empty(0, np.uint8), 5000, 5000).tolist() == list(range(1, 5001))
    assert num_bytes(4000, 4040) < 50  # a hundredth left out


def test_other_bytes_are_noticed() -> None:
    data = np.frombuffer(encode(np.arange(10, 100, 10), 100), np.uint8).copy()
    data[-1] = 0
    with pytest.raises(ValueError, match="values, not 9"):
        decode(data, 9, 100)
