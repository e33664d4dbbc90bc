"""The plan against the slow oracle, its eight properties one by one, and its cost."""

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer import (
    ORDER_VERSION,
    Corpus,
    CorpusError,
    Ledger,
    Phase,
    Plan,
    RepetitionError,
    Schedule,
    ScheduleError,
    StepError,
    UnknownCorpusError,
)
from mixer.weights import UNIT
from tests import oracles
from tests.strategies import NAMES, phase_lists, schedules, shard_sizes

GOLDEN = Path(__file__).parent.parent / "golden" / "plans.json"


def make(phases: list[dict[str, Any]], *, num_steps: int = 100, batch: int = 16, seq_len: int = 8) -> Schedule:
    return Schedule.from_dict({"phases": phases}, num_steps=num_steps, global_batch_size=batch, seq_len=seq_len)


def slots(plan: Plan, step: int) -> list[tuple[str, int, int, int]]:
    batch = plan.batch(step)
    columns = (batch.corpus.tolist(), batch.ordinal.tolist(), batch.epoch.tolist(), batch.sample_id.tolist())
    return [(plan.names[c], o, e, s) for c, o, e, s in zip(*columns, strict=True)]


@given(schedules(), st.data())
def test_every_slot_is_what_the_slow_oracle_says(schedule: Schedule, data: st.DataObject) -> None:
    corpora = {name: data.draw(shard_sizes()) for name in schedule.names}
    seed, window = data.draw(st.integers(-5, 2**70)), data.draw(st.integers(1, 5))
    plan = Plan(schedule, corpora, data_seed=seed, shuffle_window=window)
    expected = list(oracles.slow_plan(schedule, corpora, seed, window))
    assert [slots(plan, step) for step in range(schedule.num_steps)] == expected


@given(schedules(max_steps=40), st.data())
def test_counting_agrees_with_the_slots(schedule: Schedule, data: st.DataObject) -> None:
    plan = Plan(schedule, {name: data.draw(shard_sizes()) for name in schedule.names}, data_seed=3, shuffle_window=2)
    drawn = dict.fromkeys(plan.names, 0)
    for step in range(schedule.num_steps):
        assert plan.drawn_before(step) == drawn
        names = [name for name, *_ in slots(plan, step)]
        assert plan.counts(step) == {name: names.count(name) for name in plan.names if name in names}
        drawn = {name: drawn[name] + names.count(name) for name in plan.names}
    assert plan.drawn_before(schedule.num_steps) == drawn


@given(schedules(max_steps=40), st.data())
def test_inverse_finds_every_reading_of_every_sample_in_order(schedule: Schedule, data: st.DataObject) -> None:
    plan = Plan(schedule, {name: data.draw(shard_sizes()) for name in schedule.names}, data_seed=3, shuffle_window=2)
    start = data.draw(st.integers(0, schedule.num_steps))
    end = data.draw(st.integers(start, schedule.num_steps))
    read: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for step in range(start, end):
        places: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for slot, (name, ordinal, _, sample) in enumerate(slots(plan, step)):
            places.setdefault((name, sample), []).append((ordinal, slot))
        for key, found in places.items():
            read.setdefault(key, []).extend((step, slot) for _, slot in sorted(found))
    for name, corpus in plan.corpora.items():
        for sample in range(sum(corpus.shard_sizes)):
            assert plan.steps_of(name, sample, start, end) == read.get((name, sample), [])


@given(schedules(max_steps=80, max_batch=32, max_phases=20), st.data())
def test_never_off_by_more_than_two_samples_at_any_prefix(schedule: Schedule, data: st.DataObject) -> None:
    ledger = Ledger(base=schedule)
    for _ in range(data.draw(st.integers(0, 4))):
        step = data.draw(st.integers(0, schedule.num_steps - 1))
        phases = data.draw(phase_lists(NAMES, step, schedule.num_steps, 4))
        if step == 0:
            phases[0].pop("ramp", None)
        size = {"global_batch_size": data.draw(st.integers(1, 32))} if data.draw(st.booleans()) else {}
        ledger = ledger.propose(
            {"schedule": {"phases": phases}, **size},
            parent=ledger.number, effective_step=step, frontier=0, author="test", reason="edit", time="-",
        )  # fmt: skip
    assert worst_deviation(Plan(ledger.schedule, {name: [1000] for name in NAMES}, data_seed=1)) <= 2


def worst_deviation(plan: Plan) -> Fraction:
    """max over prefixes n and corpora c of |drawn_c(n) − T_c(n)|, with T from the schedule's weights of each step."""
    schedule, worst = plan.schedule, 0
    errors = np.zeros(len(plan.names), np.int64)  # target minus drawn, in parts per 10^9
    for step in range(schedule.num_steps):
        wanted = schedule.weights_ppb(step)
        weights = np.array([wanted.get(name, 0) for name in plan.names])
        drawn = draw_order(plan, step)
        steps = weights - UNIT * (drawn[:, None] == np.arange(len(plan.names)))
        prefixes = errors + np.cumsum(steps, axis=0)
        worst = max(worst, int(np.abs(prefixes).max()))
        errors = prefixes[-1]
    return Fraction(worst, UNIT)


def draw_order(plan: Plan, step: int) -> np.ndarray:
    """Corpora of the step in the order of the draws, which `batch` then spreads over the slots."""
    corpus = np.empty(plan.schedule.batch_size(step), np.int64)
    corpus[plan._draw_in_slot(step)] = plan.batch(step).corpus
    return corpus


@given(schedules(max_batch=8), st.data())
def test_batch_sizes_cut_the_same_draws_into_other_steps(schedule: Schedule, data: st.DataObject) -> None:
    """One sequence of draws, whatever the steps: a mixture that lasts is the same stretch, and ends where it ended."""
    mixture = schedule.weights(data.draw(st.integers(0, schedule.num_steps - 1)))
    corpora = {name: data.draw(shard_sizes()) for name in schedule.names}
    phases = make([{"start": 0, "mixture": mixture}], num_steps=schedule.num_steps).phases
    constant = Schedule(phases=phases, num_steps=schedule.num_samples, global_batch_size=1, seq_len=8)
    constant = replace(constant, phases=(replace(phases[0], end=schedule.num_samples),))
    plan = Plan(replace(schedule, phases=phases), corpora, data_seed=1)
    one_by_one = Plan(constant, corpora, data_seed=1)
    drawn = []
    for step in range(schedule.num_steps):
        found = np.empty(schedule.batch_size(step), object)
        found[plan._draw_in_slot(step)] = [*map(str, slots(plan, step))]
        drawn += found.tolist()
    assert drawn == [str(slots(one_by_one, step)[0]) for step in range(schedule.num_samples)]
    assert list(plan.stretch_starts) == [0]


@given(schedules())
def test_weight_zero_draws_nothing(schedule: Schedule) -> None:
    plan = Plan(schedule, {name: [7, 5] for name in schedule.names}, data_seed=0)
    for step in range(schedule.num_steps):
        assert {name for name, weight in schedule.weights_ppb(step).items() if weight} >= plan.counts(step).keys()


def test_a_weight_of_one_in_a_million_is_honoured() -> None:
    schedule = make([{"start": 0, "mixture": {"rare": 1e-6, "c4": 1 - 1e-6}}], num_steps=5000, batch=1024)
    plan = Plan(schedule, {"rare": [100], "c4": [10**9]}, data_seed=0)
    assert plan.drawn_before(5000)["rare"] == 5  # 5.12 wanted


def test_every_epoch_is_another_permutation_of_the_same_samples() -> None:
    sizes = [7, 0, 12, 3, 30, 1, 18]
    plan = Plan(
        make([{"start": 0, "mixture": {"a": 1}}], num_steps=71 * 4, batch=1),
        {"a": sizes},
        data_seed=5,
        shuffle_window=2,
    )
    order = [slots(plan, step)[0] for step in range(71 * 4)]
    epochs = [[sample for _, _, e, sample in order if e == epoch] for epoch in range(4)]
    assert [o for _, o, _, _ in order] == list(range(71 * 4))
    assert all(set(epoch) == set(range(71)) and len(epoch) == 71 for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4


def test_only_the_shards_of_one_window_are_in_use() -> None:
    sizes = [10] * 12
    plan = Plan(
        make([{"start": 0, "mixture": {"a": 1}}], num_steps=12, batch=10), {"a": sizes}, data_seed=5, shuffle_window=3
    )
    for window in range(4):
        samples = np.concatenate([plan.batch(step).sample_id for step in range(window * 3, window * 3 + 3)])
        assert len({sample // 10 for sample in samples.tolist()}) == 3
    assert plan.batch(0).sample_id.tolist() != sorted(plan.batch(0).sample_id.tolist())


def test_switchpoints_ramps_and_new_corpora_never_disturb_another_cursor() -> None:
    before = make([{"start": 0, "mixture": {"a": 0.5, "b": 0.5}}])
    after = make([
        {"start": 0, "mixture": {"a": 0.5, "b": 0.5}},
        {"start": 40, "mixture": {"a": 0.1, "b": 0.2, "new": 0.7}, "ramp": {"shape": "cosine", "length": 9}},
        {"start": 80, "mixture": {"b": 1}},
    ])  # fmt: skip
    sizes = {"a": [40, 50], "b": [90, 11]}
    old = Plan(before, sizes, data_seed=1)
    new = Plan(after, {**sizes, "new": [33], "aa": [5]}, data_seed=1)
    sequence = {plan: dict.fromkeys(("a", "b"), ()) for plan in (old, new)}
    for plan in (old, new):
        for step in range(100):
            for name, ordinal, epoch, sample in sorted(slots(plan, step)):
                if name in sizes:
                    sequence[plan][name] += ((ordinal, epoch, sample),)
    assert [slots(old, step) for step in range(40)] == [slots(new, step) for step in range(40)]
    for name in sizes:
        shared = min(len(sequence[old][name]), len(sequence[new][name]))
        assert shared > 300
        assert sequence[old][name][:shared] == sequence[new][name][:shared]


@given(schedules(max_steps=40), st.data())
def test_saying_the_same_mixture_again_moves_nothing(schedule: Schedule, data: st.DataObject) -> None:
    """The order depends on the weights of each step alone, not on how phases spell them."""
    plain = replace(schedule, phases=tuple(replace(phase, ramp=None) for phase in schedule.phases))
    cuts = data.draw(st.sets(st.integers(0, schedule.num_steps - 1)))
    pieces = [
        Phase(start=start, end=end, mixture=phase.mixture)
        for phase in plain.phases
        for start, end in pairwise(sorted({phase.start, phase.end} | {c for c in cuts if phase.start < c < phase.end}))
    ]
    corpora = {name: data.draw(shard_sizes()) for name in schedule.names}
    once, again = (Plan(s, corpora, data_seed=1) for s in (plain, replace(plain, phases=tuple(pieces))))
    assert [slots(again, step) for step in range(schedule.num_steps)] == [
        slots(once, step) for step in range(schedule.num_steps)
    ]


def test_ranks_workers_and_microbatches_see_the_mixture_of_the_whole() -> None:
    """No aliasing: over many steps every residue class of slots has the share of the mixture, within five sigma."""
    plan = Plan(
        make([{"start": 0, "mixture": {"a": 0.75, "b": 0.25}}], num_steps=400, batch=64),
        {"a": [999], "b": [99]},
        data_seed=4,
    )
    is_b = np.array([plan.batch(step).corpus for step in range(400)])
    for stride in (2, 4, 8, 16):
        for rest in range(stride):
            share = is_b[:, rest::stride].mean()
            assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / is_b[:, rest::stride].size)
    assert len({tuple(row) for row in is_b.tolist()}) > 390  # another arrangement each step


def test_random_access_costs_the_same_everywhere_and_building_is_small() -> None:
    """Built in a process of its own: memory above the imports, and work (counted, not timed) at both ends."""
    code = """
import resource, sys
import numpy as np
from mixer import Plan, Schedule
def megabytes(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = megabytes()
names = [f"c{i}" for i in range(8)]
schedule = Schedule.from_dict({"phases": [{"start": 0, "mixture": {"c0": 1}},
    {"start": 500, "mixture": dict.fromkeys(names, 1 / 8), "ramp": {"shape": "linear", "length": 4000}}]},
    num_steps=2 * 10**9, global_batch_size=1024, seq_len=2048)
plan = Plan(schedule, {n: [10**9 // 8] * 1000 for n in names}, data_seed=1)
assert sum(plan.drawn_before(2 * 10**9).values()) == 2048 * 10**9
def work(step):
    calls = [0]
    sys.setprofile(lambda *_: calls.__setitem__(0, calls[0] + 1))
    plan.batch(step)
    sys.setprofile(None)
    return calls[0]
print(work(10**4), work(10**9), megabytes() - before)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    early, late, megabytes = map(float, result.stdout.split())
    assert late < 1.5 * early
    assert megabytes < 200


def test_a_cap_refuses_or_hands_the_share_on_at_the_exact_step() -> None:
    schedule = make([{"start": 0, "mixture": {"c4": 0.5, "math": 0.5}}], num_steps=100, batch=10)
    with pytest.raises(RepetitionError, match="'math'") as caught:
        Plan(schedule, {"c4": [1000], "math": Corpus(shard_sizes=[203], max_epochs=1)}, data_seed=1)
    assert (caught.value.corpus, caught.value.step) == ("math", 40)  # steps 0 to 39 read 200, step 40 would need 205
    plan = Plan(schedule, {"c4": [1000], "math": Corpus(shard_sizes=[203], max_epochs=1, then="c4")}, data_seed=1)
    free = Plan(schedule, {"c4": [1000], "math": [203]}, data_seed=1)
    assert [slots(plan, step) for step in range(40)] == [slots(free, step) for step in range(40)]
    assert plan.weights(39) == {"c4": 0.5, "math": 0.5}
    assert plan.weights(40) == {"c4": 1.0, "math": 0.0}
    assert plan.drawn_before(100) == {"c4": 800, "math": 200}


def test_caps_that_hand_on_to_each_other_are_refused_when_both_are_spent() -> None:
    schedule = make([{"start": 0, "mixture": {"a": 0.5, "b": 0.5}}], num_steps=100, batch=10)
    corpora = {
        "a": Corpus(shard_sizes=[100], max_epochs=1, then="b"),
        "b": Corpus(shard_sizes=[100], max_epochs=2, then="a"),
    }
    with pytest.raises(RepetitionError, match="reached its max_epochs too"):
        Plan(schedule, corpora, data_seed=1)


def with_changes(*changes: tuple[int, dict[str, Any]]) -> Schedule:
    """`math` at a weight of 0.01, and as little from step 1,000 on, with changes of the corpora at some steps."""
    phases = [
        {"start": 0, "mixture": {"c4": 0.99, "math": 0.01}},
        {"start": 1000, "mixture": {"c4": 0.809, "math": 0.001, "web": 0.19}},
    ]
    rows = [{"start": start, "corpora": corpora} for start, corpora in changes]
    sizes = {"num_steps": 2000, "global_batch_size": 4, "seq_len": 8}
    return Schedule.from_dict({"phases": phases, "changes": rows}, **sizes)


def test_only_a_corpus_in_shards_of_its_own_can_grow() -> None:
    """Or two corpora in the shards of one would give different samples the same number."""
    grow = {"grow": {"first_shard": 1, "shard_sizes": [5]}}
    for verb in ({"rename": {"from": "math"}}, {"split": {"from": "math", "shards": [0]}}):
        schedule = with_changes((3, {"heir": verb}), (4, {"heir": grow}))
        with pytest.raises(ScheduleError, match="'heir' lies in the shards of 'math', it cannot grow"):
            Plan(schedule, {"c4": [100], "math": [10, 10], "web": [900]}, data_seed=1)


def test_a_corpus_that_grew_and_then_met_its_cap_stays_spent_in_a_plan_that_goes_on() -> None:
    schedule = with_changes((3, {"math": {"grow": {"first_shard": 1, "shard_sizes": [1]}}}))
    corpora = {"c4": [100], "math": Corpus(shard_sizes=[20], max_epochs=1, then="c4"), "web": [900]}
    plan = Plan(schedule, corpora, data_seed=1)
    past = plan.past(1500)
    assert (past.step, past.spent, past.drawn["math"]) == (1000, ("math",), 21)
    later = Plan(schedule.kept_from(past.step), corpora, data_seed=1, past=past)
    assert [slots(later, step) for step in range(1000, 1100)] == [slots(plan, step) for step in range(1000, 1100)]


def test_a_corpus_that_met_its_cap_comes_back_under_another_one() -> None:
    back = {"math": {"add": {"shard_sizes": [20], "max_epochs": 2}}}
    schedule = with_changes((900, {"math": {"remove": {}}}), (950, back))
    before = {"start": 0, "mixture": {"c4": 0.99, "math": 0.01}}
    pause = {"start": 900, "mixture": {"c4": 1.0}}
    phases = [before, pause, {"start": 1000, "mixture": {"c4": 0.99, "math": 0.01}}]
    schedule = replace(schedule, phases=make(phases, num_steps=1100, batch=4).phases, num_steps=1100)
    corpora = {"c4": [100], "math": Corpus(shard_sizes=[20], max_epochs=1, then="c4")}
    plan = Plan(schedule, corpora, data_seed=1)
    assert (plan.drawn_before(900)["math"], plan.weights(899)["math"], plan.weights(1000)["math"]) == (20, 0, 0.01)
    assert plan.drawn_before(1100)["math"] == 24


@given(schedules(max_steps=50), st.data())
def test_forecast_agrees_with_reading_everything(schedule: Schedule, data: st.DataObject) -> None:
    corpora = {name: data.draw(shard_sizes()) for name in schedule.names}
    plan = Plan(schedule, corpora, data_seed=3)
    until = data.draw(st.integers(0, schedule.num_steps))
    seen: dict[str, set[int]] = {name: set() for name in corpora}
    first: dict[str, int | None] = dict.fromkeys(corpora)
    for step in range(schedule.num_steps):
        for name, _, _, sample in slots(plan, step):
            if sample in seen[name] and first[name] is None:
                first[name] = step
            seen[name].add(sample)
    for name, forecast in plan.forecast(until).items():
        assert forecast.samples == plan.drawn_before(until)[name]
        assert forecast.tokens == forecast.samples * 8
        assert forecast.epochs == forecast.samples / sum(corpora[name])
        assert forecast.first_repeat_step == first[name]
        if first[name] is not None:
            total, size = plan.drawn_before(schedule.num_steps)[name], sum(corpora[name])
            first_used = next(step for step in range(schedule.num_steps) if name in plan.counts(step))
            num_samples = sum(schedule.batch_size(step) for step in range(first_used, schedule.num_steps))
            assert forecast.largest_weight == size / num_samples
            assert total - plan.drawn_before(forecast.earliest_start)[name] <= size
            assert total - plan.drawn_before(forecast.earliest_start - 1)[name] > size


def test_forecast_flags_what_the_paper_had_to_find_by_hand() -> None:
    """FLAN (3.5B tokens) at 15% from step 40,000 repeats 1.9 times; at 5% it does not (RECIPES)."""

    def flan(weight: float) -> Any:
        schedule = make(
            [{"start": 0, "mixture": {"c4": 1}}, {"start": "40000ba", "mixture": {"c4": 1 - weight, "flan": weight}}],
            num_steps=61_035, batch=1024, seq_len=2048,
        )  # fmt: skip
        return Plan(schedule, {"c4": [10**8], "flan": [3_500_000_000 // 2048]}, data_seed=0).forecast()["flan"]

    assert round(flan(0.15).epochs, 1) == 1.9
    assert 40_000 < flan(0.15).first_repeat_step < 61_035
    assert 0.07 < flan(0.15).largest_weight < 0.08
    assert flan(0.05).first_repeat_step is None


def test_bad_input_names_what_is_wrong() -> None:
    schedule = make([{"start": 0, "mixture": {"c4": 0.5, "maths": 0.5}}])
    with pytest.raises(
        UnknownCorpusError, match=r"unknown corpus 'maths', did you mean 'math'\? @ \$\.phases\[0\]\.mixture\.maths"
    ):
        Plan(schedule, {"c4": [1], "math": [1]}, data_seed=0)
    with pytest.raises(CorpusError, match="'maths' has no samples"):
        Plan(schedule, {"c4": [1], "maths": [0]}, data_seed=0)
    plan = Plan(schedule, {"c4": [1], "maths": [1]}, data_seed=0)
    for bad in (-1, 100):
        with pytest.raises(StepError, match="which has 100 steps"):
            plan.batch(bad)
    with pytest.raises(CorpusError, match="samples 0 to 0, not 1"):
        plan.steps_of("c4", 1)


def golden_plans() -> dict[str, Plan]:
    mixed = make([
        {"start": 0, "mixture": {"c4": 1}},
        {"start": "0.2dur", "mixture": {"c4": 0.7, "code": 0.2, "math": 0.1}, "ramp": {"shape": "linear", "length":
        50}}, {"start": 600, "mixture": {"code": 0.5, "qa": {"weight": 0.5, "parts": {"trivia": 0.25, "ultra": 0.75}}},
         "ramp": {"shape": "cosine", "length": 100}},
    ], num_steps=1000, batch=32)  # fmt: skip
    sizes = {"c4": [900, 1000, 1100] * 5, "code": [500] * 7, "math": [77], "trivia": [200, 1], "ultra": [1000] * 40}
    huge = make([{"start": 0, "mixture": {"a": 0.9, "b": 0.1 - 1e-9, "c": 1e-9}}], num_steps=2 * 10**9, batch=512)
    return {
        "mixed": Plan(mixed, sizes, data_seed=17, shuffle_window=4),
        "huge": Plan(huge, {"a": [10**8] * 1000, "b": [12345] * 999, "c": [3]}, data_seed=2**65, shuffle_window=16),
    }


GOLDEN_STEPS = {"mixed": (0, 1, 199, 200, 225, 649, 999), "huge": (0, 10**6, 2 * 10**9 - 1)}


def describe(plan: Plan, step: int) -> dict[str, Any]:
    batch = plan.batch(step)
    arrays = (batch.corpus, batch.ordinal, batch.epoch, batch.sample_id)
    checksum = 0
    for value in np.concatenate(arrays).tolist():
        checksum = (checksum * 1_000_003 + value) % (2**61 - 1)
    return {"first": [array[:4].tolist() for array in arrays], "checksum": checksum, "drawn": plan.drawn_before(step)}


def test_the_order_is_the_golden_one() -> None:
    """If this fails, the order of samples has changed: raise ORDER_VERSION and write the file anew, in one commit.

    `python -m tests.mixer.test_plan` writes it.
    """
    golden = json.loads(GOLDEN.read_text())
    assert golden["order_version"] == ORDER_VERSION
    for name, plan in golden_plans().items():
        for step in GOLDEN_STEPS[name]:
            assert describe(plan, step) == golden[name][str(step)], f"{name} at step {step}"


if __name__ == "__main__":
    plans = {n: {str(s): describe(p, s) for s in GOLDEN_STEPS[n]} for n, p in golden_plans().items()}
    GOLDEN.write_text(json.dumps({"order_version": ORDER_VERSION, **plans}, indent=1) + "\n")
