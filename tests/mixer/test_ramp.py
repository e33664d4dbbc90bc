"""Ramps in integers."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.ramp import MAX_PIECES, Ramp
from mixer.weights import UNIT

ramps = st.builds(Ramp, shape=st.sampled_from(["linear", "cosine"]), length=st.integers(1, 10**6))


@given(ramps)
def test_pieces_cover_the_ramp_in_order(ramp: Ramp) -> None:
    starts = [ramp.piece_start(piece) for piece in range(ramp.num_pieces + 1)]
    assert starts[0] == 0
    assert starts[-1] == ramp.length
    assert all(one < other for one, other in pairwise(starts))
    assert ramp.num_pieces <= MAX_PIECES
    for piece in {0, ramp.num_pieces // 2, ramp.num_pieces - 1}:
        assert {ramp.piece_at(offset) for offset in (starts[piece], starts[piece + 1] - 1)} == {piece}


@given(ramps)
def test_progress_rises_and_is_symmetric(ramp: Ramp) -> None:
    last = ramp.num_pieces - 1
    values = [ramp.progress(piece) for piece in sorted({0, last // 3, last // 2, last})]
    assert values == sorted(values)
    assert all(0 <= value <= UNIT for value in values)
    assert abs(ramp.progress(0) + ramp.progress(last) - UNIT) <= 1


@pytest.mark.parametrize("length", [1, 2, 3, 500, 4096])
def test_values_are_those_of_the_formula_at_the_middle_of_each_step(length: int) -> None:
    for step in range(length):
        x = (2 * step + 1) / (2 * length)
        linear, cosine = Ramp(shape="linear", length=length), Ramp(shape="cosine", length=length)
        assert abs(linear.progress(step) - x * UNIT) <= 1
        assert abs(cosine.progress(step) - (1 - math.cos(math.pi * x)) / 2 * UNIT) <= 1
