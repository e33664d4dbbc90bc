"""Quality: documents that break one of the published rules (`shards.curation.rules`) go.

    - quality: {rules: gopher}                                  all rules of a source
    - quality: {rules: [gopher, lorem_ipsum, punctuated_lines]} sources and single rules
    - quality:
        rules: [gopher]
        bounds: {words: [20, null], top_2_gram: [null, 0.25]}   other bounds than the published
        without: [bullet_lines]

Rules are tried in the order of the list in `shards.curation.rules`; a document is counted under the first it breaks,
as `quality.words` and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shards.curation.batch import Batch
from shards.curation.judging import KEEP, Judge, Step, Verdict
from shards.curation.rules import RULES, Pages
from shards.curation.settings import Section
from shards.curation.words import VERSIONS
from shards.errors import CallError

__all__ = ["Quality"]

_SOURCES = tuple(dict.fromkeys(rule.source for rule in RULES.values()))
Bounds = tuple[float | None, float | None]


@dataclass(frozen=True, kw_only=True)
class Quality(Step):
    """Rules in order, each with its bounds."""

    name: str
    rules: tuple[tuple[str, Bounds], ...]

    @classmethod
    def parse(cls, section: Section, name: str) -> Quality:
        """From a section as in this module's examples."""
        chosen = _names(section, "rules", section.texts("rules"))
        without = _names(section, "without", section.texts("without")) if "without" in section else set()
        bounds = Section(section.take("bounds", {}), f"{section.where}.bounds")
        own = {key: _bounds(bounds, key) for key in RULES if key in bounds}
        bounds.finish()
        names = [key for key in RULES if (key in chosen or key in own) and key not in without]
        if not names:
            raise CallError(f"{section.where} leaves no rule; remove the step, or name rules")
        rules = tuple((key, own.get(key, (RULES[key].low, RULES[key].high))) for key in names)
        return cls(name=name, rules=rules)

    @property
    def reasons(self) -> tuple[str, ...]:
        """One a rule."""
        return tuple(f"{self.name}.{key}" for key, _ in self.rules)

    def parameters(self) -> dict[str, Any]:
        """Bounds of each rule."""
        return {"rules": {key: list(bounds) for key, bounds in self.rules}, "version": 1, **VERSIONS}

    def start(self) -> Judge:
        """Nothing is loaded."""
        return _QualityJudge(self)


class _QualityJudge(Judge):
    def __init__(self, step: Quality) -> None:
        self._step = step

    def judge(self, batch: Batch) -> Verdict:
        verdict = np.full(len(batch), KEEP, np.int16)
        left, pages = np.arange(len(batch)), Pages(batch)
        above = np.full(len(batch), np.inf)  # never smaller than the measure of the rule before
        for number, (key, (low, high)) in enumerate(self._step.rules):
            rule = RULES[key]
            if number == 0 or rule.under != self._step.rules[number - 1][0]:
                above = np.full(len(left), np.inf)
            asked = above > (-np.inf if high is None or low is not None else high)
            if asked.any():
                above[asked] = rule.measure(pages.keep(asked))
            good = (above >= (-np.inf if low is None else low)) & (above <= (np.inf if high is None else high))
            verdict[left[~good]] = number
            if not good.all():
                left, pages, above = left[good], pages.keep(good), above[good]
        return verdict


def _names(section: Section, key: str, found: tuple[str, ...]) -> set[str]:
    names: set[str] = set()
    for name in found:
        if name not in RULES and name not in _SOURCES:
            known = ", ".join((*_SOURCES, *RULES))
            raise CallError(f"{section.where}.{key}: no rule and no source is called {name!r}; known: {known}")
        names |= {name} if name in RULES else {rule for rule in RULES if RULES[rule].source == name}
    return names


def _bounds(section: Section, key: str) -> Bounds:
    found = section.take(key)
    numbers = [one for one in found if one is not None] if isinstance(found, list) else []
    good = all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers)
    if not isinstance(found, list) or len(found) != 2 or not numbers or not good:
        raise section.wrong(key, "[low, high], one of them may be null", found)
    return found[0], found[1]
