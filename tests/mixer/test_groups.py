"""Node groups: parts, order slot by slot against the plain oracle, exactness by group and in sum, ranks, resume.

`python -m tests.mixer.test_groups 50` prints the figures that stand in docs/DETERMINISM.md.
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
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mixer import Corpus, CorpusError, Ledger, MixerError, Plan, Schedule, StateError
from mixer.cli import main
from mixer.groups import GroupedPlan, make_plan
from mixer.parts import Parts
from mixer.ranges import Ranges
from mixer.reading import Reading
from mixer.storage.upcoming import uses_from
from mixer.weights import UNIT
from tests.mixer.test_deviation import random_ledger
from tests.oracles import Refused, slow_grouped_plan
from tests.strategies import NAMES, corpus_changes, schedules, shard_sizes

GROUPS = st.sampled_from([2, 3, 4, 8])


def grouped(schedule: Schedule, num_groups: int) -> Schedule:
    """The same phases with as many slots in each group."""
    sizes = [{"start": row.start, "global_batch_size": row.size * num_groups} for row in schedule.batch_sizes]
    return Schedule.from_dict(
        {**schedule.to_dict(), "batch_sizes": sizes},
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
        name: Corpus(
            shard_sizes=own, max_epochs=draw(st.none() | st.integers(1, 3)), then=draw(st.sampled_from(NAMES[:1]))
        )
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


@settings(max_examples=30)
@given(runs())
def test_every_slot_is_what_the_plain_oracle_reads(run) -> None:
    schedule, corpora, facts = run
    plan = accepted(schedule, corpora, facts)
    assert_as_oracle(plan, schedule, corpora, facts)


@settings(max_examples=30)
@given(runs(("add", "remove", "rename", "quarantine", "grow")))
def test_changes_of_corpora_are_what_the_plain_oracle_makes_of_them(run) -> None:
    schedule, corpora, facts = run
    plan = accepted(schedule, corpora, facts)
    assert_as_oracle(plan, schedule, corpora, facts)


def assert_as_oracle(plan: GroupedPlan, schedule: Schedule, corpora: Mapping[str, Any], facts: dict[str, Any]) -> None:
    expected = slow_grouped_plan(schedule, corpora, facts["data_seed"], facts["shuffle_window"], facts["num_groups"])
    for step, slots in enumerate(expected):
        assert slots_of(plan, step) == slots


@pytest.mark.parametrize(("num_slots", "num_groups"), [(2, 4), (8, 3)])
def test_many_short_phases_are_what_the_plain_oracle_reads(num_slots: int, num_groups: int) -> None:
    """Long enough for differences to stand that are made up for elsewhere."""
    ledger = random_ledger(random.Random(3), max_batch=1, ramps=False, edits=0)
    schedule, corpora = grouped(ledger.schedule, num_slots * num_groups), {f"c{index}": [1000] for index in range(8)}
    facts = {"data_seed": 1, "shuffle_window": 16, "num_groups": num_groups}
    assert_as_oracle(GroupedPlan(schedule, corpora, **facts), schedule, corpora, facts)


@settings(max_examples=30)
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


@given(shard_sizes(), shard_sizes(), st.integers(2, 9), st.integers(0, 99))
def test_parts_share_out_every_sample_and_nearly_every_shard(sizes, more, num_groups, seed) -> None:
    assume(sum(sizes) >= num_groups)
    parts = Parts("c4", sizes, data_seed=seed, num_groups=num_groups)
    check_parts(parts, sizes, num_groups)
    before = [parts.to_corpus(group, np.arange(sum(parts.sizes(group)))).tolist() for group in range(num_groups)]
    parts.grow(more)
    check_parts(parts, [*sizes, *more], num_groups, num_cuts=2 * (num_groups - 1))
    for group, samples in enumerate(before):
        assert parts.to_corpus(group, np.arange(len(samples))).tolist() == samples


def check_parts(parts: Parts, sizes: list[int], num_groups: int, num_cuts: int | None = None) -> None:
    held = [parts.to_corpus(group, np.arange(sum(parts.sizes(group)))).tolist() for group in range(num_groups)]
    assert sorted(sample for samples in held for sample in samples) == list(range(sum(sizes)))
    num_samples = [len(samples) for samples in held]
    num_cuts = num_groups - 1 if num_cuts is None else num_cuts
    assert max(num_samples) - min(num_samples) <= num_cuts // (num_groups - 1)
    shards = [shard for group in range(num_groups) for shard in parts.shards_of(group).tolist()]
    assert set(shards) == {shard for shard, size in enumerate(sizes) if size}
    assert len(shards) - len(set(shards)) <= num_cuts
    for group, samples in enumerate(held):
        assert [parts.to_part(sample) for sample in samples] == [(group, number) for number in range(len(samples))]
    border = sum(sizes) // 2
    inside = [parts.within(group, Ranges([[border, border + 9]])) for group in range(num_groups)]
    chosen = [
        held[group][number]
        for group, ranges in enumerate(inside)
        for low, high in ranges
        for number in range(low, high)
    ]
    assert sorted(chosen) == list(range(border, min(border + 9, sum(sizes))))


def test_whole_shards_where_they_can_be_shared_out() -> None:
    parts = Parts("c4", [7] * 12, data_seed=1, num_groups=4)
    assert sorted(shard for group in range(4) for shard in parts.shards_of(group)) == list(range(12))


def test_more_groups_than_samples_are_refused() -> None:
    with pytest.raises(CorpusError, match="'c4' has 3 samples, which cannot be split over num_groups=4: choose fewer"):
        Parts("c4", [2, 1], data_seed=1, num_groups=4)


SIZES = {"num_steps": 60, "global_batch_size": 48, "seq_len": 8}
PHASES = [
    {"start": 0, "mixture": {"c4": 1}},
    {"start": 20, "mixture": {"c4": 0.6, "code": 0.3, "math": 0.1}, "ramp": {"shape": "linear", "length": 12}},
]
CORPORA = {"c4": [40] * 12, "code": [60] * 5, "math": [25, 26]}
FACTS = {"data_seed": 3, "shuffle_window": 2}


def schedule_of(phases: Any = None, **sizes: int) -> Schedule:
    return Schedule.from_dict({"phases": phases or PHASES}, **{**SIZES, **sizes})


def test_one_group_is_the_plan_without_groups() -> None:
    plan = make_plan(schedule_of(), CORPORA, num_groups=1, **FACTS)
    assert type(plan) is Plan
    assert slots_of(plan, 30) == slots_of(Plan(schedule_of(), CORPORA, **FACTS), 30)


def test_groups_must_divide_every_batch() -> None:
    later = {"phases": PHASES, "batch_sizes": [{"start": 40, "global_batch_size": 50}]}
    with pytest.raises(MixerError, match="num_groups=4 does not divide the batch size 50 from step 40 on"):
        GroupedPlan(Schedule.from_dict(later, **SIZES), CORPORA, num_groups=4, **FACTS)
    with pytest.raises(MixerError, match="num_groups=5 does not divide the batch size 48 from step 0 on"):
        GroupedPlan(schedule_of(), CORPORA, num_groups=5, **FACTS)


@given(schedules(max_steps=30, max_batch=1), GROUPS)
def test_what_is_drawn_does_not_depend_on_the_number_of_groups(schedule, num_groups) -> None:
    """Where groups have slots enough."""
    facts = {"num_steps": schedule.num_steps, "global_batch_size": 128 * num_groups, "seq_len": 8}
    schedule = Schedule.from_dict({"phases": schedule.to_dict()["phases"]}, **facts)
    corpora = {name: [99] * 9 for name in schedule.names}
    whole, plan = (
        Plan(schedule, corpora, data_seed=1),
        GroupedPlan(schedule, corpora, data_seed=1, num_groups=num_groups),
    )
    for step in range(schedule.num_steps):
        assert plan.counts(step) == whole.counts(step)


@settings(max_examples=20)
@given(runs(), st.data())
def test_each_group_reads_its_part_in_permutations_and_the_inverse_finds_it(run, data) -> None:
    schedule, corpora, facts = run
    plan = accepted(schedule, corpora, facts)
    readings: dict[tuple[str, int], dict[int, tuple[int, int, int, int]]] = {}
    for step in range(schedule.num_steps):
        for slot, (name, ordinal, epoch, sample) in enumerate(slots_of(plan, step)):
            group = slot // plan.num_slots(step)
            assert plan.parts_of(name).to_part(sample)[0] == group
            readings.setdefault((name, group), {})[ordinal] = (epoch, sample, step, slot)
    for (name, group), by_ordinal in readings.items():
        size = sum(plan.parts_of(name).sizes(group))
        assert sorted(by_ordinal) == list(range(len(by_ordinal)))
        taken = [by_ordinal[ordinal] for ordinal in range(len(by_ordinal))]
        assert [epoch for epoch, *_ in taken] == [ordinal // size for ordinal in range(len(taken))]
        for start in range(0, len(taken), size):
            epoch = [sample for _, sample, *_ in taken[start : start + size]]
            assert len(set(epoch)) == len(epoch)
    name, group = data.draw(st.sampled_from(sorted(readings)))
    sample = data.draw(st.sampled_from([sample for _, sample, *_ in readings[name, group].values()]))
    start = data.draw(st.integers(0, schedule.num_steps))
    by_ordinal = [place for _, place in sorted(readings[name, group].items())]
    places = [(step, slot) for _, s, step, slot in by_ordinal if s == sample and step >= start]
    assert plan.steps_of(name, sample, start) == places


@settings(max_examples=30)
@given(runs())
def test_the_forecast_is_what_reading_everything_gives(run) -> None:
    schedule, corpora, facts = run
    plan = accepted(schedule, corpora, facts)
    seen: set[tuple[str, int]] = set()
    first_repeat: dict[str, int] = {}
    count: Counter[str] = Counter()
    for step in range(schedule.num_steps):
        assert plan.drawn_before(step) == {name: count[name] for name in plan.names}
        for name, _, _, sample in slots_of(plan, step):
            count[name] += 1
            if (name, sample) in seen:
                first_repeat.setdefault(name, step)
            seen.add((name, sample))
    for name, found in plan.forecast().items():
        assert (found.samples, found.first_repeat_step) == (count[name], first_repeat.get(name))
        assert (found.earliest_start is None) == (found.first_repeat_step is None)
        for ordinal in range(0, count[name], 7):
            step = plan.step_of(name, ordinal)
            assert plan.drawn_before(step)[name] <= ordinal < plan.drawn_before(step + 1)[name]


@settings(max_examples=30)
@given(runs(("quarantine", "add", "rename")), st.data())
def test_what_comes_later_moves_nothing(run, data) -> None:
    schedule, corpora, facts = run
    plan = accepted(schedule, corpora, facts)
    step = data.draw(st.integers(0, schedule.num_steps - 1))
    edit = {"mixture": {schedule.names[0]: 1}}
    ledger = Ledger(base=schedule).propose(
        edit, parent=0, effective_step=step, frontier=0, author="a", reason="r", time="t"
    )
    edited = accepted(ledger.schedule, corpora, facts)
    for below in range(step):
        assert slots_of(edited, below) == slots_of(plan, below)


def reading(num_groups: int = 4, ledger: Ledger | None = None, **changes: Any) -> Reading:
    facts = {**FACTS, "fingerprints": {name: name for name in CORPORA}, "num_groups": num_groups, **changes}
    bases = {"c4": 0, "code": 480, "math": 780}
    return Reading(ledger or Ledger(base=schedule_of()), CORPORA, bases=bases, **facts)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4, 6, 8, 12, 16, 48])
def test_the_order_is_the_same_for_any_number_of_ranks(num_ranks: int) -> None:
    run, plan = reading(), GroupedPlan(schedule_of(), CORPORA, num_groups=4, **FACTS)
    bases = np.array([0, 480, 780])
    for step in (0, 19, 25, 59):
        found = plan.batch(step)
        together = [a for rank in range(num_ranks) for a in run.addresses(step, rank, num_ranks).tolist()]
        assert together == (bases[found.corpus] + found.sample_id).tolist()


def test_a_rank_reads_the_shards_of_its_group_alone() -> None:
    run = reading()
    ends = {name: np.cumsum(sizes) for name, sizes in CORPORA.items()}
    bases = {"c4": 0, "code": 480, "math": 780}
    for rank in range(8):
        mine = {name: set(run.plan.parts_of(name).shards_of(rank // 2).tolist()) for name in CORPORA}
        assert len(mine["c4"]) == 3  # of 12
        for step in range(60):
            for address in run.addresses(step, rank, 8).tolist():
                name = max((n for n in CORPORA if bases[n] <= address), key=bases.__getitem__)
                assert int(np.searchsorted(ends[name], address - bases[name], side="right")) in mine[name]


@pytest.mark.parametrize(("rank", "num_ranks"), [(0, 1), (1, 2), (2, 4), (5, 8), (2, 3), (4, 6)])
def test_the_shards_that_come_next_are_those_of_the_groups_of_a_rank(rank: int, num_ranks: int) -> None:
    run, ends = reading(), np.cumsum([size for sizes in CORPORA.values() for size in sizes])
    assert isinstance(run.plan, GroupedPlan)
    firsts = {"c4": 0, "code": 12, "math": 17}
    shares = [run.plan.share_of(group) for group in run.plan.groups_of(rank, num_ranks)]
    uses = [use for share in shares for use in uses_from(share, 5, firsts)]
    for step in range(5, 60):
        in_use = {shard for use in uses if use.start <= step <= use.last for shard in use.shards.tolist()}
        assert set(np.searchsorted(ends, run.addresses(step, rank, num_ranks), side="right").tolist()) <= in_use
    own = {
        f + int(s) for n, f in firsts.items() for share in shares for s in run.plan.parts_of(n).shards_of(share._group)
    }
    assert {shard for use in uses for shard in use.shards.tolist()} <= own


def propose(ledger: Ledger, change: dict[str, Any], step: int) -> Ledger:
    return ledger.propose(
        change, parent=ledger.in_force, effective_step=step, frontier=0, author="a", reason="r", time="t"
    )


def revised() -> Ledger:
    ledger = propose(Ledger(base=schedule_of()), {"mixture": {"c4": 0.5, "math": 0.5}}, 10)
    ledger = propose(ledger, {"corpora": {"c4": {"quarantine": {"samples": [[0, 50]], "shards": [7]}}}}, 23)
    ledger = propose(ledger, {"corpora": {"web": {"rename": {"from": "c4"}}}}, 27)
    return propose(ledger, {"mixture": {"c4": 0.25, "code": 0.75}}, 41)


@pytest.mark.parametrize("step", [0, 9, 10, 15, 23, 24, 30, 41, 42, 55])
def test_a_checkpoint_resumes_exactly_with_revisions_in_the_past(step: int) -> None:
    whole = reading(ledger=revised())
    resumed = reading()
    resumed.restore(json.loads(json.dumps(whole.state(step))))
    for later in range(step, 60):
        assert resumed.addresses(later, 1, 4).tolist() == whole.addresses(later, 1, 4).tolist()
    again = reading()
    again.restore(json.loads(json.dumps(resumed.state(min(step + 7, 60)))))
    for later in range(min(step + 7, 60), 60):
        assert again.addresses(later).tolist() == whole.addresses(later).tolist()


def test_the_state_stays_small() -> None:
    names = [f"corpus-{index}" for index in range(8)]
    base = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": dict.fromkeys(names, 0.125)}]},
        **{**SIZES, "num_steps": 10**6, "global_batch_size": 1024},
    )
    ledger = propose(Ledger(base=base), {"mixture": {names[0]: 0.3, **dict.fromkeys(names[1:], 0.1)}}, 900_000)
    sizes = {}
    for num_groups in (1, 8, 64):
        facts = {**FACTS, "fingerprints": dict.fromkeys(names, "f" * 64), "bases": dict.fromkeys(names, 0)}
        run = Reading(ledger, {name: [16_000] * 900 for name in names}, num_groups=num_groups, **facts)
        sizes[num_groups] = len(json.dumps(run.state(950_000), separators=(",", ":")))
    assert sizes[8] - sizes[1] <= 3 * 8 * 8 + 60
    assert sizes[64] - sizes[1] <= 3 * 8 * 64 + 60


def test_another_number_of_groups_is_refused_with_both_sides() -> None:
    for ledger in (Ledger(base=schedule_of()), revised()):
        for was, now in ((4, 2), (4, 1), (1, 4)):
            with pytest.raises(StateError, match=f"num_groups was {was}, is {now}"):
                reading(now).restore(json.loads(json.dumps(reading(was, ledger).state(30))))


def test_a_state_without_groups_says_nothing_of_them() -> None:
    assert not {"num_groups", "groups"} & reading(1).state(30).keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c4": {"skip": {"samples": 5}}}, r"num_groups=4 cannot skip: .* @ \$.corpora.c4.skip"),
        ({"new": {"split": {"from": "c4", "shards": [1]}}}, r"num_groups=4 cannot split: .* @ \$.corpora.new.split"),
        ({"math": {"quarantine": {"samples": [[0, 50]]}}}, r"leaves node group \d nothing of 'math'"),
        ({"tiny": {"add": {"shard_sizes": [2]}}}, "'tiny' has 2 samples, which cannot be split over num_groups=4"),
    ],
)
def test_changes_that_groups_cannot_make_are_refused(change: dict[str, Any], message: str) -> None:
    ledger = propose(Ledger(base=schedule_of()), {"corpora": change}, 30)
    with pytest.raises(MixerError, match=message):
        GroupedPlan(ledger.schedule, CORPORA, num_groups=4, **FACTS)


def test_one_order_of_a_corpus_is_not_to_be_had() -> None:
    with pytest.raises(MixerError, match="'c4' is read in 4 orders, one a node group"):
        GroupedPlan(schedule_of(), CORPORA, num_groups=4, **FACTS).order_of("c4")


@pytest.mark.parametrize("num_slots", [1, 2, 5, 20])
def test_no_group_gives_back_or_reads_what_has_no_weight_or_more_than_it_has_slots(num_slots: int) -> None:
    for seed in range(3):
        ledger = random_ledger(random.Random(seed), max_batch=1, ramps=True, edits=2)
        schedule, corpora = grouped(ledger.schedule, num_slots * 4), {f"c{index}": [1000] for index in range(8)}
        plan = GroupedPlan(schedule, corpora, data_seed=seed, num_groups=4)
        read = np.array([[*plan.read_before(step).values()] for step in range(schedule.num_steps + 1)])
        drawn = np.diff(read, axis=0)  # [num_steps, num_corpora, num_groups]
        assert (drawn >= 0).all()
        assert (drawn.sum(axis=1) == num_slots).all()
        for step in range(schedule.num_steps):
            weights = schedule.weights_ppb(step)
            assert not drawn[step, [index for index, name in enumerate(plan.names) if not weights.get(name)]].any()


def test_commands_show_a_run_with_groups(tmp_path, capsys) -> None:
    sizes = {"data_seed": 3, "max_duration": "60ba", "global_batch_size": 48, "seq_len": 8, "shuffle_window": 2}
    corpora = {name: {} for name in CORPORA}
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({**sizes, "num_groups": 4, "corpora": corpora, "schedule": {"phases": PHASES}}))
    options = [arg for name in CORPORA for arg in ("--size", f"{name}=90000")]
    plan = GroupedPlan(schedule_of(), {name: [16384] * 5 + [8080] for name in CORPORA}, num_groups=4, **FACTS)
    assert main(["batch", str(path), "30", "--json", *options]) == 0
    assert json.loads(capsys.readouterr().out)["sample_id"] == plan.batch(30).sample_id.tolist()
    sample = int(plan.batch(30).sample_id[7])
    corpus = plan.names[int(plan.batch(30).corpus[7])]
    assert main(["locate", str(path), corpus, str(sample), "--json", *options]) == 0
    assert [30, 7] in [[*read.values()][:2] for read in json.loads(capsys.readouterr().out)]
    for command in (["show", str(path)], ["forecast", str(path)], ["diff", str(path), str(path)]):
        assert main([*command, *options]) == 0


def deviations(schedule: Schedule, num_groups: int) -> tuple[Fraction, Fraction]:
    """The worst, in samples, of any group and of all groups together, at the end of any step."""
    plan = GroupedPlan(schedule, {f"c{index}": [1000] for index in range(8)}, data_seed=1, num_groups=num_groups)
    target, by_group, in_sum = np.zeros(len(plan.names), np.int64), 0, 0
    for step in range(schedule.num_steps):
        wanted = schedule.weights_ppb(step)
        target += np.array([wanted.get(name, 0) for name in plan.names]) * schedule.global_batch_size
        read = np.array([*plan.read_before(step + 1).values()])
        by_group = max(by_group, int(np.abs(target[:, None] - UNIT * num_groups * read).max()))
        in_sum = max(in_sum, int(np.abs(target - UNIT * read.sum(axis=1)).max()))
    return Fraction(by_group, UNIT * num_groups), Fraction(in_sum, UNIT)


def campaign(num_slots: int, num_groups: int, num_schedules: int, seed: int = 0) -> tuple[Fraction, Fraction]:
    """The worst over random schedules, every other one with ramps and edits."""
    rng, found = random.Random(f"{num_slots}/{num_groups}/{seed}"), []
    for index in range(num_schedules):
        ledger = random_ledger(rng, max_batch=1, ramps=bool(index % 2), edits=3 * (index % 2))
        found.append(deviations(grouped(ledger.schedule, num_slots * num_groups), num_groups))
    return max(by_group for by_group, _ in found), max(in_sum for _, in_sum in found)


BY_GROUP, IN_SUM = 7, 2  # samples; in sum where every group has 64 slots


@pytest.mark.parametrize("num_groups", [2, 3, 16])
def test_worst_deviation(num_groups: int) -> None:
    by_group, in_sum = campaign(64, num_groups, 3)
    assert by_group <= BY_GROUP
    assert in_sum <= IN_SUM


@pytest.mark.soak
@pytest.mark.parametrize("num_groups", [2, 3, 8, 64])
def test_worst_deviation_of_a_campaign(num_groups: int) -> None:
    by_group, in_sum = campaign(64, num_groups, 300, seed=1)
    assert by_group <= BY_GROUP
    assert in_sum <= IN_SUM


if __name__ == "__main__":
    for slots in (1, 4, 16, 64):
        for groups in (2, 4, 8, 16, 64):
            by_group, in_sum = campaign(slots, groups, int(sys.argv[1]), seed=1)
            worst = f"worst {float(by_group):.2f} samples in a group, {float(in_sum):.2f} in sum"
            print(f"{groups} groups of {slots} slots: {worst}", flush=True)
