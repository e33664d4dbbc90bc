"""The published quality rules: what each measures, its bounds, and where they come from.

A document stays when low <= measure <= high. Sources:

    gopher      Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher",
                arXiv 2112.11446, appendix A.1.1 ("quality filtering", and table A1 for repetition)
    c4          Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.2; only its rules for
                whole pages: documents are removed here, never changed
    fineweb     Penedo et al. 2024, "The FineWeb Datasets", arXiv 2406.17557, section 3.5

Words here are what white space separates; those of the rules on n-grams are `shards.curation.words`'. Lines
are those with anything in them, without white space around; paragraphs are what blank lines separate.

    rule                             low  high     source   measures
    words                             50  100000   gopher   words
    mean_word_length                   3  10       gopher   mean characters of a word
    hash_ratio                            0.1      gopher   `#` per word
    ellipsis_ratio                        0.1      gopher   `...` and `…` per word
    bullet_lines                          0.9      gopher   share of lines that begin with a bullet (• or -)
    ellipsis_lines                        0.3      gopher   share of lines that end with an ellipsis
    alphabetic_words                 0.8           gopher   share of words with a letter in them
    stop_words                         2           gopher   how many of the, be, to, of, and, that, have, with occur
    duplicate_lines                       0.30     gopher   share of lines that stood there before
    duplicate_paragraphs                  0.30     gopher   the same of paragraphs
    duplicate_line_characters             0.20     gopher   share of characters (of lines) in such lines
    duplicate_paragraph_characters        0.20     gopher   the same of paragraphs
    top_2_gram .. top_4_gram              0.20 0.18 0.16    gopher   `shards.curation.repetition`
    duplicate_5_grams .. _10_grams        0.15 0.14 0.13 0.12 0.11 0.10    gopher   `shards.curation.repetition`
    sentences                          5           c4       places where . ! or ? ends a word (quotes may follow)
    lorem_ipsum                           0        c4       1 where "lorem ipsum" occurs in any case
    curly_brackets                        0        c4       how many `{`
    punctuated_lines                 0.12          fineweb  share of lines that end in . ! ? or a quote
    short_lines                           0.67     fineweb  share of lines of at most 30 characters
    newline_ratio                         0.3      fineweb  line breaks per word
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from shards.curation.batch import Batch
from shards.curation.repetition import share_of_duplicate_ngrams, share_of_top_ngram

__all__ = ["RULES", "Pages", "Rule"]

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})

_LETTER = re.compile(r"[^\W\d_]")
_PARAGRAPHS = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"[.!?][\"'”’)]*(?=\s|$)")
_ENDINGS = (".", "!", "?", '"', "'", "”", "’")


class Page:
    """A document and the pieces that rules are about, cut when first asked for."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def words(self) -> list[str]:
        return self.text.split()

    @cached_property
    def lines(self) -> list[str]:
        return [line for line in map(str.strip, self.text.splitlines()) if line]

    @cached_property
    def paragraphs(self) -> list[str]:
        return [piece for piece in map(str.strip, _PARAGRAPHS.split(self.text)) if piece]


class Pages:
    """The documents of a batch; `pages` and `batch.words` hold the same ones."""

    def __init__(self, batch: Batch, pages: Sequence[Page] | None = None) -> None:
        self.batch = batch
        self.pages = [Page(text) for text in batch.texts] if pages is None else pages

    def keep(self, mask: NDArray[np.bool_]) -> Pages:
        """Those where `mask` is true."""
        if mask.all():
            return self
        return Pages(self.batch.keep(mask), [page for page, kept in zip(self.pages, mask, strict=True) if kept])


@dataclass(frozen=True)
class Rule:
    """A measure with its published bounds.

    Attributes:
        measure: float64 [documents].
        low, high: bounds, inclusive; None for none.
        source: as in this module's list.
        under: a rule whose measure is never smaller, so that where that one is within `high` this one is too.
    """

    measure: Callable[[Pages], NDArray[np.float64]]
    low: float | None
    high: float | None
    source: str
    under: str | None = None


def _each(measure: Callable[[Page], float]) -> Callable[[Pages], NDArray[np.float64]]:
    return lambda pages: np.array([measure(page) for page in pages.pages], np.float64)


def _mean_word_length(page: Page) -> float:
    return sum(map(len, page.words)) / len(page.words)


def _per_word(*marks: str) -> Callable[[Page], float]:
    return lambda page: sum(map(page.text.count, marks)) / len(page.words)


def _lines_that(test: Callable[[str], bool]) -> Callable[[Page], float]:
    return lambda page: sum(map(test, page.lines)) / len(page.lines)


def _alphabetic_words(page: Page) -> float:
    odd = [word for word in page.words if not word.isalpha()]  # most words are letters and nothing else
    return 1 - sum(1 for word in odd if not _LETTER.search(word)) / len(page.words)


def _stop_words(page: Page) -> float:
    return len(STOP_WORDS.intersection(map(str.lower, page.words)))


def _repeated(pieces: list[str]) -> float:
    return 1 - len(set(pieces)) / len(pieces)


def _repeated_characters(pieces: list[str]) -> float:
    return 1 - sum(map(len, set(pieces))) / sum(map(len, pieces))


def _ngrams(share: Callable[..., NDArray[np.float64]], n: int) -> Callable[[Pages], NDArray[np.float64]]:
    return lambda pages: partial(share, n=n)(pages.batch.words)


RULES: dict[str, Rule] = {
    "words": Rule(_each(lambda page: len(page.words)), 50, 100_000, "gopher"),
    "mean_word_length": Rule(_each(_mean_word_length), 3, 10, "gopher"),
    "hash_ratio": Rule(_each(_per_word("#")), None, 0.1, "gopher"),
    "ellipsis_ratio": Rule(_each(_per_word("...", "…")), None, 0.1, "gopher"),
    "bullet_lines": Rule(_each(_lines_that(lambda line: line.startswith(("•", "-")))), None, 0.9, "gopher"),
    "ellipsis_lines": Rule(_each(_lines_that(lambda line: line.endswith(("...", "…")))), None, 0.3, "gopher"),
    "alphabetic_words": Rule(_each(_alphabetic_words), 0.8, None, "gopher"),
    "stop_words": Rule(_each(_stop_words), 2, None, "gopher"),
    "duplicate_lines": Rule(_each(lambda page: _repeated(page.lines)), None, 0.30, "gopher"),
    "duplicate_paragraphs": Rule(_each(lambda page: _repeated(page.paragraphs)), None, 0.30, "gopher"),
    "duplicate_line_characters": Rule(_each(lambda page: _repeated_characters(page.lines)), None, 0.20, "gopher"),
    "duplicate_paragraph_characters": Rule(
        _each(lambda page: _repeated_characters(page.paragraphs)), None, 0.20, "gopher"
    ),
    **{
        f"top_{n}_gram": Rule(_ngrams(share_of_top_ngram, n), None, high, "gopher")
        for n, high in ((2, 0.20), (3, 0.18), (4, 0.16))
    },
    **{
        f"duplicate_{n}_grams": Rule(
            _ngrams(share_of_duplicate_ngrams, n), None, high, "gopher", under=f"duplicate_{n - 1}_grams"
        )
        for n, high in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    },
    "sentences": Rule(_each(lambda page: len(_SENTENCE.findall(page.text))), 5, None, "c4"),
    "lorem_ipsum": Rule(_each(lambda page: "lorem ipsum" in page.text.lower()), None, 0, "c4"),
    "curly_brackets": Rule(_each(lambda page: page.text.count("{")), None, 0, "c4"),
    "punctuated_lines": Rule(_each(_lines_that(lambda line: line.endswith(_ENDINGS))), 0.12, None, "fineweb"),
    "short_lines": Rule(_each(_lines_that(lambda line: len(line) <= 30)), None, 0.67, "fineweb"),
    "newline_ratio": Rule(_each(_per_word("\n")), None, 0.3, "fineweb"),
}
