"""The schedule: reading it, its problems all at once, its pieces, its values."""

import pickle
from typing import Any

import pytest
from hypothesis import given

from mixer import Schedule, ScheduleError, StepError, UnknownCorpusError
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
