"""Times in ba, tok and dur, exact."""

import pytest

from mixer import parse_steps


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        (6000, 6000),
        ("6000ba", 6000),
        (" 6e3ba ", 6000),
        ("12.6e9tok", 6009),  # 6008.15 steps of 2,097,152 tokens: the first step at or past it
        ("2_097_152tok", 1),
        ("2097153tok", 2),
        ("0.1dur", 6104),
        ("1dur", 61_035),
        ("0dur", 0),
    ],
)
def test_first_step_at_or_past(value: object, steps: int) -> None:
    assert parse_steps(value, tokens_per_step=2_097_152, num_steps=61_035) == steps


def test_shares_are_exact_decimals_not_floats() -> None:
    assert parse_steps("0.1dur", tokens_per_step=1, num_steps=10) == 1
    assert parse_steps("0.7dur", tokens_per_step=1, num_steps=10) == 7


@pytest.mark.parametrize(
    "value",
    ["6000", "6000 steps", "1.5ba", "-3ba", -3, 2.5, None, True, "1e999999999tok", "1.1dur", "nanba", "9" * 50 + "ba"],
)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_steps(value, tokens_per_step=8, num_steps=100)


def test_a_share_of_the_run_needs_the_runs_length() -> None:
    with pytest.raises(ValueError, match="must be given in ba or tok"):
        parse_steps("0.5dur", tokens_per_step=8)
