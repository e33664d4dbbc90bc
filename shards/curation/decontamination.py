"""Decontamination: documents that hold items of evaluation sets go.

First look: the document shares an n-gram (13 words by default, as GPT-3 did) with an item; an item of fewer
words is looked for with all of them. Items of fewer than `shortest` words occur by chance and are passed over;
the notes count them.

Second look, so that a phrase that many texts share ("which of the following is most likely to be the") removes
nothing: the longest common subsequence of words of the item and the passage of the document that the shared
n-grams point at, as a share of the item's words. The passage is where the item would lie if it stood in the
document whole, and a quarter of its length (at least n words) on both sides. A document goes when the share
reaches `share` for one item. Of very many candidates for a document the 32 with most shared n-grams are looked at.

The report has a line for each item a document goes for, and for a document that stays although it shares an
n-gram the line of the item that came nearest, with `removed` false.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from shards.curation.batch import Batch
from shards.curation.evaluation_sets import EvaluationSet, Item
from shards.curation.judging import KEEP, Judge, Step, Verdict
from shards.curation.ngram_index import Matches, NgramIndex
from shards.curation.settings import Section
from shards.curation.words import VERSIONS, read_words, spell
from shards.errors import CallError

__all__ = ["NGRAM", "SHARE", "SHORTEST", "Decontamination", "Finder", "Finding"]

NGRAM, SHARE, SHORTEST = 13, 0.6, 5

_log = logging.getLogger(__name__)
_MOST_CANDIDATES = 32


@dataclass(frozen=True, kw_only=True)
class Decontamination(Step):
    """Evaluation sets, words in an n-gram, least share of the second look, least words of an item."""

    name: str
    against: tuple[EvaluationSet, ...]
    ngram: int
    share: float
    shortest: int

    @classmethod
    def parse(cls, section: Section, name: str) -> Decontamination:
        """From `{against: [{path, template, part}], ngram: 13, share: 0.6, shortest: 5}`."""
        found = section.take("against")
        sets = found if isinstance(found, list) else [found]
        if not sets:
            raise section.wrong("against", "at least one file", found)
        return cls(
            name=name,
            against=tuple(
                EvaluationSet.parse(one, f"{section.where}.against[{number}]") for number, one in enumerate(sets)
            ),
            ngram=section.integer("ngram", NGRAM, low=2, high=100),
            share=section.number("share", SHARE, low=0, high=1),
            shortest=section.integer("shortest", SHORTEST, low=1),
        )

    def parameters(self) -> dict[str, Any]:
        """Settings, hashes of the sets, versions."""
        return {
            "against": [one.parameters() for one in self.against],
            "ngram": self.ngram,
            "share": self.share,
            "shortest": self.shortest,
            "version": 1,
            **VERSIONS,
            "rapidfuzz": version("rapidfuzz"),
        }

    def start(self) -> Judge:
        """Reads the sets and makes the index."""
        return _DecontaminationJudge(self)


@dataclass(frozen=True)
class Finding:
    """A document and an item that share an n-gram.

    Attributes:
        text: which text of the batch.
        item: the item.
        ngram: the first shared n-gram, normalised words.
        share: of the second look, from 0 to 1.
    """

    text: int
    item: Item
    ngram: str
    share: float


class Finder:
    """Looks for items in documents."""

    def __init__(self, items: list[Item], *, ngram: int = NGRAM, shortest: int = SHORTEST) -> None:
        from rapidfuzz.distance import LCSseq

        words = read_words([item.text for item in items])
        long_enough = words.counts >= shortest
        self.num_items, self.num_short = len(items), int((~long_enough).sum())
        self._items = [item for item, kept in zip(items, long_enough, strict=True) if kept]
        self._words = words.keep(long_enough)
        self._ngram = ngram
        self._index = NgramIndex(self._words, ngram)
        self._lcs = LCSseq.similarity

    def find(self, batch: Batch) -> list[Finding]:
        """All pairs, by text; of one text's in order of the share, largest first, then of the items."""
        matches = self._index.find(batch.words)
        borders = np.flatnonzero(np.diff(matches.texts, prepend=-1, append=-1))
        findings: list[Finding] = []
        for start, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
            of_text = [self._look(batch, matches, rows) for rows in _by_item(matches, start, end)]
            findings += sorted(of_text, key=lambda finding: -finding.share)
        return findings

    def _look(self, batch: Batch, matches: Matches, rows: np.ndarray[Any, Any]) -> Finding:
        """The second look at one text and one item; `rows` are their matches."""
        text, item = int(matches.texts[rows[0]]), int(matches.items[rows[0]])
        wanted = self._words.hashes[self._words.offsets[item] : self._words.offsets[item + 1]]
        shifts, counts = np.unique(matches.places[rows] - matches.item_places[rows], return_counts=True)
        start = int(shifts[np.argmax(counts)])  # where the item would begin in the text
        slack = max(self._ngram, len(wanted) // 4)
        begin, end = batch.words.offsets[text : text + 2].tolist()
        passage = batch.words.hashes[max(begin + start - slack, begin) : min(begin + start + len(wanted) + slack, end)]
        share = self._lcs(wanted.tolist(), passage.tolist()) / len(wanted)
        place, length = int(matches.places[rows[0]]), min(self._ngram, len(wanted))
        shown = " ".join(spell(batch.texts[text])[place : place + length])
        return Finding(text, self._items[item], shown, share)


def _by_item(matches: Matches, start: int, end: int) -> list[np.ndarray[Any, Any]]:
    """Rows of each candidate among matches[start:end], which are one text's; most shared n-grams first."""
    _, inverse, counts = np.unique(matches.items[start:end], return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_CANDIDATES]
    rows = start + np.argsort(inverse, kind="stable")
    ends = np.cumsum(counts)
    return [rows[ends[number] - counts[number] : ends[number]] for number in sorted(order.tolist())]


class _DecontaminationJudge(Judge):
    def __init__(self, step: Decontamination) -> None:
        self._step = step
        items = [item for one in step.against for item in one.items()]
        self._finder = Finder(items, ngram=step.ngram, shortest=step.shortest)
        if self._finder.num_short == len(items):
            raise CallError(
                f"{step.name}: no test item has {step.shortest} words; lower `shortest`, or mend `template`"
            )
        if self._finder.num_short:
            _log.warning(
                "%s: %d of %d test items are too short to look for", step.name, self._finder.num_short, len(items)
            )
        self._report: list[dict[str, Any]] = []

    def judge(self, batch: Batch) -> Verdict:
        verdict = np.full(len(batch), KEEP, np.int16)
        shown_text = -1
        for finding in self._finder.find(batch):
            removed = finding.share >= self._step.share
            if removed:
                verdict[finding.text] = 0
            elif finding.text == shown_text:
                continue
            shown_text = finding.text
            self._report.append(describe(finding, int(batch.records[finding.text]), removed))
        return verdict

    def take_report(self) -> list[dict[str, Any]]:
        lines, self._report = self._report, []
        return lines


def describe(finding: Finding, record: int, removed: bool) -> dict[str, Any]:
    """A line of the report, without the source."""
    return {
        "record": record,
        "removed": removed,
        "share": round(finding.share, 4),
        "ngram": finding.ngram,
        "item_file": finding.item.path,
        "item_record": finding.item.record,
    }
