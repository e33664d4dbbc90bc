"""The schedule: reading it, its problems all at once, its pieces, its values."""

import pickle
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer import Schedule, ScheduleError, StepError, UnknownCorpusError
from tests.oracles import slow_batch_size
from tests.strategies import schedules

SIZES = {"num_steps": 61_035, "global_batch_size": 1024, "seq_len": 2048}
C4 = {"start": "0ba", "mixture": {"c4": 1.0}}


def read(*phases: Any, **sizes: int) -> Schedule:
    return Schedule.from_dict({"phases": list(phases)}, **{**SIZES, **sizes})


def problems(*phases: Any, **sizes: int) -> list[str]:
    with pytest.raises(ScheduleError) as caught:
        read(*phases, **sizes)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems
    return caught.value.problems


@given(schedules())
def test_reading_back_what_was_written_gives_the_same(schedule: Schedule) -> None:
    sizes = {name: getattr(schedule, name) for name in SIZES}
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert Schedule.from_dict(schedule.to_dict(), **sizes) == schedule


@given(schedules())
def test_pieces_cover_the_run_and_agree_with_the_weights_of_each_step(schedule: Schedule) -> None:
    step = 0
    for piece in schedule.pieces():
        assert piece.start == step
        for step in range(piece.start, piece.end):
            assert {name: weight for name, weight in schedule.weights_ppb(step).items() if weight} == piece.mixture
        step += 1
    assert step == schedule.num_steps


@given(schedules(max_steps=30, max_batch=9), st.data())
def test_steps_and_draws_lead_to_each_other(schedule: Schedule, data: st.DataObject) -> None:
    sizes = [slow_batch_size(schedule, step) for step in range(schedule.num_steps)]
    assert [schedule.batch_size(step) for step in range(schedule.num_steps)] == sizes
    assert [schedule.first_draw(step) for step in range(schedule.num_steps + 1)] == [0, *accumulate(sizes)]
    assert schedule.num_samples == sum(sizes)
    places = [(step, place) for step, size in enumerate(sizes) for place in range(size)]
    assert [schedule.step_of_draw(draw) for draw in range(len(places))] == places
    start = data.draw(st.integers(0, schedule.num_steps - 1))
    tokens = data.draw(st.integers(0, 8 * sum(sizes[start:])))
    steps = next(n for n in range(schedule.num_steps + 1) if 8 * sum(sizes[start : start + n]) >= tokens)
    assert schedule.steps(f"{tokens}tok", start=start) == steps


@given(schedules(max_steps=30, max_batch=9), st.data())
def test_a_part_of_a_schedule_knows_the_steps_and_draws_from_there_on(schedule: Schedule, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, schedule.num_steps - 1))
    kept = schedule.kept_from(step)
    assert len(kept.batch_sizes) <= 1 + sum(row.start >= step for row in schedule.batch_sizes)
    steps = range(max(step - 1, 0), schedule.num_steps)
    for whole, part in (schedule, kept), (schedule.with_batch_size(step, 3), kept.with_batch_size(step, 3)):
        assert [part.batch_size(s) for s in steps] == [whole.batch_size(s) for s in steps]
        assert [part.first_draw(s) for s in steps] == [whole.first_draw(s) for s in steps]
        assert part.num_samples == whole.num_samples


def sized(*rows: tuple[Any, Any], **sizes: int) -> Schedule:
    batch_sizes = [{"start": start, "global_batch_size": size} for start, size in rows]
    return Schedule.from_dict({"phases": [C4], "batch_sizes": batch_sizes}, **{**SIZES, **sizes})


def test_a_warm_up_of_the_batch_size() -> None:
    schedule = sized((1000, 512), ("0.1dur", 1024), global_batch_size=256)
    assert schedule.to_dict()["batch_sizes"] == [
        {"start": "1000ba", "global_batch_size": 512},
        {"start": "6104ba", "global_batch_size": 1024},
    ]
    assert [schedule.batch_size(step) for step in (0, 999, 1000, 6103, 6104)] == [256, 256, 512, 512, 1024]
    assert schedule.num_samples == 1000 * 256 + 5104 * 512 + (61_035 - 6104) * 1024


def test_tokens_are_reached_with_the_sizes_in_force() -> None:
    """4 steps of 2 samples, then 3 of 4, then 8 a step; a sample has 10 tokens."""
    obj = {
        "phases": [C4, {"start": "161tok", "mixture": {"math": 1}, "ramp": {"shape": "linear", "length": "280tok"}}],
        "changes": [{"start": "120tok", "corpora": {"c4": {"skip": {"samples": 1}}}}],
        "batch_sizes": [{"start": "71tok", "global_batch_size": 4}, {"start": "200tok", "global_batch_size": 8}],
    }
    schedule = Schedule.from_dict(obj, num_steps=40, global_batch_size=2, seq_len=10)
    assert [tuple(row) for row in schedule.batch_sizes] == [(4, 4, 8), (7, 8, 20)]
    assert (schedule.switchpoints, schedule.changes[0].step) == ((7,), 5)  # 160 tokens have been read before step 6
    assert schedule.phases[1].ramp.length == 4  # 240 tokens in three steps, 320 in four


def test_a_size_that_stands_already_is_no_change() -> None:
    assert sized((5, 1024), (9, 8), (12, 8)) == sized((9, 8))
    assert sized((9, 8)).with_batch_size(9, 1024) == sized()
    assert sized((9, 8)).with_batch_size(0, 5) == sized(global_batch_size=5)


def test_batch_sizes_beyond_int64_are_exact() -> None:
    schedule = sized((10**12, 2**40), num_steps=2 * 10**12, global_batch_size=2**40 - 1)
    assert schedule.num_samples == 10**12 * (2**41 - 1)
    assert schedule.step_of_draw(schedule.num_samples - 1) == (2 * 10**12 - 1, 2**40 - 1)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ({}, "a warm-up has exactly the keys 'to', 'length' and 'increments', found {} @ $.batch_sizes"),
        (7, "expected a list of {start: 1000ba, global_batch_size: 512}, found 7 @ $.batch_sizes"),
        ([{"start": 5}], "a batch size has exactly the keys 'start' and 'global_batch_size', found {'start': 5} @ "
         "$.batch_sizes[0]"),
        ([{"start": 0, "global_batch_size": 8}], "starts at step 0, not after step 0, whose size is the run's "
         "global_batch_size @ $.batch_sizes[0].start"),
        ([{"start": 9, "global_batch_size": 8}, {"start": "9ba", "global_batch_size": 4}],
         "starts at step 9, not after the size before it (9) @ $.batch_sizes[1].start"),
        ([{"start": "70000ba", "global_batch_size": 8}],
         "starts at step 70000, but the run ends after 61035 steps @ $.batch_sizes[0].start"),
        ([{"start": "soon", "global_batch_size": 8}],
         "expected a time like '6000ba', '12.6e9tok' or '0.1dur', found 'soon' @ $.batch_sizes[0].start"),
        ([{"start": 5, "global_batch_size": 8}, {"start": 6, "global_batch_size": True}],
         "a global_batch_size is a whole number of samples, at least 1, found True @ "
         "$.batch_sizes[1].global_batch_size"),
        ([{"start": 5, "global_batch_size": 0}], "at least 1, found 0 @ $.batch_sizes[0].global_batch_size"),
    ],
)  # fmt: skip
def test_wrong_batch_sizes_have_their_place(rows: Any, problem: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        Schedule.from_dict({"phases": [C4], "batch_sizes": rows}, **SIZES)
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]


def test_the_three_units_and_a_ramp() -> None:
    schedule = read(
        C4,
        {"start": "12.6e9tok", "mixture": {"c4": 0.8, "code": 0.2}, "ramp": {"shape": "linear", "length": "500ba"}},
        {"start": "0.5dur", "mixture": {"c4": 0.88, "math": 0.12}},
    )
    assert schedule.switchpoints == (6009, 30_518)
    assert schedule.names == ("c4", "code", "math")
    assert schedule.weights(6008) == {"c4": 1.0}
    assert schedule.weights(6009) == {"c4": 0.9998, "code": 0.0002}
    assert schedule.weights(6009 + 250) == {"c4": 0.8998, "code": 0.1002}
    assert schedule.weights(6009 + 500) == {"c4": 0.8, "code": 0.2}
    assert schedule.weights(30_518) == {"c4": 0.88, "math": 0.12}


def test_a_ramp_that_is_cut_short_is_where_the_next_one_begins() -> None:
    schedule = read(
        C4,
        {"start": 100, "mixture": {"code": 1.0}, "ramp": {"shape": "linear", "length": 100}},
        {"start": 150, "mixture": {"c4": 1.0}, "ramp": {"shape": "linear", "length": 10}},
    )
    assert schedule.weights(149) == {"c4": 0.505, "code": 0.495}
    assert schedule.weights(150)["code"] == pytest.approx(0.495 * 0.95)


def test_a_step_ramp_is_a_change_at_once() -> None:
    schedule = read(C4, {"start": 100, "mixture": {"code": 1.0}, "ramp": {"shape": "step"}})
    assert schedule.weights(100) == {"code": 1.0}


@pytest.mark.parametrize(
    ("phases", "problem"),
    [
        ([{**C4, "start": 5}],
         "gap: steps 0 to 5 have no mixture, the first phase must start at 0ba @ $.phases[0].start"),
        ([{**C4, "end": 5}, {**C4, "start": 6}], "gap: no mixture for steps 5 to 6 @ $.phases[0].end"),
        ([{**C4, "end": 7}, {**C4, "start": 6}], "overlap: two mixtures for steps 6 to 7 @ $.phases[0].end"),
        ([{**C4, "end": 9}], "gap: no mixture for steps 9 to 61035 @ $.phases[0].end"),
        ([C4, C4], "starts at step 0, not after the phase before it (0) @ $.phases[1].start"),
        ([C4, {**C4, "start": "70000ba"}],
         "starts at step 70000, but the run ends after 61035 steps @ $.phases[1].start"),
        ([{**C4, "mixtur": 1}], "unknown key 'mixtur', did you mean 'mixture'? @ $.phases[0].mixtur"),
        ([{"start": 0}], "'mixture' is missing @ $.phases[0]"),
        ([{**C4, "start": "6k"}],
         "expected a time like '6000ba', '12.6e9tok' or '0.1dur', found '6k' @ $.phases[0].start"),
        ([C4, {**C4, "start": 5, "ramp": {"shape": "sine", "length": 5}}],
         "a ramp's shape is one of step, linear, cosine, found 'sine' @ $.phases[1].ramp.shape"),
        ([{**C4, "ramp": {"shape": "linear", "length": 5}}],
         "the first phase has nothing to ramp from, leave its ramp out @ $.phases[0].ramp"),
        ([C4, {**C4, "start": 5, "ramp": {"shape": "linear", "length": 0}}],
         "a ramp takes at least one step @ $.phases[1].ramp.length"),
    ],
)  # fmt: skip
def test_problems_have_their_place(phases: list[Any], problem: str) -> None:
    assert problem in problems(*phases)


def test_all_problems_come_at_once() -> None:
    assert (
        len(problems({"start": "x", "mixture": {"c4": 0.9}}, {"start": 5, "mixture": {"c4": -1, "b": "x"}, "z": 1}))
        == 5
    )


def test_sizes_must_be_whole_and_positive() -> None:
    for bad in (0, -1, 1.5, True):
        assert "global_batch_size must be a whole number" in problems(C4, global_batch_size=bad)[0]


def test_unknown_names_are_found_wherever_they_stand() -> None:
    with pytest.raises(UnknownCorpusError) as caught:
        read(C4, {"start": 5, "mixture": {"starcodr": 1}}).check_names(["c4", "starcoder"])
    assert caught.value.problems == [
        "unknown corpus 'starcodr', did you mean 'starcoder'? @ $.phases[1].mixture.starcodr"
    ]


def test_steps_outside_of_the_run() -> None:
    with pytest.raises(StepError, match="which has 61035 steps"):
        read(C4).weights(61_035)
