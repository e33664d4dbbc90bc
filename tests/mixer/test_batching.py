"""The length of a run whose batch size changes."""

from typing import Any

import pytest

from mixer import ScheduleError, parse_num_steps

SIZES = {"global_batch_size": 2, "seq_len": 10}
LATER = [{"start": "4ba", "global_batch_size": 4}, {"start": "200tok", "global_batch_size": 8}]


@pytest.mark.parametrize(
    ("max_duration", "steps"),
    [
        (40, 40),
        ("40ba", 40),
        ("80tok", 4),
        ("81tok", 5),
        ("200tok", 7),
        ("280tok", 8),
        ("281tok", 9),
        ("2e6tok", 25_005),
    ],
)
def test_a_length_in_tokens_is_reached_with_the_sizes_of_the_file(max_duration: object, steps: int) -> None:
    assert parse_num_steps(max_duration, **SIZES, batch_sizes=LATER) == steps


def test_one_size_is_as_ever() -> None:
    assert parse_num_steps("201tok", **SIZES) == 11


@pytest.mark.parametrize("max_duration", ["soon", "1dur", -1, None])
def test_what_is_no_length_is_a_value_error(max_duration: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_num_steps(max_duration, **SIZES, batch_sizes=LATER)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (7, "expected a list of {start: 1000ba, global_batch_size: 512}, found 7 @ $.schedule.batch_sizes"),
        (
            [{"start": "0.5dur", "global_batch_size": 4}],
            "'0.5dur' is a share of the run, whose length in tokens depends on it: give it in ba or tok @ "
            "$.schedule.batch_sizes[0].start",
        ),
        (
            [{"start": 1, "global_batch_size": -4}],
            "a global_batch_size is a whole number of samples, at least 1, found -4 @ "
            "$.schedule.batch_sizes[0].global_batch_size",
        ),
    ],
)
def test_wrong_sizes_matter_only_where_the_length_is_in_tokens(rows: Any, problem: str) -> None:
    assert parse_num_steps("9ba", **SIZES, batch_sizes=rows) == 9
    with pytest.raises(ScheduleError) as caught:
        parse_num_steps("9e3tok", **SIZES, batch_sizes=rows)
    assert caught.value.problems == [problem]
