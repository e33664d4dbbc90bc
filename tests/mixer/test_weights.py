"""Mixtures as written → integers that sum to 10^9 exactly, or every problem with its place."""

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer import weights
from mixer.weights import UNIT, apportion, blend, parse_mixture


def parse(obj: Any) -> dict[str, int]:
    problems: list[str] = []
    mixture = parse_mixture(obj, "$.mixture", problems)
    assert problems == []
    return mixture


@st.composite
def mixtures(draw: st.DrawFn) -> dict[str, float]:
    """Weights that are whole parts per 10^9 and sum up."""
    cuts = draw(st.lists(st.integers(0, UNIT) | st.integers(0, 100).map(lambda n: n * UNIT // 100), max_size=7))
    edges = [0, *sorted(cuts), UNIT]
    parts = [high - low for low, high in pairwise(edges)]
    return {f"c{index}": (1 if part == UNIT else part / UNIT) for index, part in enumerate(parts)}


def test_groups_are_split_among_their_parts() -> None:
    parts = {"ultrachat": 0.75, "dialogue": 0.15, "openhermes": 0.075, "triviaqa": 0.025}
    mixture = parse({"c4": 0.8, "knowledgeqa": {"weight": 0.2, "parts": parts}})
    assert mixture == {
        "c4": 800_000_000,
        "ultrachat": 150_000_000,
        "dialogue": 30_000_000,
        "openhermes": 15_000_000,
        "triviaqa": 5_000_000,
    }


def test_thirds_and_sums_that_are_almost_one_become_exact() -> None:
    assert parse({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}) == {"a": 333_333_334, "b": 333_333_333, "c": 333_333_333}
    assert sum(parse({"a": 0.3, "b": 0.7000009}).values()) == UNIT


@given(mixtures(), st.data())
def test_the_short_way_of_usual_mixtures_says_what_the_long_one_does(
    mixture: dict[Any, Any], data: st.DataObject
) -> None:
    """Whole parts that sum up take it, as people and `to_dict` write them; with anything else in it, none does."""
    problems: list[str] = []
    exact = weights._exact(mixture)
    assert exact == weights._parse(mixture, "$", problems)
    assert list(exact or {}) == list(mixture)
    name = data.draw(st.sampled_from(sorted(mixture)))
    other = data.draw(
        st.floats()
        | st.integers()
        | st.booleans()
        | st.none()
        | st.just({"weight": mixture[name], "parts": {"z": 1}})
        | st.floats(-1e-6, 1e-6).map(lambda change: mixture[name] + change)
    )
    problems, parsed = [], weights._exact({**mixture, name: other})
    expected = weights._parse({**mixture, name: other}, "$", problems)
    assert parsed is None or (parsed, problems) == (expected, [])


@given(st.dictionaries(st.text(min_size=1), st.fractions(0, 10**6), min_size=1), st.integers(1, 10**12))
def test_apportioned_integers_sum_up_and_are_off_by_less_than_one(shares: dict[str, Fraction], total: int) -> None:
    if not sum(shares.values()):
        shares["x"] = Fraction(1)
    result = apportion(shares, total)
    whole = sum(shares.values())
    assert sum(result.values()) == total
    assert all(abs(result[name] - share * total / whole) < 1 for name, share in shares.items())
    assert all(result[name] == 0 for name, share in shares.items() if share == 0)


@given(st.integers(0, UNIT))
def test_a_blend_is_exact_and_never_draws_what_neither_side_has(progress: int) -> None:
    mixed = blend({"a": UNIT, "gone": 0}, {"a": UNIT // 3, "b": UNIT - UNIT // 3}, progress)
    assert sum(mixed.values()) == UNIT
    assert mixed["gone"] == 0
    assert abs(mixed["b"] - Fraction(progress * (UNIT - UNIT // 3), UNIT)) < 1


@given(mixtures(), mixtures(), st.integers(0, UNIT) | st.sampled_from([UNIT // 2, UNIT // 3, 1]))
def test_a_blend_is_apportioned(one: dict[str, float], other: dict[str, float], progress: int) -> None:
    old, new = parse(one), parse(other)
    shares = {
        c: Fraction(old.get(c, 0) * (UNIT - progress) + new.get(c, 0) * progress) for c in old.keys() | new.keys()
    }
    blended = blend(old, new, progress)
    assert blended == apportion(shares, UNIT)
    assert list(blended) == sorted(blended)


@pytest.mark.parametrize(
    ("obj", "problem"),
    [
        ({"a": 0.5, "b": 0.4}, "weights sum to 0.9, they must sum to 1 @ $.mixture"),
        ({"a": 1.5, "b": -0.5}, "a weight must be from 0 to 1, found -0.5 @ $.mixture.b"),
        ({"a": "0.5", "b": 0.5}, "a weight must be a number from 0 to 1, found '0.5' @ $.mixture.a"),
        ({"a": float("nan"), "b": 0.5}, "a weight must be from 0 to 1, found nan @ $.mixture.a"),
        ({"a": float("inf"), "b": 0.5}, "a weight must be from 0 to 1, found inf @ $.mixture.a"),
        ({"a": 10**400}, "a weight must be from 0 to 1, found 10000000000000000000 @ $.mixture.a"),
        ({"a": True}, "a weight must be a number from 0 to 1, found True @ $.mixture.a"),
        ({"a": 1, "b": 1e-12}, "weight 1e-12 is below the smallest possible, 1e-9 @ $.mixture.b"),
        ({}, "expected a mapping of corpus names to weights, found {} @ $.mixture"),
        ({"g": {"weight": 1, "parts": {"a": 0.5}}}, "weights sum to 0.5, they must sum to 1 @ $.mixture.g.parts"),
        ({"g": {"weight": 1}}, "a group has exactly the keys 'weight' and 'parts', found ['weight'] @ $.mixture.g"),
        (
            {"a": 0.5, "g": {"weight": 0.5, "parts": {"a": 1}}},
            "corpus 'a' is named twice @ $.mixture.g.parts.a",
        ),
    ],
)
def test_problems_have_their_place(obj: Any, problem: str) -> None:
    problems: list[str] = []
    parse_mixture(obj, "$.mixture", problems)
    assert problem in problems


def test_groups_nested_without_end_are_a_problem_not_a_crash() -> None:
    obj: Any = {"a": 1}
    for _ in range(900):
        obj = {"g": {"weight": 1, "parts": obj}}
    problems: list[str] = []
    parse_mixture(obj, "$", problems)
    assert len(problems) == 1
    assert problems[0].startswith("groups are nested more than 16 deep")
