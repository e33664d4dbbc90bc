"""The seam between two epochs: how many others are read between two readings of a sample.

Every epoch reads all of one half of a corpus, then all of the other. So between two readings of a sample all of the
half to which it does not belong is read, and with growth in between that half as it was, and whatever was added to it.
"""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mixer import Plan, Schedule
from mixer.changes import Change
from tests.oracles import SlowCorpus
from tests.strategies import shard_sizes

BATCH = 16


def read(sizes: Sequence[int], window: int, seed: int, num_epochs: int, changes: Sequence[Change] = ()) -> list[int]:
    """The samples of a corpus in the order in which they are taken, for at least `num_epochs` epochs.

    Changes after that many steps are without effect.
    """
    added = sum(sum(change.arguments["shard_sizes"]) for change in changes)
    num_steps = num_epochs * (sum(sizes) + added) // BATCH + 1
    schedule = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": {"a": 1}}]}, num_steps=num_steps, global_batch_size=BATCH, seq_len=8
    )
    plan = Plan(replace(schedule, changes=tuple(changes)), {"a": sizes}, data_seed=seed, shuffle_window=window)
    taken: dict[int, int] = {}
    for step in range(num_steps):
        batch = plan.batch(step)
        taken.update(zip(batch.ordinal.tolist(), batch.sample_id.tolist(), strict=True))
    return [taken[ordinal] for ordinal in range(len(taken))]


def readings(order: Sequence[int]) -> list[tuple[int, int, int]]:
    """(others read in between, place of the first, place of the second) for every two readings of one sample."""
    last: dict[int, int] = {}
    found = []
    for place, sample in enumerate(order):
        if sample in last:
            found.append((place - last[sample] - 1, last[sample], place))
        last[sample] = place
    return found


@given(shard_sizes(), st.integers(0, 2**70), st.data())
def test_half_of_a_corpus_of_one_window_lies_between_two_readings(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    window = data.draw(st.integers(len(sizes), len(sizes) + 3))
    order = read(sizes, window, seed, 4)
    assert min(others for others, _, _ in readings(order)) >= sum(sizes) // 2


@given(shard_sizes().filter(lambda sizes: len(sizes) > 1), st.integers(0, 2**70), st.data())
def test_the_smaller_half_of_a_larger_corpus_lies_between_two_readings(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    window = data.draw(st.integers(1, len(sizes) - 1))
    order = read(sizes, window, seed, 4)
    smaller = smaller_half(SlowCorpus("a", sizes, seed, window))
    assert 2 * smaller >= sum(sizes) - 2 * max(sizes)
    assert min(others for others, _, _ in readings(order)) >= smaller


@given(shard_sizes(), st.integers(0, 2**70), st.data())
def test_growth_in_between_leaves_the_smaller_half_at_the_first_reading(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    """Not the smaller half after growth: what was added may have its turn only after the second reading."""
    window = data.draw(st.integers(1, len(sizes) + 4))
    steps = data.draw(st.sets(st.integers(0, 3 * sum(sizes) // BATCH + 1), min_size=1, max_size=3))
    changes, slow = [], SlowCorpus("a", sizes, seed, window)
    halves, taken = [(0, smaller_half(slow))], 0
    for step in sorted(steps):
        while taken < step * BATCH:
            slow.take()
            taken += 1
        added = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=4))
        arguments = {"first_shard": len(slow.sizes), "shard_sizes": added}
        changes.append(Change(step=step, name="a", verb="grow", arguments=arguments))
        slow.grow(added)
        halves.append((taken, smaller_half(slow)))
    for others, first, _ in readings(read(sizes, window, seed, 4, changes)):
        assert others >= max(half for half in halves if half[0] <= first)[1], first


def smaller_half(slow: SlowCorpus) -> int:
    return min(sum(len(rows) for half, rows in slow.segments if half == which) for which in (0, 1))
