"""Permutations without a table: bijective, invertible, well mixed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.permutation import MAX_SIZE, mix, permute, unpermute


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_a_bijection_and_its_inverse(size: int, key: int) -> None:
    values, sizes, keys = np.arange(size), np.full(size, size), np.full(size, key, np.uint64)
    permuted = permute(values, sizes, keys)
    assert np.array_equal(np.sort(permuted), values)
    assert np.array_equal(unpermute(permuted, sizes, keys), values)


@given(st.lists(st.tuples(st.integers(1, MAX_SIZE), st.integers(0, 2**64 - 1)), min_size=1, max_size=20), st.data())
def test_every_element_has_a_size_and_key_of_its_own(columns: list[tuple[int, int]], data: st.DataObject) -> None:
    sizes, keys = np.array([size for size, _ in columns]), np.array([key for _, key in columns], np.uint64)
    values = np.array([data.draw(st.integers(0, size - 1)) for size, _ in columns])
    permuted = permute(values, sizes, keys)
    assert ((permuted >= 0) & (permuted < sizes)).all()
    assert np.array_equal(unpermute(permuted, sizes, keys), values)
    for place in range(len(values)):
        alone = slice(place, place + 1)
        assert permute(values[alone], sizes[alone], keys[alone])[0] == permuted[place]


@pytest.mark.parametrize("size", [17, 64, 1000])
def test_places_are_uniform_over_keys_in_a_row(size: int) -> None:
    """Chi-squared per degree of freedom of where value 3 lands, and of how far 4 lands from it, over 100,000 keys."""
    count = 100_000
    keys, sizes = np.array([mix(key) for key in range(count)], np.uint64), np.full(count, size)
    first, second = (permute(np.full(count, value), sizes, keys) for value in (3, 4))
    for sample, cells in ((first, size), ((second - first) % size - 1, size - 1)):
        expected = count / cells
        chi = ((np.bincount(sample, minlength=cells) - expected) ** 2 / expected).sum() / (cells - 1)
        assert abs(chi - 1) < 6 * np.sqrt(2 / (cells - 1))


def test_neighbours_do_not_stay_neighbours() -> None:
    size = 100_000
    order = permute(np.arange(size), np.full(size, size), np.full(size, 99, np.uint64))
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    assert abs(np.abs(np.diff(order)).mean() / size - 1 / 3) < 0.01
