"""mixer.comparing: what two plans have in common and what not, against their batches, sample by sample."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer import Corpus, MixerError, Plan, Schedule, StepError
from mixer.comparing import compare, pieces_in_force
from tests.strategies import schedules, shard_sizes

SIZES = {"c4": [40, 30], "math": [20, 5], "code": [9]}


def plan(*rows: tuple[int, dict[str, float]], num_steps: int = 50, batch: int = 4, **options: object) -> Plan:
    phases = [{"start": start, "mixture": mixture} for start, mixture in rows]
    schedule = Schedule.from_dict({"phases": phases}, num_steps=num_steps, global_batch_size=batch, seq_len=8)
    return Plan(schedule, **{"corpora": SIZES, "data_seed": 1, **options})  # type: ignore[arg-type]


def draws(of: Plan, step: int) -> set[tuple[str, int, int]]:
    """(corpus, epoch, sample) of everything read below a step: each is read once."""
    batches = [of.batch(index) for index in range(step)]
    return {
        (of.names[c], e, s)
        for b in batches
        for c, e, s in zip(*map(list, (b.corpus, b.epoch, b.sample_id)), strict=True)
    }


def above_0(of: Plan, step: int) -> dict[str, float]:
    return {name: weight for name, weight in of.weights(step).items() if weight}


@given(first=schedules(max_steps=25), second=schedules(max_steps=25), data=st.data())
def test_what_is_common_is_what_both_read(first: Schedule, second: Schedule, data: st.DataObject) -> None:
    sizes = {name: data.draw(shard_sizes(), label=name) for name in sorted({*first.names, *second.names})}
    a, b = Plan(first, sizes, data_seed=1), Plan(second, sizes, data_seed=1)
    step = data.draw(st.integers(0, min(first.num_steps, second.num_steps)))
    found = compare(a, b, step=step)
    of_a, of_b = draws(a, step), draws(b, step)
    for name, reads in found.corpora.items():
        in_a, in_b = ({draw for draw in of if draw[0] == name} for of in (of_a, of_b))
        assert (reads.a, reads.b, reads.common) == (len(in_a), len(in_b), len(in_a & in_b))
        assert (reads.only_a, reads.only_b) == (len(in_a - in_b), len(in_b - in_a))
        assert reads.a_first_repeat == a.forecast()[name].first_repeat_step
        assert reads.b_epochs == b.forecast(step)[name].epochs


@given(first=schedules(max_steps=25), second=schedules(max_steps=25))
def test_stretches_are_where_the_weights_differ(first: Schedule, second: Schedule) -> None:
    sizes = {name: [100] for name in (*first.names, *second.names)}
    a, b = Plan(first, sizes, data_seed=1), Plan(second, sizes, data_seed=1)
    found = compare(a, b)
    differ = {step for stretch in found.stretches for step in range(stretch.start, stretch.end)}
    for step in range(min(found.num_steps)):
        assert (step in differ) == (above_0(a, step) != above_0(b, step))
    assert found.first_difference == min(differ, default=None)
    for stretch in found.stretches:
        for of, shown in ((a, stretch.a), (b, stretch.b)):
            for weights, step in zip(shown, (stretch.start, stretch.end - 1), strict=True):
                assert weights == {n: w for n, w in of.weights(step).items() if w}
    switchpoints = {*first.switchpoints, *second.switchpoints}
    for stretch in found.stretches:
        for step in switchpoints & set(range(stretch.start + 1, stretch.end)):  # nothing happens there
            assert all(above_0(of, step) == above_0(of, step - 1) for of in (a, b))
    json.dumps(found.to_dict())


@given(first=schedules(max_steps=25), second=schedules(max_steps=25))
def test_below_the_first_difference_both_read_the_same(first: Schedule, second: Schedule) -> None:
    sizes = {name: [30, 5] for name in (*first.names, *second.names)}
    a, b = Plan(first, sizes, data_seed=1), Plan(second, sizes, data_seed=1)
    for step in range(compare(a, b).same_below):
        ours, theirs = a.batch(step), b.batch(step)
        assert [a.names[c] for c in ours.corpus] == [b.names[c] for c in theirs.corpus]
        assert ours.sample_id.tolist() == theirs.sample_id.tolist()
    sizes_differ = [
        step
        for step in range(min(first.num_steps, second.num_steps))
        if first.batch_size(step) != second.batch_size(step)
    ]
    assert compare(a, b).first_other_size == min(sizes_differ, default=None)


@given(schedule=schedules())
def test_pieces_in_force_are_the_run(schedule: Schedule) -> None:
    of = Plan(schedule, {name: [100] for name in schedule.names}, data_seed=1)
    pieces = list(pieces_in_force(of))
    steps = [(step, weights) for start, end, weights in pieces for step in range(start, end)]
    assert [step for step, _ in steps] == list(range(schedule.num_steps))
    assert all(weights == above_0(of, step) for step, weights in steps)
    assert all(one[2] != other[2] for one, other in pairwise(pieces))


def test_a_share_that_is_handed_on_is_a_difference() -> None:
    rows = [(0, {"c4": 0.5, "math": 0.5})]
    capped = {**SIZES, "math": Corpus(shard_sizes=SIZES["math"], max_epochs=1, then="c4")}
    found = compare(plan(*rows), plan(*rows, corpora=capped))
    assert found.first_difference == 12  # where the 26th of 25 samples would be read
    assert [(s.start, s.end, s.b[0]) for s in found.stretches] == [(12, 50, {"c4": 1.0})]
    assert found.corpora["math"].a_first_repeat == 12
    assert found.corpora["math"].b_first_repeat is None


def test_an_edit_and_what_it_changes() -> None:
    before = plan((0, {"c4": 1.0}), (20, {"c4": 0.5, "math": 0.5}))
    after = plan((0, {"c4": 1.0}), (20, {"c4": 0.5, "math": 0.5}), (40, {"c4": 0.75, "math": 0.25}))
    found = compare(before, after)
    assert (found.first_difference, found.same_below, found.step) == (40, 40, 50)
    assert (found.corpora["math"].only_a, found.corpora["math"].only_b) == (10, 0)
    assert (found.corpora["c4"].only_a, found.corpora["c4"].only_b) == (0, 10)
    same = compare(before, before)
    assert (same.first_difference, same.same_below, same.stretches) == (None, 50, ())
    assert compare(before, after, step=40).corpora["math"].only_a == 0


def test_another_batch_size_reads_more_of_the_same() -> None:
    before = plan((0, {"c4": 0.5, "math": 0.5}))
    after = Plan(before.schedule.with_batch_size(30, 8), SIZES, data_seed=1)
    found = compare(before, after)
    assert (found.first_difference, found.first_other_size, found.same_below) == (None, 30, 30)
    assert [(reads.only_a, reads.only_b) for reads in found.corpora.values()] == [(0, 40), (0, 0), (0, 40)]


def test_what_is_common_is_not_known_of_different_orders() -> None:
    rows = [(0, {"c4": 0.5, "math": 0.5})]
    found = compare(plan(*rows), plan(*rows, corpora={**SIZES, "math": [25]}))
    assert (found.corpora["c4"].common, found.corpora["math"].common, found.same_below) == (100, None, 0)
    assert found.corpora["math"].only_a is None
    other_seed = compare(plan(*rows), plan(*rows, data_seed=2), same_seed=False)
    assert (other_seed.corpora["c4"].common, other_seed.corpora["code"].common, other_seed.same_below) == (None, 0, 0)
    # other shards of a corpus matter for what is read below the first difference, not for what comes later
    later = (0, {"c4": 1.0}), (30, {"math": 1.0}), (40, {"c4": 1.0})
    sooner = (0, {"c4": 1.0}), (20, {"math": 1.0}), (40, {"c4": 1.0})
    assert compare(plan(*later), plan(*sooner, corpora={**SIZES, "math": [25]})).same_below == 20


def test_runs_of_different_lengths_and_corpora() -> None:
    a = plan((0, {"c4": 1.0}), corpora={"c4": [70]})
    b = plan((0, {"c4": 1.0}), (60, {"new": 1.0}), num_steps=80, corpora={"c4": [70], "new": [5]})
    found = compare(a, b)
    assert (found.num_steps, found.step, found.first_difference, found.same_below) == ((50, 80), 50, None, 50)
    assert (found.corpora["new"].a, found.corpora["new"].b_first_repeat) == (0, 61)
    with pytest.raises(StepError, match="step 51 is outside of the run, which has 50 steps"):
        compare(a, b, step=51)


def test_counts_say_all_however_often_a_corpus_is_read() -> None:
    """10^8 epochs, which could not be gone through one by one."""
    rows = [(0, {"c4": 0.75, "math": 0.25})]
    a = plan(*rows, num_steps=10**9, batch=16)
    b = plan(*rows, (10**8, {"math": 1.0}), num_steps=10**9, batch=16)
    found = compare(a, b)
    assert (found.corpora["c4"].common, found.corpora["c4"].only_a) == (12 * 10**8, 12 * 9 * 10**8)
    assert (found.corpora["math"].only_a, found.same_below) == (0, 10**8)


def test_samples_of_different_lengths_are_not_compared() -> None:
    schedule = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": {"c4": 1.0}}]}, num_steps=50, global_batch_size=4, seq_len=16
    )
    with pytest.raises(MixerError, match="samples of 8 and 16 tokens cannot be compared"):
        compare(plan((0, {"c4": 1.0})), Plan(schedule, SIZES, data_seed=1))
