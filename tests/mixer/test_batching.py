"""The length of a run whose batch size changes."""

from typing import Any

import pytest

from mixer import Schedule, ScheduleError, parse_num_steps

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


def sizes_of(batch_sizes: Any, *, num_steps: int = 100) -> list[tuple[int, int]]:
    schedule = {"phases": [{"start": 0, "mixture": {"c4": 1.0}}], "batch_sizes": batch_sizes}
    rows = Schedule.from_dict(schedule, num_steps=num_steps, global_batch_size=256, seq_len=10).batch_sizes
    return [(row.start, row.size) for row in rows]


@pytest.mark.parametrize(
    ("warm_up", "rows"),
    [
        ({"to": 1024, "length": "30ba", "increments": 3}, [(10, 512), (20, 768), (30, 1024)]),
        ({"to": 1024, "length": 50, "increments": 4}, [(13, 448), (25, 640), (38, 832), (50, 1024)]),
        ({"to": 512, "length": "25_600tok", "increments": 2}, [(5, 384), (9, 512)]),  # 12,800 and 25,600 tokens
        ({"to": 64, "length": "7ba", "increments": 1}, [(7, 64)]),
    ],
)
def test_a_warm_up_in_short_is_a_list_of_sizes(warm_up: dict[str, Any], rows: list[tuple[int, int]]) -> None:
    assert sizes_of(warm_up) == rows
    assert sizes_of([{"start": start, "global_batch_size": size} for start, size in rows]) == rows


def test_a_length_in_tokens_is_reached_with_a_warm_up() -> None:
    warm_up = {"to": 6, "length": "3ba", "increments": 1}
    assert parse_num_steps("120tok", **SIZES, batch_sizes=warm_up) == 4


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"to": 1025}, "256 to 1025 samples is no whole number of samples in each of 3 increments @ $.batch_sizes"),
        ({"to": 256}, "from 256 to 256 samples is no whole number of samples in each of 3 increments @ $.batch_sizes"),
        ({"to": "many"}, "a whole number of samples, at least 1, found 'many' @ $.batch_sizes.to"),
        ({"length": "0.1dur"}, "expected a length like '6000ba' or '12.6e9tok', found '0.1dur' @ $.batch_sizes.length"),
        ({"length": 0}, "expected a length like '6000ba' or '12.6e9tok', found 0 @ $.batch_sizes.length"),
        ({"increments": 0}, "expected a whole number of at least 1, found 0 @ $.batch_sizes.increments"),
        ({"length": 2}, "starts at step 2, not after the size before it (2) @ $.batch_sizes[2].start"),
        ({"length": 200}, "starts at step 134, but the run ends after 100 steps @ $.batch_sizes[1].start"),
        ({"form": 1}, "a warm-up has exactly the keys 'to', 'length' and 'increments', found"),
    ],
)  # fmt: skip
def test_what_is_no_warm_up_is_told_with_its_place(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        sizes_of({"to": 1024, "length": "30ba", "increments": 3} | change)
    assert problem in caught.value.problems[0]
