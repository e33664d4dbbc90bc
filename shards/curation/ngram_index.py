"""Where the n-grams of many short texts (test items) occur in documents.

The hashes of all items' n-grams lie in one sorted array, 16 bytes an n-gram. In front of it stands a table of
bits, large enough that of the n-grams of an unrelated document one in sixteen or fewer gets past it, so most
of a document costs one look-up a word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.curation.words import Words

__all__ = ["Matches", "NgramIndex"]

_I64 = NDArray[np.int64]
_LARGEST_TABLE = 1 << 28


@dataclass(frozen=True)
class Matches:
    """Places where an n-gram of a text is an n-gram of an item, ordered by place, then item, all int64 [matches].

    Attributes:
        texts: which text of the batch.
        places: first word of the n-gram, counted within the text.
        items: which item.
        item_places: first word of the n-gram in the item.
    """

    texts: _I64
    places: _I64
    items: _I64
    item_places: _I64


class NgramIndex:
    """The n-grams of `items`; those of fewer than n words are found by all their words."""

    def __init__(self, items: Words, n: int) -> None:
        counts = items.counts
        lengths = sorted({min(int(count), n) for count in counts if count})
        self._tables = [_Table(items, length, n) for length in lengths]

    def find(self, words: Words) -> Matches:
        """All matches in the texts of `words`."""
        found = [table.find(words) for table in self._tables]
        columns = [np.concatenate([np.empty(0, np.int64), *column]) for column in zip(*found, strict=True)]
        places, items, item_places = columns or [np.empty(0, np.int64)] * 3
        order = np.lexsort((item_places, items, places))
        places, items, item_places = places[order], items[order], item_places[order]
        texts = words.text_of(places)
        return Matches(texts, places - words.offsets[texts], items, item_places)


class _Table:
    """The n-grams of `length` words: of all items if that is n, else of items of exactly so many words."""

    def __init__(self, items: Words, length: int, n: int) -> None:
        hashes, starts = items.ngrams(length)
        belongs = items.text_of(starts)
        if length < n:
            exact = items.counts[belongs] == length
            hashes, starts, belongs = hashes[exact], starts[exact], belongs[exact]
        order = np.argsort(hashes, kind="stable")
        self._length = length
        self._hashes, self._items = hashes[order], belongs[order]
        self._places = (starts - items.offsets[belongs])[order]
        size = min(1 << (16 * max(len(hashes), 1)).bit_length(), _LARGEST_TABLE)
        self._mask = np.uint64(size - 1)
        self._seen = np.zeros(size, np.bool_)
        self._seen[hashes & self._mask] = True

    def find(self, words: Words) -> tuple[_I64, _I64, _I64]:
        """Place among all words, item, place in the item."""
        hashes, starts = words.ngrams(self._length)
        likely = np.flatnonzero(self._seen[hashes & self._mask])
        hashes, starts = hashes[likely], starts[likely]
        low = np.searchsorted(self._hashes, hashes, side="left")
        counts = np.searchsorted(self._hashes, hashes, side="right") - low
        before = np.cumsum(counts) - counts
        rows = np.repeat(low - before, counts) + np.arange(counts.sum())
        return np.repeat(starts, counts), self._items[rows], self._places[rows]
