"""The published rules: an example on each side of each bound, and slow versions of the measures on n-grams."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.curation.quality import Quality
from shards.curation.repetition import share_of_duplicate_ngrams, share_of_top_ngram
from shards.curation.rules import RULES, Pages
from shards.curation.settings import Section
from shards.curation.words import read_words
from shards.errors import CallError
from tests.shards.curation.conftest import make_batch, make_documents
from tests.shards.curation.oracles import duplicate_ngram_share, top_ngram_share

#: The values printed in the papers (Gopher, appendix A.1.1 and table A1; C4, section 2.2; FineWeb, section 3.5).
PUBLISHED = {
    "words": (50, 100_000),
    "mean_word_length": (3, 10),
    "hash_ratio": (None, 0.1),
    "ellipsis_ratio": (None, 0.1),
    "bullet_lines": (None, 0.9),
    "ellipsis_lines": (None, 0.3),
    "alphabetic_words": (0.8, None),
    "stop_words": (2, None),
    "duplicate_lines": (None, 0.30),
    "duplicate_paragraphs": (None, 0.30),
    "duplicate_line_characters": (None, 0.20),
    "duplicate_paragraph_characters": (None, 0.20),
    "top_2_gram": (None, 0.20),
    "top_3_gram": (None, 0.18),
    "top_4_gram": (None, 0.16),
    "duplicate_5_grams": (None, 0.15),
    "duplicate_6_grams": (None, 0.14),
    "duplicate_7_grams": (None, 0.13),
    "duplicate_8_grams": (None, 0.12),
    "duplicate_9_grams": (None, 0.11),
    "duplicate_10_grams": (None, 0.10),
    "sentences": (5, None),
    "lorem_ipsum": (None, 0),
    "curly_brackets": (None, 0),
    "punctuated_lines": (0.12, None),
    "short_lines": (None, 0.67),
    "newline_ratio": (None, 0.3),
}

LINE = "a line that is a good deal longer than thirty characters"
EXAMPLES = [
    ("words", "w " * 50, "w " * 49),
    ("mean_word_length", "abc de abcd", "ab abc abc"),
    ("mean_word_length", "a" * 10, "a" * 11),
    ("hash_ratio", "# " + "w " * 9, "#w # " + "w " * 9),
    ("ellipsis_ratio", "w... " + "w " * 9, "w... w… " + "w " * 9),
    ("bullet_lines", "- a\n" * 9 + "b", "- a\n  • a\n" * 5 + "\n\n" + "- a"),
    ("ellipsis_lines", "a...\n" * 3 + "b\n" * 7, "a... \n" * 2 + "a…\n\n" * 2 + "b\n" * 6),
    ("alphabetic_words", "é1 b c d 5", "a b c 4 5"),
    ("stop_words", "The quick fox of it", "The the THE"),
    ("duplicate_lines", "a\nb\nc\n a \n", "a\nb\na\n\na"),
    ("duplicate_paragraphs", "a\nb\n\nc\n\nd\n\nc", "a\n\nb\n \na"),
    ("duplicate_line_characters", "aaaa\nb\nb\n", "aaaa\nbb\nbb"),
    ("duplicate_paragraph_characters", "aaaa\n\nb\n\nb\n", "aaaa\n\nbb\n\nbb"),
    ("top_2_gram", "a b c d e f g h a b j k l m n o p q r s", "a b c d e f a b"),
    ("top_3_gram", "a b c d e f g", "a b c d e f a b c"),
    ("top_4_gram", "a b c d e f g", "a b c d e f a b c d"),
    ("duplicate_5_grams", "a b c d e f g h", "a b c d e f A, b c d e"),
    ("duplicate_10_grams", "a b c d e f g h i j k", "a b c d e f g h i j k a b c d e f g h i j"),
    ("sentences", 'One. Two! Three? Four." Five.', "One. Two! Three? v2.0 Four..."),
    ("lorem_ipsum", "lorem", "so Lorem Ipsum dolor"),
    ("curly_brackets", "a (b)", "a {b}"),
    ("punctuated_lines", "a.\n" + "b\n" * 7, "a.\n" + "b\n" * 8),
    ("short_lines", f"a\nb\n{LINE}", f"a\nb\nc\n{LINE}"),
    ("newline_ratio", "a b c d e f g\nh i\nj\nk", "a\nb\nc d e"),
]


def measure(rule: str, text: str) -> float:
    return float(RULES[rule].measure(Pages(make_batch([text.strip()])))[0])


def test_the_defaults_are_the_published_ones() -> None:
    assert {name: (rule.low, rule.high) for name, rule in RULES.items()} == PUBLISHED


@pytest.mark.parametrize(("rule", "good", "bad"), EXAMPLES)
def test_a_rule_keeps_the_good_and_removes_the_bad(rule: str, good: str, bad: str) -> None:
    step = Quality.parse(Section({"rules": rule}, "q"), "quality")
    assert step.start().judge(make_batch([good.strip(), bad.strip()])).tolist() == [-1, 0]


def test_every_rule_has_an_example() -> None:
    tested = {rule for rule, _, _ in EXAMPLES}
    assert set(RULES) - tested == {f"duplicate_{n}_grams" for n in (6, 7, 8, 9)}


TEXT = st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), min_size=1, max_size=40).map(" ".join)


@given(st.lists(TEXT, min_size=1, max_size=5), st.integers(2, 7))
def test_measures_of_ngrams_are_those_counted_one_by_one(texts: list[str], n: int) -> None:
    words = read_words(texts)
    assert share_of_top_ngram(words, n) == pytest.approx([top_ngram_share(text, n) for text in texts])
    assert share_of_duplicate_ngrams(words, n) == pytest.approx([duplicate_ngram_share(text, n) for text in texts])


@given(st.lists(TEXT, min_size=1, max_size=8))
def test_the_first_broken_rule_counts_whatever_is_skipped_on_the_way(texts: list[str]) -> None:
    names = [name for name in RULES if "gram" in name]
    step = Quality.parse(Section({"rules": names}, "q"), "quality")
    expected = []
    for text in texts:
        broken = [number for number, name in enumerate(names) if measure(name, text) > (RULES[name].high or 0)]
        expected.append(broken[0] if broken else -1)
    assert step.start().judge(make_batch(texts)).tolist() == expected


def test_texts_without_words_have_measures_too() -> None:
    texts = ["...", "!", "-"]
    for name, rule in RULES.items():
        values = rule.measure(Pages(make_batch(texts)))
        assert np.isfinite(values).all(), name


def test_rules_by_source_name_and_with_other_bounds() -> None:
    step = Quality.parse(
        Section({"rules": ["c4", "words"], "without": ["sentences"], "bounds": {"stop_words": [1, None]}}, "q"), "mine"
    )
    assert step.rules == (
        ("words", (50, 100_000)),
        ("stop_words", (1, None)),
        ("lorem_ipsum", (None, 0)),
        ("curly_brackets", (None, 0)),
    )
    assert step.reasons == ("mine.words", "mine.stop_words", "mine.lorem_ipsum", "mine.curly_brackets")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"q\.rules is missing"),
        ({"rules": ["nice"]}, r"q\.rules: no rule and no source is called 'nice'; known: gopher, c4, fineweb, words"),
        ({"rules": 3}, r"q\.rules must be a list of texts, not 3"),
        ({"rules": "words", "without": "words"}, r"q leaves no rule"),
        ({"rules": "words", "bounds": {"words": 5}}, r"q\.bounds\.words must be \[low, high\]"),
        ({"rules": "words", "bounds": {"words": [None, None]}}, r"q\.bounds\.words must be \[low, high\]"),
        ({"rules": "words", "bounds": {"word": [1, 2]}}, r"q\.bounds\.word is not known"),
    ],
)
def test_wrong_settings_are_refused(settings: object, message: str) -> None:
    with pytest.raises(CallError, match=message):
        Quality.parse(Section(settings, "q"), "quality")


def test_made_up_prose_breaks_no_rule_of_repetition() -> None:
    names = [name for name in RULES if "gram" in name or "duplicate" in name]
    step = Quality.parse(Section({"rules": names}, "q"), "quality")
    assert set(step.start().judge(make_batch(make_documents(100, seed=9))).tolist()) == {-1}


def test_a_rule_is_measured_though_the_one_before_was_low() -> None:
    fillers = [f"{letter}{other}" for letter in "defghijkl" for other in "mn"]
    text = " ".join(["aa", "bb", "cc", *fillers, "aa", "bb", "cc"])
    assert measure("top_2_gram", text) == 8 / 48 < 0.18 < 12 / 48 == measure("top_3_gram", text)
    step = Quality.parse(Section({"rules": ["top_2_gram", "top_3_gram"]}, "q"), "quality")
    assert step.start().judge(make_batch([text])).tolist() == [1]
