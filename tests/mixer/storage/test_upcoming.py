"""Which shards are used when, against reading every step of a plan."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mixer import MixerError, Plan, Schedule
from mixer.storage.budget import NEVER
from mixer.storage.upcoming import Upcoming, Use, next_uses, uses_from
from tests.strategies import NAMES, corpus_changes, phase_lists, shard_sizes

FEW = settings(max_examples=max(settings().max_examples // 3, 1))
VERBS = ("quarantine", "grow", "split", "skip", "rename")


@dataclass
class Run:
    """A plan, the first shard of each of its corpora, and what is read: name → [(step, shard)], by ordinal."""

    plan: Plan
    firsts: dict[str, int]
    reads: dict[str, list[tuple[int, int]]]

    @property
    def num_shards(self) -> int:
        return sum(len(self.plan.order_of(name).shard_sizes) for name in self.firsts)


@st.composite
def runs(draw: st.DrawFn, *, max_changes: int = 3) -> Run:
    """Few steps or many over small corpora, with ramps, weights of 0 in between, and changes."""
    names = NAMES[: draw(st.integers(1, 3))]
    num_steps, batch = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    shapes = {name: draw(shard_sizes()) for name in names}
    rows = []
    for _ in range(draw(st.integers(0, max_changes)) if num_steps > 1 else 0):
        change = draw(st.sampled_from(VERBS).flatmap(lambda verb: corpus_changes(verb, shapes, {})))
        rows.append({"start": draw(st.integers(1, num_steps - 1)), "corpora": change})
    phases = draw(phase_lists(names, 0, num_steps, 4))
    try:
        schedule = Schedule.from_dict(
            {"phases": phases, "changes": sorted(rows, key=lambda row: row["start"])},
            num_steps=num_steps, global_batch_size=batch, seq_len=8,
        )  # fmt: skip
        plan = Plan(schedule, shapes, data_seed=draw(st.integers(0, 9)), shuffle_window=draw(st.integers(1, 5)))
    except MixerError:
        assume(False)
    return walk(plan)


def walk(plan: Plan) -> Run:
    firsts, num_shards = {}, 0
    for name in plan.names:
        if plan.origins[name] == name:
            firsts[name], num_shards = num_shards, num_shards + len(plan.order_of(name).shard_sizes)
    read: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
    for step in range(plan.schedule.num_steps):
        batch = plan.batch(step)
        columns = (batch.corpus.tolist(), batch.ordinal.tolist(), batch.sample_id.tolist())
        for corpus, ordinal, sample in zip(*columns, strict=True):
            name = plan.names[corpus]
            ends = np.cumsum(plan.order_of(plan.origins[name]).shard_sizes)
            shard = firsts[plan.origins[name]] + int(np.searchsorted(ends, sample, side="right"))
            read[name][ordinal] = (step, shard)
    return Run(plan, firsts, {name: [found[o] for o in sorted(found)] for name, found in read.items()})


def uses_of(run: Run, step: int) -> dict[str, list[Use]]:
    found: dict[str, list[Use]] = defaultdict(list)
    for use in uses_from(run.plan, step, run.firsts):
        found[use.corpus].append(use)
    return found


@FEW
@given(runs(), st.data())
def test_whatever_is_read_is_in_use_then(run: Run, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, run.plan.schedule.num_steps))
    everything = list(uses_from(run.plan, start, run.firsts))
    assert [use.start for use in everything] == sorted(use.start for use in everything)
    uses = uses_of(run, start)
    for name, read in run.reads.items():
        for step, shard in read:
            now = [use for use in uses[name] if use.start <= step <= use.last]
            assert step < start or any(shard in use.shards for use in now)


@FEW
@given(runs(), st.data())
def test_a_use_begins_with_its_first_reading_and_ends_with_its_last(run: Run, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, run.plan.schedule.num_steps))
    uses = uses_of(run, start)
    for name in run.plan.names:
        steps = [step for step, _ in run.reads.get(name, []) if step >= start]
        assert [use.start for use in uses[name]][:1] == steps[:1]
        for use, following in pairwise(uses[name]):
            assert use.start <= use.last <= following.start
            assert not [step for step in steps if use.last < step < following.start]
            assert {use.last, following.start} <= set(steps)
        for use in uses[name][-1:]:
            assert use.last in (steps[-1], NEVER)


@FEW
@given(runs(max_changes=0))
def test_no_shard_is_in_use_that_is_not_read(run: Run) -> None:
    """In a window that is read to its end, or else it would be fetched for nothing."""
    for name, uses in uses_of(run, 0).items():
        for use in uses:
            read = {shard for step, shard in run.reads[name] if use.start <= step <= use.last}
            held = np.cumsum(run.plan.order_of(name).shard_sizes)
            tiny = {run.firsts[name] + shard for shard in np.flatnonzero(np.diff(held, prepend=0) < 2).tolist()}
            assert use.last == NEVER or read >= set(use.shards.tolist()) - tiny
            assert len(use.shards)


def test_shards_that_are_left_out_are_not_in_use() -> None:
    """Neither what is quarantined, nor what a part of a corpus does not hold, is worth fetching."""
    changes = [
        {"start": 4, "corpora": {"a": {"quarantine": {"shards": [1]}}}},
        {"start": 8, "corpora": {"part": {"split": {"from": "a", "shards": [[0, 3]]}}}},
    ]
    for window in (2, 9):
        schedule = Schedule.from_dict(
            {
                "phases": [
                    {"start": 0, "mixture": {"a": 1}},
                    {"start": 8, "mixture": {"a": 0.5, "part": 0.5}},
                ],
                "changes": changes,
            },
            num_steps=30, global_batch_size=10, seq_len=8,
        )  # fmt: skip
        plan = Plan(schedule, {"a": [10] * 6}, data_seed=0, shuffle_window=window)
        used = {name: set[int]() for name in ("a", "part")}
        for use in uses_from(plan, 8, {"a": 0}):
            used[use.corpus] |= set(use.shards.tolist())
        assert used == {"a": {3, 4, 5}, "part": {0, 2}}


@FEW
@given(runs(), st.data())
def test_the_next_use_of_each_corpus(run: Run, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, run.plan.schedule.num_steps))
    found = next_uses(run.plan, step, run.firsts)
    expected = {name: uses[1] for name, uses in uses_of(run, step).items() if len(uses) > 1}
    assert described(found.values()) == described(expected[name] for name in found)
    assert found.keys() == expected.keys()


def described(uses: Iterable[Use]) -> list[tuple[int, int, str, list[int]]]:
    return [(use.start, use.last, use.corpus, use.shards.tolist()) for use in uses]


def test_corpora_without_shards_of_their_own_are_passed_over() -> None:
    schedule = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": {"a": 0.5, "b": 0.5}}]}, num_steps=9, global_batch_size=4, seq_len=8
    )
    plan = Plan(schedule, {"a": [5, 5], "b": [5]}, data_seed=0)
    assert {use.corpus for use in uses_from(plan, 0, {"b": 7})} == {"b"}
    assert next_uses(plan, 0, {"b": 7}).keys() == {"b"}


@FEW
@given(runs(), st.data())
def test_looking_further_and_forgetting(run: Run, data: st.DataObject) -> None:
    """Whatever was asked before, the answer is the same."""
    num_steps = run.plan.schedule.num_steps
    start = data.draw(st.integers(0, num_steps))
    everything = list(uses_from(run.plan, start, run.firsts))
    upcoming, passed = Upcoming([run.plan], start, run.firsts), 0
    for step in sorted(data.draw(st.lists(st.integers(start, num_steps + 3), max_size=4))):
        passed = max(passed, step - data.draw(st.integers(0, 5)))
        upcoming.pass_by(passed)
        expected = [use for use in everything if use.start <= step and use.last >= passed]
        found = [use for use in upcoming.until(step) if use.last >= passed]
        assert described(found) == described(expected)
        assert upcoming.next_start == min((use.start for use in everything[upcoming.num_known :]), default=NEVER)


@FEW
@given(runs(), st.data())
def test_needs_say_when_each_shard_is_read_first(run: Run, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, run.plan.schedule.num_steps))
    uses = list(uses_from(run.plan, start, run.firsts))
    num_ahead = data.draw(st.integers(0, 20))
    needs = Upcoming([run.plan], start, run.firsts).needs(run.num_shards, num_ahead=num_ahead, keep_until=start + 3)
    expected, ahead = np.full(run.num_shards, NEVER), 0
    for use in uses:
        if ahead >= num_ahead:
            break
        ahead += len(use.shards)
        for shard in use.shards.tolist():
            expected[shard] = min(expected[shard], use.start)
    assert needs.first_step.tolist() == expected.tolist()
    assert needs.keep_until == start + 3
