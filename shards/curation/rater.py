"""Raters: a score for each document by a fastText model or by a function of the user's, and bounds on it.

    - rater: {model: quality.bin, label: __label__hq, above: 0.5}
    - rater: {callable: "my_rater:score", above: 2.5, histogram: {low: 0, high: 5, bins: 50}}

The score of a fastText model is the probability of `label`. A callable is `module:function` or
`path/to/file.py:function`; it gets a list of texts and gives as many numbers, each a function of its text
alone (it is called with batches of any size). A document stays when above <= score < below. Callables come
from the file that the user names on the command line and from nowhere else.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.curation.batch import Batch
from shards.curation.fasttext_model import FastText, hash_file, versions
from shards.curation.judging import KEEP, Judge, Notes, Step, Verdict
from shards.curation.settings import Section
from shards.errors import CallError

__all__ = ["Histogram", "Rater"]

Score = Callable[[list[str]], Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Equal bins from `low` to `high`; scores outside are counted in the first and the last."""

    low: float
    high: float
    bins: int

    def count(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """Scores in each bin, int64 [bins]."""
        places = np.floor((scores - self.low) * (self.bins / (self.high - self.low))).astype(np.int64)
        return np.bincount(np.clip(places, 0, self.bins - 1), minlength=self.bins)


@dataclass(frozen=True, kw_only=True)
class Rater(Step):
    """One of `model` (with `label`) and `function`; a document stays when above <= score < below."""

    name: str
    model: str | None
    label: str | None
    function: str | None
    above: float | None
    below: float | None
    histogram: Histogram | None

    @classmethod
    def parse(cls, section: Section, name: str) -> Rater:
        """From a section as in this module's examples; checks that the model or the callable is there."""
        model, function = section.text("model", None), section.text("callable", None)
        if (model is None) == (function is None):
            raise CallError(f"{section.where} must have either a model (fastText file) or a callable")
        step = cls(
            name=name,
            model=model,
            label=section.text("label") if model else None,
            function=function,
            above=section.number("above", None),
            below=section.number("below", None),
            histogram=_parse_histogram(section, in_unit=model is not None),
        )
        if step.above is None and step.below is None:
            raise CallError(f"{section.where} must have a threshold: above, below, or both")
        if step.above is not None and step.below is not None and step.above >= step.below:
            raise CallError(f"{section.where}: above ({step.above:g}) must be less than below ({step.below:g})")
        if model:
            labels = FastText(model).labels()
            if step.label not in labels:
                some = ", ".join(sorted(labels)[:10])
                raise CallError(f"{section.where}.label: {model} has no label {step.label!r}; it has: {some}")
        if function:
            _find_function(function, f"{section.where}.callable")
        return step

    def parameters(self) -> dict[str, Any]:
        """Settings; the SHA-256 of the model, or of the file that the callable is in."""
        settings = {key: value for key, value in asdict(self).items() if value is not None and key != "name"}
        if self.model:
            return settings | {"model": Path(self.model).name, "sha256": hash_file(self.model), **versions()}
        assert self.function is not None
        file = inspect.getsourcefile(_find_function(self.function, self.name))
        settings["function"] = Path(self.function).name
        return settings | ({"sha256": hash_file(file)} if file else {})

    def start(self) -> Judge:
        """Loads the model or imports the callable."""
        return _RaterJudge(self)


class _RaterJudge(Judge):
    def __init__(self, step: Rater) -> None:
        self._step = step
        self._score = self._start(step)
        self._counts = np.zeros(step.histogram.bins if step.histogram else 0, np.int64)

    @staticmethod
    def _start(step: Rater) -> Score:
        if step.model:
            model, label = FastText(step.model), step.label or ""
            return lambda texts: model.probabilities(texts, label)
        assert step.function is not None
        return _find_function(step.function, step.name)

    def judge(self, batch: Batch) -> Verdict:
        step = self._step
        scores = self._checked(self._score(list(batch.texts)), len(batch))
        if step.histogram:
            self._counts += step.histogram.count(scores)
        low = -np.inf if step.above is None else step.above
        high = np.inf if step.below is None else step.below
        return np.where((scores >= low) & (scores < high), KEEP, 0).astype(np.int16)

    def _checked(self, scores: object, num: int) -> NDArray[np.float64]:
        try:
            array = np.asarray(scores, np.float64)
        except (TypeError, ValueError):
            array = np.empty(0)
        if array.shape != (num,) or not np.isfinite(array).all():
            wanted = f"{num} finite numbers for {num} texts"
            raise CallError(f"rater {self._step.name}: {self._step.function} must give {wanted}, not {_short(scores)}")
        return array

    def take_notes(self) -> Notes:
        if not self._step.histogram:
            return {}
        notes: Notes = {"histogram": self._counts.tolist()}
        self._counts = np.zeros_like(self._counts)
        return notes


def _parse_histogram(section: Section, *, in_unit: bool) -> Histogram | None:
    found = section.take("histogram", False)
    if found is False:
        return None
    if found is True:
        if not in_unit:
            raise CallError(f"{section.where}.histogram of a callable must say {{low: , high: , bins: }}")
        return Histogram(low=0.0, high=1.0, bins=20)
    inner = Section(found, f"{section.where}.histogram")
    result = Histogram(low=inner.number("low"), high=inner.number("high"), bins=inner.integer("bins", 20, low=1))
    inner.finish()
    if result.low >= result.high:
        raise CallError(f"{inner.where}: low ({result.low:g}) must be less than high ({result.high:g})")
    return result


def _find_function(text: str, where: str) -> Score:
    module_name, _, name = text.rpartition(":")
    if not module_name or not name:
        raise CallError(f"{where} must be module:function or file.py:function, not {text!r}")
    try:
        module = _load_file(module_name) if module_name.endswith(".py") else importlib.import_module(module_name)
        function = getattr(module, name)
    except (ImportError, AttributeError, OSError, SyntaxError) as error:
        raise CallError(f"{where}: cannot import {text} ({error})") from None
    if not callable(function):
        raise CallError(f"{where}: {text} is no function")
    result: Score = function
    return result


def _load_file(path: str) -> Any:
    name = f"_switchpoint_rater_{hash_file(path)[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
