"""Repetition in documents by the n-grams of their words, for a batch at once.

Both measures are those of Gopher (Rae et al. 2021, arXiv 2112.11446, appendix A.1.1), as shares of the
characters of all words of the document:

    top n-gram        the characters of the most frequent n-gram, times how often it stands there; of equally
                      frequent ones the longest; 0 if none stands there twice
    duplicate n-grams the characters of words that lie in an n-gram which stood in the document before,
                      each counted once however many such n-grams it lies in
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shards.curation.words import Words

__all__ = ["share_of_duplicate_ngrams", "share_of_top_ngram"]

_F64 = NDArray[np.float64]
_I64 = NDArray[np.int64]
_HASH_BITS = np.uint64(44)  # the rest tells up to 2^20 documents of a batch apart


def share_of_top_ngram(words: Words, n: int) -> _F64:
    """Share of the characters of each text in its most frequent n-gram, float64 [texts]."""
    keys, starts = _keys(words, n)
    shares = np.zeros(len(words))
    if not len(keys):
        return shares
    order = np.argsort(keys)  # whichever of equal n-grams comes first: they are equally long
    first = _firsts(keys[order])
    counts = np.diff(np.append(np.flatnonzero(first), len(keys)))
    begins = starts[order][first]
    totals = _totals(words)
    characters = totals[begins + n] - totals[begins]
    often = counts > 1
    texts, counts, characters = words.text_of(begins[often]), counts[often], characters[often]
    best = np.lexsort((characters, counts, texts))
    last = np.append(texts[best][1:] != texts[best][:-1], True)[: len(best)]
    chosen = best[last]
    shares[texts[chosen]] = counts[chosen] * characters[chosen]
    return _shares(shares, _characters(words, totals))


def share_of_duplicate_ngrams(words: Words, n: int) -> _F64:
    """Share of the characters of each text in n-grams that stood in it before, float64 [texts]."""
    keys, starts = _keys(words, n)
    shares = np.zeros(len(words))
    # Most texts repeat no long n-gram at all; a plain sort, much faster than one that keeps places, tells which.
    ordered = np.sort(keys)
    repeated = np.zeros(len(words), np.bool_)
    repeated[(ordered[1:][ordered[1:] == ordered[:-1]] >> _HASH_BITS).astype(np.int64)] = True
    if not repeated.any():
        return shares
    some = repeated[(keys >> _HASH_BITS).astype(np.int64)]
    keys, starts = keys[some], starts[some]
    order = np.argsort(keys, kind="stable")
    again = np.sort(starts[order][~_firsts(keys[order])])
    covered = np.zeros(len(words.hashes) + 1, np.int64)
    np.add.at(covered, again, 1)
    np.add.at(covered, again + n, -1)
    inside = np.cumsum(covered[:-1]) > 0
    totals = np.concatenate([np.zeros(1, np.int64), np.cumsum(words.lengths * inside)])
    return _shares(_characters(words, totals), _characters(words, _totals(words)))


def _keys(words: Words, n: int) -> tuple[NDArray[np.uint64], _I64]:
    hashes, starts = words.ngrams(n)
    texts = np.repeat(np.arange(len(words), dtype=np.uint64), np.maximum(words.counts - n + 1, 0))
    return (texts << _HASH_BITS) | (hashes >> (np.uint64(64) - _HASH_BITS)), starts


def _firsts(ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return first


def _totals(words: Words) -> _I64:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(words.lengths)])


def _shares(parts: _F64 | _I64, wholes: _I64) -> _F64:
    return np.divide(parts, np.maximum(wholes, 1), dtype=np.float64)


def _characters(words: Words, totals: _I64) -> _I64:
    return totals.take(words.offsets[1:]) - totals.take(words.offsets[:-1])
