"""Sets of numbers as ranges, against Python's own sets."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.ranges import Ranges, parse_ranges

PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8)


def members(pairs: list[tuple[int, int]]) -> set[int]:
    return {number for start, end in pairs for number in range(start, end)}


@given(PAIRS, PAIRS, st.integers(0, 45), st.integers(0, 45))
def test_like_a_set(pairs: list[tuple[int, int]], others: list[tuple[int, int]], low: int, high: int) -> None:
    ranges, numbers = Ranges(pairs), members(pairs)
    listed = [number for start, end in ranges.to_list() for number in range(start, end)]
    assert listed == sorted(numbers)
    assert len(ranges) == len(numbers)
    assert [number in ranges for number in range(42)] == [number in numbers for number in range(42)]
    below = [sum(n < bound for n in numbers) for bound in range(45)]
    assert ranges.count_below(np.arange(45)).tolist() == below
    assert ranges.within(low, high).tolist() == sorted(n for n in numbers if low <= n < high)
    assert Ranges(ranges.union(Ranges(others)).to_list()).to_list() == Ranges([*pairs, *others]).to_list()
    outside = [number for start, end in ranges.complement(42).to_list() for number in range(start, end)]
    assert outside == sorted(set(range(42)) - numbers)
    for parity in (0, 1):
        halves = [k for start, end in ranges.every_other(parity).to_list() for k in range(start, end)]
        assert halves == [k for k in range(21) if 2 * k + parity in numbers]


@given(PAIRS)
def test_equal_sets_have_one_form(pairs: list[tuple[int, int]]) -> None:
    again = [(number, number + 1) for number in sorted(members(pairs), reverse=True)]
    assert Ranges(again).to_list() == Ranges(pairs).to_list()


def test_as_people_write_them() -> None:
    problems: list[str] = []
    assert parse_ranges([17, [100, 200], [150, 201], 16], "$", problems) == [[16, 18], [100, 201]]
    assert problems == []


@pytest.mark.parametrize("wrong", [[], None, 3, [-1], [[3, 3]], [[4, 3]], [True], ["1"], [[1, 2, 3]], [1.5], [2**63]])
def test_what_is_no_set_is_named_with_its_place(wrong: Any) -> None:
    problems: list[str] = []
    parse_ranges(wrong, "$.samples", problems)
    assert len(problems) == 1
    assert "@ $.samples" in problems[0]
