"""Node groups: parts, order slot by slot against the plain oracle, exactness by group and in sum, ranks, resume.

`python -m tests.mixer.test_groups 1000` prints the figures that stand in docs/DETERMINISM.md.
"""

import json
import random
import sys
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mixer import Corpus, CorpusError, Ledger, MixerError, Plan, Schedule, ScheduleError, StateError
from mixer.groups import GroupedPlan, make_plan
from mixer.parts import Parts
from mixer.ranges import Ranges
from mixer.reading import Reading
from mixer.weights import UNIT
from tests.mixer.test_deviation import random_ledger
from tests.oracles import Refused, slow_grouped_plan
from tests.strategies import NAMES, corpus_changes, ranges_below, schedules, shard_sizes

GROUPS = st.sampled_from([2, 3, 4, 8])


def grouped(schedule: Schedule, num_groups: int) -> Schedule:
    """The same phases with as many slots in each group."""
    return Schedule.from_dict(
        schedule.to_dict(),
        num_steps=schedule.num_steps,
        global_batch_size=schedule.global_batch_size * num_groups,
        seq_len=8,
    )


@st.composite
def runs(draw: st.DrawFn, verbs: tuple[str, ...] = ()) -> tuple[Schedule, dict[str, Corpus], dict[str, Any]]:
    """A schedule, its corpora, and the other arguments of a plan."""
    num_groups = draw(GROUPS)
    schedule = grouped(draw(schedules(max_steps=40, max_batch=6)), num_groups)
    sizes = {name: [*draw(shard_sizes()), num_groups] for name in schedule.names}
    if verbs:
        changes = []
        for step in draw(st.lists(st.integers(0, schedule.num_steps - 1), max_size=4)):
            change = draw(st.sampled_from(verbs).flatmap(lambda verb: corpus_changes(verb, sizes, {})))
            changes.append({"start": step, "corpora": change})
        facts = {"num_steps": schedule.num_steps, "global_batch_size": schedule.global_batch_size, "seq_len": 8}
        schedule = Schedule.from_dict({**schedule.to_dict(), "changes": changes}, **facts)
    corpora = {
        name: Corpus(shard_sizes=own, max_epochs=draw(st.none() | st.integers(1, 3)), then=draw(st.sampled_from(NAMES[:1])))
        for name, own in sizes.items()
    }
    facts = {"data_seed": draw(st.integers(0, 2**70)), "shuffle_window": draw(st.integers(1, 4))}
    return schedule, corpora, {**facts, "num_groups": num_groups}


def slots_of(plan: Plan, step: int) -> list[tuple[str, int, int, int]]:
    found = plan.batch(step)
    names = [plan.names[index] for index in found.corpus.tolist()]
    return list(zip(names, found.ordinal.tolist(), found.epoch.tolist(), found.sample_id.tolist(), strict=True))


def accepted(schedule: Schedule, corpora: Mapping[str, Any], facts: dict[str, Any]) -> GroupedPlan:
    try:
        return GroupedPlan(schedule, corpora, **facts)
    except MixerError:
        assume(False)
        raise


@given(runs())
def test_every_slot_is_what_the_plain_oracle_reads(run) -> None:
    schedule, corpora, facts = run
    plan = accepted(schedule, corpora, facts)
    assert_as_oracle(plan, schedule, corpora, facts)


@given(runs(("add", "remove", "rename", "quarantine", "grow")))
def test_changes_of_corpora_are_what_the_plain_oracle_makes_of_them(run) -> None:
    schedule, corpora, facts = run
    plan = accepted(schedule, corpora, facts)
    assert_as_oracle(plan, schedule, corpora, facts)


def assert_as_oracle(plan: GroupedPlan, schedule: Schedule, corpora: Mapping[str, Any], facts: dict[str, Any]) -> None:
    expected = slow_grouped_plan(
        schedule, corpora, facts["data_seed"], facts["shuffle_window"], facts["num_groups"]
    )
    for step, slots in enumerate(expected):
        assert slots_of(plan, step) == slots


@given(runs(("skip", "split", "quarantine", "rename")))
def test_what_the_oracle_refuses_is_refused(run) -> None:
    schedule, corpora, facts = run
    try:
        GroupedPlan(schedule, corpora, **facts)
    except MixerError:
        return
    try:
        list(slow_grouped_plan(schedule, corpora, facts["data_seed"], facts["shuffle_window"], facts["num_groups"]))
    except Refused as refused:
        raise AssertionError(f"the plan takes what the oracle refuses: {refused}") from refused


if __name__ == "__main__":
    pass
