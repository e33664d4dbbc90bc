"""Length: bounds are inclusive, and characters and words are those that people count."""

import pytest

from shards.curation.length import Length
from shards.curation.settings import Section
from shards.errors import CallError
from tests.shards.curation.conftest import make_batch


def parse(**settings: object) -> Length:
    section = Section(settings, "l")
    step = Length.parse(section, "length")
    section.finish()
    return step


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"min_characters": 5}, [0, -1, -1]),
        ({"max_characters": 5}, [-1, -1, 0]),
        ({"min_words": 3}, [0, -1, -1]),
        ({"max_words": 3}, [-1, -1, 0]),
        ({"min_characters": 5, "max_words": 3}, [0, -1, 0]),
    ],
)
def test_bounds(settings: dict[str, object], expected: list[int]) -> None:
    assert parse(**settings).start().judge(make_batch(["a, b", "a b c", "漢字 is, two"])).tolist() == expected


def test_words_are_among_the_parameters_only_where_they_count() -> None:
    assert parse(min_characters=5).parameters() == {"min_characters": 5}
    assert parse(min_words=5).parameters().keys() == {"min_words", "words", "unicode"}


@pytest.mark.parametrize("settings", [{}, {"min_words": 0}, {"min_words": 2.5}, {"max_words": True}, {"min": 1}])
def test_wrong_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(CallError, match=r"^l"):
        parse(**settings)
