"""Windows of a corpus's order, against the plain lists of the oracle."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mixer.epochs import CorpusOrder
from mixer.ranges import Ranges, parse_ranges
from tests.oracles import SlowCorpus, spell_out
from tests.strategies import ranges_below, shard_sizes


@given(shard_sizes(), st.integers(1, 5), st.data())
def test_a_window_is_what_is_in_use_together(sizes: list[int], window: int, data: st.DataObject) -> None:
    """Its shards hold whatever is read until its end, and it ends where the next one begins, or a change comes."""
    order = CorpusOrder(sizes, name="a", data_seed=3, shuffle_window=window)
    slow = SlowCorpus("a", sizes, 3, window)
    expected: list[tuple[int, set[int]]] = []  # of each ordinal, the end of its window, and the shards read until there
    for _ in range(data.draw(st.integers(1, 3))):
        start = len(expected)
        take(slow, data.draw(st.integers(1, 80)), expected)
        expected[start:] = [(min(end, len(expected)), shards) for end, shards in expected[start:]]
        change(order, slow, len(expected), data)
    take(slow, 40, expected)
    for ordinal, (end, shards) in enumerate(expected):
        found = order.window_at(ordinal)
        assert found.end == end
        assert set(found.shards.tolist()) >= shards
        assert found.shards.tolist() == sorted(set(found.shards.tolist()))
        if window < len(sizes):
            assert len(found.shards) <= max(window, 1)


def take(slow: SlowCorpus, num_samples: int, expected: list[tuple[int, set[int]]]) -> None:
    for _ in range(num_samples if slow.readable() else 0):
        rows = slow.windows[0][2]
        expected.append((len(expected) + len(rows), {shard_of(slow.sizes, row) for row in rows}))
        slow.take()


def shard_of(sizes: list[int], row: int) -> int:
    return next(shard for shard in range(len(sizes)) if row < sum(sizes[: shard + 1]))


def change(order: CorpusOrder, slow: SlowCorpus, ordinal: int, data: st.DataObject) -> None:
    verb: Any = data.draw(st.sampled_from(["quarantine", "grow", "skip"]))
    if not slow.readable():
        return
    if verb == "quarantine":
        chosen = parse_ranges(data.draw(ranges_below(sum(slow.sizes))), "$", [])
        order.quarantine(ordinal, Ranges(chosen))
        slow.quarantine(spell_out(chosen))
    elif verb == "grow":
        more = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
        order.grow(ordinal, more)
        slow.grow(more)
    else:
        num_samples = data.draw(st.integers(1, 60))
        order.skip(ordinal, num_samples)
        for _ in range(num_samples):
            slow.take()


def test_what_is_left_out_entirely_is_not_in_use() -> None:
    order = CorpusOrder([10] * 4, name="a", data_seed=3, shuffle_window=9)
    order.quarantine(5, Ranges([[10, 20], [30, 39]]))
    assert order.window_at(4).shards.tolist() == [0, 1, 2, 3]
    assert order.window_at(4).end == 5
    assert order.window_at(5).shards.tolist() == [0, 2, 3]
