"""Length: documents with too few or too many characters or words go.

Characters are those of the stripped text; words are `shards.curation.words`' (so a Chinese character is one).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from shards.curation.batch import Batch
from shards.curation.judging import KEEP, Judge, Step, Verdict
from shards.curation.settings import Section
from shards.curation.words import VERSIONS
from shards.errors import CallError

__all__ = ["Length"]


@dataclass(frozen=True, kw_only=True)
class Length(Step):
    """Bounds, both inclusive; None for none."""

    name: str
    min_characters: int | None
    max_characters: int | None
    min_words: int | None
    max_words: int | None

    @classmethod
    def parse(cls, section: Section, name: str) -> Length:
        """From `{min_characters, max_characters, min_words, max_words}`, at least one of them."""
        keys = ("min_characters", "max_characters", "min_words", "max_words")
        bounds = {key: section.integer(key, None, low=1) for key in keys}
        if not any(value is not None for value in bounds.values()):
            raise CallError(f"{section.where} must have at least one of {', '.join(keys)}")
        return cls(name=name, **bounds)

    def parameters(self) -> dict[str, Any]:
        """Bounds, and the version of what a word is if one is about words."""
        bounds = {key: value for key, value in asdict(self).items() if value is not None and key != "name"}
        return bounds | (VERSIONS if {"min_words", "max_words"} & bounds.keys() else {})

    def start(self) -> Judge:
        """Nothing is loaded."""
        return _LengthJudge(self)


class _LengthJudge(Judge):
    def __init__(self, step: Length) -> None:
        self._step = step

    def judge(self, batch: Batch) -> Verdict:
        step = self._step
        good = np.ones(len(batch), np.bool_)
        if step.min_characters is not None or step.max_characters is not None:
            characters = np.array([len(text) for text in batch.texts], np.int64)
            good &= (characters >= (step.min_characters or 0)) & (characters <= (step.max_characters or np.inf))
        if step.min_words is not None or step.max_words is not None:
            words = batch.words.counts
            good &= (words >= (step.min_words or 0)) & (words <= (step.max_words or np.inf))
        return np.where(good, KEEP, 0).astype(np.int16)
