"""Points and lengths of time in a run: `6000ba` (steps), `12.6e9tok` (tokens), `0.1dur` (share of the run).

The notation is Composer's. Everything becomes whole steps here: a time given in tokens or as a share is the first step
at or past it. Arithmetic is exact (fractions), so 0.1dur of 10 steps is step 1 on every machine.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from math import ceil

_FORM = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?)\s*(ba|tok|dur)\s*")


def parse_steps(value: object, *, tokens_per_step: int, num_steps: int | None = None) -> int:
    """Steps meant by `value`, an int, or a string in `ba`, `tok` or `dur`, in a run of one batch size.

    Raises ValueError (a message without a place) for anything else, a fraction of a step, or a share of the run where
    `num_steps` is None.
    """
    return parse_time(value, step_at=lambda tokens: ceil(tokens / tokens_per_step), num_steps=num_steps)


def split_time(value: object) -> tuple[Fraction, str]:
    """A time as its number and its unit, "ba" for a plain integer; (0, "") where it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Fraction(value), "ba"
    match = _FORM.fullmatch(value) if isinstance(value, str) and len(value) <= 40 else None
    return (Fraction(match[1].replace("_", "")), match[2]) if match else (Fraction(0), "")


def parse_time(value: object, *, step_at: Callable[[Fraction], int], num_steps: int | None) -> int:
    """As `parse_steps`, where `step_at` gives the first step at or past a number of tokens."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"expected steps like 6000 or '6000ba', '12.6e9tok' or '0.1dur', found {value!r}")
    if isinstance(value, int):
        if value < 0:
            raise ValueError(f"steps must not be negative, found {value}")
        return value
    number, unit = split_time(value)
    if not unit:
        raise ValueError(f"expected a time like '6000ba', '12.6e9tok' or '0.1dur', found '{value}'")
    if unit == "tok":
        return step_at(number)
    if unit == "dur":
        if num_steps is None:
            raise ValueError(f"'{value}' is a share of the run, whose length must be given in ba or tok")
        if number > 1:
            raise ValueError(f"'{value}' lies past the end of the run, which is 1dur")
        return ceil(number * num_steps)
    if number.denominator != 1:
        raise ValueError(f"'{value}' is not a whole number of steps")
    return int(number)
