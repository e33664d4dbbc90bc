"""Every kind of curve against its closed form at every step; joins, ends; what a file asks for; problems and places."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.test_loading import GOOD, problems_of, write
from trainer.loading import load
from trainer.optimization import curve
from trainer.optimization.curve import curve_of
from trainer.optimization.schedules import Piece, lr_at

W, N, PEAK, FLOOR = 6_103, 61_035, 3e-4, 1e-6  # the paper's run

AFTER_WARM_UP: dict[str, Callable[[float], float]] = {
    "cosine": lambda p: FLOOR + 0.5 * (PEAK - FLOOR) * (1 + math.cos(math.pi * p)),
    "linear": lambda p: PEAK * (1 - p) + FLOOR * p,
    "exponential": lambda p: PEAK * math.exp(-p * math.log(PEAK / FLOOR)),
    "one_minus_sqrt": lambda p: FLOOR + (PEAK - FLOOR) * (1 - p**0.5),
    "constant": lambda p: PEAK,
}


def pieces_of(tmp_path: Path, rate: dict[str, Any], **changes: Any) -> tuple[Piece, ...]:
    config = load(write(tmp_path, {"lr_schedule": rate, **changes}))
    return curve_of(config.lr_schedule, config.base_schedule())


def old_cosine(step: int, num_steps: int, warmup_steps: int, peak: float, floor: float) -> float:
    """As the trainer computed it before there were other kinds."""
    done = step + 1
    if done <= warmup_steps:
        return peak * done / warmup_steps
    progress = min(1.0, (done - warmup_steps) / (num_steps - warmup_steps))
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2


@pytest.mark.parametrize("kind", ["cosine", "linear", "exponential", "constant"])
def test_every_step_of_the_paper_s_run_lies_on_the_closed_form(kind: str, tmp_path: Path) -> None:
    rate = {"kind": kind, "peak": PEAK, "warmup": f"{W}ba"} | ({"floor": FLOOR} if kind != "constant" else {})
    pieces = pieces_of(tmp_path, rate, max_duration=f"{N}ba")
    for step in range(N):
        done = step + 1
        expected = PEAK * (done / W) if done <= W else AFTER_WARM_UP[kind]((done - W) / (N - W))
        assert math.isclose(lr_at(step, pieces), expected, rel_tol=1e-11), step
    assert lr_at(0, pieces) == pytest.approx(PEAK / W)
    assert lr_at(W - 1, pieces) == PEAK
    assert lr_at(N - 1, pieces) == (PEAK if kind == "constant" else FLOOR)


@pytest.mark.parametrize("shape", ["linear", "cosine", "exponential", "one_minus_sqrt"])
def test_wsd_is_stable_and_then_decays_on_the_closed_form(shape: str, tmp_path: Path) -> None:
    rate = {"kind": "wsd", "peak": PEAK, "floor": FLOOR, "warmup": "1000ba", "decay_start": "0.9dur", "shape": shape}
    pieces = pieces_of(tmp_path, rate, max_duration="20000ba")
    for step in range(20_000):
        done = step + 1
        decayed = AFTER_WARM_UP[shape]((done - 18_000) / 2_000) if done > 18_000 else PEAK
        expected = PEAK * done / 1000 if done <= 1000 else decayed
        assert math.isclose(lr_at(step, pieces), expected, rel_tol=1e-11), step
    assert lr_at(999, pieces) == lr_at(17_999, pieces) == PEAK
    assert lr_at(18_000, pieces) < PEAK
    assert lr_at(19_999, pieces) == FLOOR


@given(num_steps=st.integers(1, 400), warmup=st.integers(0, 450), peak=st.floats(1e-6, 1.0), share=st.floats(0.0, 1.0))
def test_cosine_has_the_same_bits_as_before(num_steps: int, warmup: int, peak: float, share: float) -> None:
    floor = peak * share
    pieces = [Piece(start=0, end=warmup, first=0.0, last=peak, shape="warmup")] if warmup else []
    pieces.append(Piece(start=warmup, end=max(num_steps, warmup + 1), first=peak, last=floor, shape="cosine"))
    for step in range(num_steps):
        assert lr_at(step, pieces) == old_cosine(step, num_steps, warmup, peak, floor), step


def test_the_default_has_the_same_bits_as_before(tmp_path: Path) -> None:
    pieces = pieces_of(tmp_path, {"peak": 3e-4}, max_duration="61035ba")
    assert [lr_at(s, pieces) for s in range(61_035)] == [
        old_cosine(s, 61_035, 6_104, 3e-4, 1e-6) for s in range(61_035)
    ]


@pytest.mark.parametrize(("num_steps", "warmup"), [(1, 1), (1, 0), (10, 10), (10, 1), (2, 1)])
def test_short_runs_have_a_rate_for_every_step(num_steps: int, warmup: int, tmp_path: Path) -> None:
    one_phase = {"phases": [{"start": 0, "mixture": {"c4": 1.0}}]}
    rate = {"peak": 1.0, "floor": 0.1, "warmup": warmup}
    pieces = pieces_of(tmp_path, rate, max_duration=num_steps, schedule=one_phase)
    rates = [lr_at(step, pieces) for step in range(num_steps)]
    assert all(0 < rate <= 1.0 for rate in rates)
    assert rates[warmup - 1] == (1.0 if warmup else 0.1)


PIECES = [
    {"start": 0, "kind": "linear", "to": 1e-3},
    {"start": "10ba", "kind": "constant"},
    {"start": "0.2dur", "kind": "cosine", "to": 5e-4},
    {"start": "switchpoint", "kind": "exponential", "to": 1e-4},
    {"start": "60ba", "kind": "linear", "to": 3e-4},
    {"start": "70ba", "kind": "constant", "to": 2e-4},
    {"start": "80ba", "kind": "one_minus_sqrt", "to": 0.0},
]


def test_pieces_join_where_nothing_else_is_asked_for(tmp_path: Path) -> None:
    pieces = pieces_of(tmp_path, {"kind": "multi_phase", "pieces": PIECES})
    rates = [0.0, *(lr_at(step, pieces) for step in range(100))]  # rates[s] is that of the step before s
    assert [piece.start for piece in pieces] == [0, 10, 20, 40, 60, 70, 80]
    assert [rates[start] for start in (0, 10, 20, 40, 60, 70, 80, 100)] == [0, 1e-3, 1e-3, 5e-4, 1e-4, 3e-4, 2e-4, 0]
    assert rates[1] == pytest.approx(1e-4)
    assert rates[30] == pytest.approx(7.5e-4)  # half of a cosine
    assert rates[50] == pytest.approx(math.sqrt(5e-4 * 1e-4))  # half of the way by factors
    assert rates[65] == pytest.approx(2e-4)
    assert rates[71] == 2e-4  # a jump
    assert rates[85] == pytest.approx(2e-4 * (1 - math.sqrt(5 / 20)))
    steps = [abs(after - before) for before, after in itertools.pairwise(rates)]
    del steps[80], steps[70]  # where a root begins, and the jump
    assert max(steps) < 1.1e-4


@pytest.mark.parametrize(
    ("start", "step"), [("switchpoint", 60), ("switchpoint 1", 40), ("switchpoint  2", 60), ("50ba", 50), (70, 70)]
)
def test_the_decay_can_begin_at_a_switchpoint(start: str | int, step: int, tmp_path: Path) -> None:
    phases = [*GOOD["schedule"]["phases"], {"start": "60ba", "mixture": {"starcoder": 1.0}}]
    rate = {"kind": "wsd", "peak": 1.0, "warmup": 5, "decay_start": start, "shape": "linear"}
    pieces = pieces_of(tmp_path, rate, schedule={"phases": phases})
    rates = [lr_at(s, pieces) for s in range(100)]
    assert rates[4:step] == [1.0] * (step - 4)
    assert rates[step] < 1.0


def test_times_in_tokens_follow_the_batch_sizes(tmp_path: Path) -> None:
    sizes = [{"start": 10, "global_batch_size": 32}]
    rate = {"kind": "wsd", "peak": 1.0, "warmup": f"{10 * 16 * 32 + 5 * 32 * 32}tok", "decay_start": "50ba"}
    pieces = pieces_of(tmp_path, rate, schedule={**GOOD["schedule"], "batch_sizes": sizes})
    assert [(piece.start, piece.end) for piece in pieces] == [(0, 15), (15, 50), (50, 100)]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ({"peak": 1.0, "kind": "wds"}, "kind must be one of cosine, linear, exponential, constant, wsd, multi_phase, "
         "found 'wds' @ $.lr_schedule.kind"),
        ({"peak": 1.0, "kind": "wsd"}, "this key is missing @ $.lr_schedule.decay_start"),
        ({"kind": "linear"}, "this key is missing @ $.lr_schedule.peak"),
        ({"peak": 1.0, "kind": "constant", "floor": 0.1}, "unknown key 'floor' @ $.lr_schedule.floor"),
        ({"peak": 1.0, "decay_strat": 7}, "unknown key 'decay_strat', did you mean 'decay_start'? @ "
         "$.lr_schedule.decay_strat"),
        ({"peak": 1.0, "warmup": "soon"}, "found 'soon' @ $.lr_schedule.warmup"),
        ({"peak": 1.0, "floor": 2.0}, "must not be above the peak (1), found 2 @ $.lr_schedule.floor"),
        ({"peak": 1.0, "kind": "wsd", "decay_start": "100ba"}, "found step 100 @ $.lr_schedule.decay_start"),
        ({"peak": 1.0, "kind": "wsd", "decay_start": "9ba"}, "found step 9 @ $.lr_schedule.decay_start"),
        ({"peak": 1.0, "kind": "wsd", "decay_start": "switchpoint 2"}, "the schedule has 1 switchpoint, found "
         "'switchpoint 2' @ $.lr_schedule.decay_start"),
        ({"peak": 1.0, "kind": "wsd", "decay_start": 50, "shape": "exponential", "floor": 0}, "@ $.lr_schedule.floor"),
        ({"kind": "multi_phase", "pieces": []}, "at least one piece, found none @ $.lr_schedule.pieces"),
        ({"kind": "multi_phase", "pieces": [{"start": 1, "kind": "linear", "to": 1}]}, "@ $.lr_schedule.pieces[0].st"),
        ({"kind": "multi_phase", "pieces": [PIECES[0], {"start": 5, "kind": "cosine"}]}, "@ $.lr_schedule.pieces[1].t"),
        ({"kind": "multi_phase", "pieces": [PIECES[0], {"start": 100, "kind": "cosine", "to": 1}]},
         "must start before the run's end (100 steps), found step 100 @ $.lr_schedule.pieces[1].start"),
        ({"kind": "multi_phase", "pieces": [PIECES[0], PIECES[2], PIECES[1]]}, "before the next piece (step 10), found "
         "step 20 @ $.lr_schedule.pieces[1].start"),
        ({"kind": "multi_phase", "pieces": [{"start": 0, "kind": "exponential", "to": 1}]}, "pieces[0].to"),
        ({"kind": "multi_phase", "pieces": [{"start": 0, "kind": "root", "to": 1}]}, "@ $.lr_schedule.pieces[0].kind"),
    ],
)  # fmt: skip
def test_wrong_curves_name_their_place(rate: dict[str, Any], expected: str, tmp_path: Path) -> None:
    problems = problems_of(write(tmp_path, {"lr_schedule": rate}))
    assert len(problems) == 1, problems
    assert expected in problems[0]


def test_the_curve_in_words(tmp_path: Path) -> None:
    rate = {"kind": "wsd", "peak": 3e-4, "warmup": "10ba", "decay_start": "switchpoint", "floor": 0}
    config = load(write(tmp_path, {"lr_schedule": rate}))
    assert list(curve.lines(config)) == [
        "learning rate   steps 0 to 9: 0 to 0.0003, a straight line",
        "                steps 10 to 39: 0.0003",
        "                steps 40 to 99: 0.0003 to 0, 1 - sqrt",
    ]
