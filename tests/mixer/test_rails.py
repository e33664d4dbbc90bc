"""Guard rails: what comes out keeps all of them, sums to exactly 1, and is the nearest that does."""

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer import Ramp, Schedule
from mixer.errors import ProposingError
from mixer.rails import Rails, nearest, parts
from mixer.weights import UNIT

NAMES = ("c4", "code", "math", "qa", "wiki")


@st.composite
def mixtures(draw: st.DrawFn, names: tuple[str, ...], least: int = 0) -> dict[str, int]:
    """Parts per 10^9, at least `least` each."""
    sizes = {name: draw(st.integers(0, 1000)) ** 3 + 1 for name in names}
    spare = UNIT - least * len(names)
    ppb = {name: least + size * spare // sum(sizes.values()) for name, size in sizes.items()}
    ppb[names[0]] += UNIT - sum(ppb.values())
    return ppb


@st.composite
def rails(draw: st.DrawFn, names: tuple[str, ...]) -> Rails:
    """Rails that can be kept with `names`."""
    low = draw(st.sampled_from([0, 0.01, 0.1]))
    high = draw(st.sampled_from([1, 0.9, 0.6]))
    own = {names[-1]: (0.05, draw(st.sampled_from([0.05, 0.3, 1])))} if draw(st.booleans()) else {}
    most = sum(own[name][1] if name in own else high for name in names)
    return Rails(
        minimum=low,
        maximum=high,
        ranges=own if most >= 1 else {},
        max_change=draw(st.sampled_from([0.01, 0.05, 0.3, 1])),
    )


def entropy(new: dict[str, float], wish: dict[str, float]) -> float:
    """Relative entropy of shares, as `nearest` means it: a wish of 0 is 1e-18."""
    return sum(w * math.log(w / (wish[name] + 1e-18)) for name, w in new.items() if w > 0)


def inside(rails: Rails, mixture: dict[str, int]) -> bool:
    ranges = {name: rails.ranges.get(name, (rails.minimum, rails.maximum)) for name in mixture}
    return all(parts(low) <= mixture[name] <= parts(high) for name, (low, high) in ranges.items())


@given(st.data())
def test_every_rail_is_kept_to_the_last_part(data: st.DataObject) -> None:
    names = NAMES[: data.draw(st.integers(2, 5))]
    guard, wish = data.draw(rails(names)), data.draw(mixtures(names))
    old = guard.limit(data.draw(mixtures(names)), data.draw(mixtures(names)))
    for _ in range(101):  # from anywhere the ranges are reached, at the rate max_change allows
        if inside(guard, old):
            break
        step = guard.limit(wish, old)
        assert sum(step.values()) == UNIT
        assert max(abs(step[name] - old[name]) for name in names) in range(1, parts(guard.max_change) + 1)
        old = step
    new = guard.limit(wish, old)
    assert sum(new.values()) == UNIT
    assert inside(guard, new)
    assert max(abs(new[name] - old[name]) for name in names) <= parts(guard.max_change)


@given(st.data())
def test_no_exchange_between_two_corpora_comes_nearer(data: st.DataObject) -> None:
    """Which for a separable convex distance means that nothing does."""
    names = NAMES[: data.draw(st.integers(2, 5))]
    wish, some = data.draw(mixtures(names)), data.draw(mixtures(names))
    box = {name: (some[name] // data.draw(st.integers(1, 9)), some[name] + data.draw(st.integers(0, UNIT // 3)))
           for name in names}  # fmt: skip
    new = nearest(wish, box)
    assert sum(new.values()) == UNIT
    assert all(low <= new[name] <= high for name, (low, high) in box.items())
    for giver, taker in itertools.permutations(names, 2):
        amount = min(10_000, new[giver] - box[giver][0], box[taker][1] - new[taker])
        if amount > 0:  # to first order the gain is log(w / wish) of the giver less that of the taker
            gain = [math.log(weight / (wish[name] + 1e-9)) if weight else -math.inf
                    for name, weight in ((giver, new[giver] - amount), (taker, new[taker] + amount))]  # fmt: skip
            assert gain[0] <= gain[1] + 1e-12


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=3))
def test_nothing_of_all_there_is_comes_nearer(rows: list[tuple[int, int, int]]) -> None:
    """Against every mixture of a total so small that all can be listed, and the exact optimum between them."""
    box = {name: (min(row[1:]), max(row[1:])) for name, row in zip(NAMES, rows, strict=False)}
    wish = {name: row[0] for name, row in zip(NAMES, rows, strict=False)}
    wish["c4"] += max(sum(low for low, _ in box.values()) - sum(wish.values()), 0)
    total = sum(wish.values())
    if not total or sum(high for _, high in box.values()) < total:
        return
    new = nearest(wish, box)
    all_of_them = [
        dict(zip(box, weights, strict=True))
        for weights in itertools.product(*(range(low, high + 1) for low, high in box.values()))
        if sum(weights) == total
    ]
    shares = {name: weight / total for name, weight in wish.items()}
    scaled = min(all_of_them, key=lambda m: entropy({n: w / total for n, w in m.items()}, shares))
    assert new in all_of_them
    assert max(abs(new[name] - scaled[name]) for name in box) <= 1  # both round the same optimum


def test_what_is_free_is_shared_in_the_proportions_wished() -> None:
    wish = {"c4": 860_000_000, "code": 100_000_000, "math": 40_000_000}
    old = {"c4": 800_000_000, "code": 100_000_000, "math": 100_000_000}
    new = Rails(fixed=["math"], max_change=0.5).limit(wish, old)
    assert new == {"c4": 806_250_000, "code": 93_750_000, "math": 100_000_000}


def test_ties_go_by_name_and_the_order_given_does_not_matter() -> None:
    box = dict.fromkeys(("b", "a", "c"), (0, 10))
    assert nearest({"c": 3, "b": 3, "a": 4}, box) == {"a": 4, "b": 3, "c": 3}
    assert nearest({"a": 9, "b": 1, "c": 0}, {"a": (0, 3), "b": (0, 2), "c": (0, 9)}) == {"a": 3, "b": 2, "c": 5}
    assert nearest({"a": 10, "b": 0, "c": 0}, {"a": (0, 3), "b": (0, 9), "c": (0, 9)}) == {"a": 3, "b": 4, "c": 3}


def test_a_mixture_outside_of_the_ranges_is_led_inside_without_a_leap() -> None:
    guard = Rails(ranges={"math": (0.2, 0.5)}, max_change=0.1)
    old = {"c4": 995_000_000, "math": 5_000_000}
    path = [old]
    while not inside(guard, path[-1]):
        path.append(guard.limit(old, path[-1]))
    assert [mixture["math"] for mixture in path] == [5_000_000, 105_000_000, 200_000_000]


def test_what_held_is_named() -> None:
    guard = Rails(fixed=["qa"], ranges={"math": (0.1, 0.3)}, max_change=0.05)
    old = {"c4": 500_000_000, "code": 200_000_000, "math": 120_000_000, "qa": 180_000_000}
    wish = {"c4": 700_000_000, "code": 200_000_000, "math": 0, "qa": 100_000_000}
    new = guard.limit(wish, old)
    assert guard.holding(wish, old, new) == {"max_change": ["c4"], "minimum": ["math"], "fixed": ["qa"]}
    wish = {"c4": 300_000_000, "code": 160_000_000, "math": 360_000_000, "qa": 180_000_000}
    near = {**old, "c4": 320_000_000, "math": 300_000_000}
    assert guard.holding(wish, near, guard.limit(wish, near)) == {"maximum": ["math"]}
    assert guard.holding(old, old, old) == {}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"minimum": -0.1}, "the range of every corpus must be 0 ≤ minimum ≤ maximum ≤ 1, found -0.1 to 1.0"),
        ({"minimum": math.nan}, "found nan to 1.0"),
        ({"ranges": {"code": (0.4, 0.2)}}, "the range of code must be 0 ≤ minimum ≤ maximum ≤ 1, found 0.4 to 0.2"),
        ({"ranges": {"code": (0.6, 1), "math": (0.5, 1)}}, "the minima in ranges sum to 1.1, more than 1: lower some"),
        ({"ranges": {"code": (0.1, 1)}, "fixed": ["code"]}, "corpus 'code' is fixed, so it cannot have a range"),
        ({"max_change": 0}, "max_change 0 would let nothing change"),
        ({"max_change": "0.1"}, "max_change must be from 0 to 1, found '0.1'"),
        ({"max_change": 0.01, "min_change": 0.02}, "min_change 0.02 is above max_change 0.01: nothing could change"),
        ({"cool_down": -1}, "cool_down must be a whole number of steps, 0 or more, found -1"),
        ({"ramp": Ramp(shape="cubic", length=5)}, "a ramp is step or linear or cosine over at least one step"),
    ],
)
def test_rails_that_cannot_be_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ProposingError) as caught:
        Rails(**given)
    assert problem in str(caught.value)


def test_all_problems_come_at_once() -> None:
    with pytest.raises(ProposingError) as caught:
        Rails(minimum=2, max_change=-1, cool_down=-3)
    assert len(caught.value.problems) == 3


def test_rails_are_checked_against_the_corpora_of_every_phase() -> None:
    mixtures = [{"c4": 1}, {"c4": 0.5, "code": 0.5}, {"c4": 0.4, "code": 0.3, "math": 0.3}]
    schedule = Schedule.from_dict(
        {"phases": [{"start": 10 * number, "mixture": mixture} for number, mixture in enumerate(mixtures)]},
        num_steps=100, global_batch_size=8, seq_len=8,
    )  # fmt: skip
    Rails(minimum=0.3, maximum=0.5).check(schedule)
    with pytest.raises(ProposingError, match=r"the minima of 3 corpora sum to 1.05, more than 1: .*phase from step 20"):
        Rails(minimum=0.35).check(schedule)
    with pytest.raises(ProposingError, match=r"the maxima of 2 corpora sum to 0.8, less than 1: .*phase from step 10"):
        Rails(maximum=0.4).check(schedule)
    with pytest.raises(ProposingError, match=r"sum to 1\.1"):
        Rails(minimum=0.35, fixed=["c4"]).check(schedule)


def test_one_corpus_that_could_move_cannot() -> None:
    assert Rails().movable({"c4": 1, "code": 0}) == set()
    assert Rails(fixed=["c4"]).movable({"c4": 1, "code": 2}) == set()
    assert Rails().movable({"c4": 1, "code": 2, "math": 0}) == {"c4", "code"}
