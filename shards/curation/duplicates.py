"""Duplicates over a whole corpus: what stands for a document, and which documents go.

Exact duplicates have the same text in Unicode NFC with every run of white space made one space (case and
punctuation count). They are told by BLAKE2b of that text, 128 bits.

Near duplicates share 5-grams of words (`shards.curation.words`: case and punctuation do not count; a document of
fewer words has one, all of them). Their Jaccard similarity is estimated by MinHash: the share of equal numbers
in signatures of `permutations` numbers (rensa's R-MinHash; standard error sqrt(t (1 - t) / permutations), 0.035
for 0.8 and 128). Pairs are looked for by bands of `rows` numbers that agree as a whole (LSH), compared in full,
and joined when the estimate reaches the threshold; of each connected component the first document stays. Rows
are as many as they can be with a chance of at least 99% that a pair just at the threshold shares a band.

In a band, a document is compared with the `WINDOW` following ones that have the same key, in corpus order.
So only of more than `WINDOW` documents that agree in a band some pairs are not looked at there; where
documents are that alike they are joined through others, or through another band.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.curation.batch import Batch
from shards.curation.settings import Section
from shards.curation.words import VERSIONS, hash_rows

__all__ = ["WINDOW", "ExactDuplicates", "NearDuplicates", "find_exact", "find_near", "hash_texts"]

WINDOW = 64
_PAIRS = 1 << 16  # pairs compared at once: two signatures each
_SEED = 1  # of MinHash; no setting, since no other is better

_U64 = NDArray[np.uint64]
_I64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ExactDuplicates:
    """The step; it has no settings."""

    name: str

    @classmethod
    def parse(cls, section: Section, name: str) -> ExactDuplicates:
        """From `{}`."""
        return cls(name=name)

    def parameters(self) -> dict[str, Any]:
        """The version of the normalisation."""
        return {"version": 1, "unicode": VERSIONS["unicode"]}


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """The step; `bands` x `rows` numbers of a signature are used for looking, all for comparing."""

    name: str
    threshold: float
    ngram: int
    permutations: int

    @classmethod
    def parse(cls, section: Section, name: str) -> NearDuplicates:
        """From `{threshold: 0.8, ngram: 5, permutations: 128}`."""
        return cls(
            name=name,
            threshold=section.number("threshold", 0.8, low=0.1, high=1),
            ngram=section.integer("ngram", 5, low=1, high=100),
            permutations=section.integer("permutations", 128, low=16, high=1024),
        )

    @property
    def rows(self) -> int:
        """Numbers in a band."""
        good = [r for r in range(1, self.permutations + 1) if self._chance(r) >= 0.99]
        return max(good, default=1)

    @property
    def bands(self) -> int:
        """Bands of a signature."""
        return self.permutations // self.rows

    def _chance(self, rows: int) -> float:
        """That two documents just at the threshold agree in a band."""
        return 1 - (1 - self.threshold**rows) ** (self.permutations // rows)

    def parameters(self) -> dict[str, Any]:
        """Settings and versions."""
        from rensa import RMinHash

        return {
            "threshold": self.threshold,
            "ngram": self.ngram,
            "permutations": self.permutations,
            "rows": self.rows,
            "window": WINDOW,
            "version": 1,
            **VERSIONS,
            "rensa": f"{version('rensa')}, algorithm {RMinHash.ALGORITHM_VERSION}",
        }

    def sign(self, batch: Batch) -> NDArray[np.uint32]:
        """Signatures, uint32 [documents, permutations]."""
        from rensa import RMinHash

        shingles, starts = batch.words.ngrams(self.ngram, whole=True)
        borders = np.searchsorted(starts, batch.words.offsets).astype(np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(shingles, borders, self.permutations, _SEED)
        signatures = np.array(matrix.to_rows(), np.uint32).reshape(len(batch), self.permutations)
        wordless = np.flatnonzero(batch.words.counts == 0)  # `!!!` and `???` have the same words, but are not alike
        for row in wordless.tolist():
            own = hash_texts([batch.texts[row]]).view(np.uint32)
            signatures[row] = np.resize(own, self.permutations)
        return signatures

    def band_keys(self, signatures: NDArray[np.uint32]) -> _U64:
        """What must be equal for two documents to be compared, uint64 [bands, documents]."""
        rows = self.rows
        cut = [signatures[:, band * rows : (band + 1) * rows] for band in range(self.bands)]
        return np.stack([hash_rows(np.ascontiguousarray(band)) for band in cut])


def hash_texts(texts: list[str]) -> _U64:
    """128 bits for each text, equal for exact duplicates: uint64 [texts, 2]."""
    digests = b"".join(hashlib.blake2b(_normal(text).encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, "<u8").reshape(-1, 2)


def _normal(text: str) -> str:
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())


def find_exact(hashes: _U64) -> NDArray[np.bool_]:
    """Which of uint64 [n, 2] stood before: bool [n]. Takes about 52 bytes a document, hashes included."""
    first = np.ascontiguousarray(hashes[:, 0])
    order = np.argsort(first, kind="stable")
    same = (first[order[1:]] == first[order[:-1]]) & (hashes[order[1:], 1] == hashes[order[:-1], 1])
    repeated = np.zeros(len(hashes), np.bool_)
    repeated[order[1:][same]] = True
    return repeated


def find_near(
    bands: Iterator[_U64], fetch: Callable[[_I64], NDArray[np.uint32]], num: int, threshold: float
) -> NDArray[np.bool_]:
    """Which of `num` documents are near duplicates of an earlier one, bool [num].

    Takes about 60 bytes a document (8 for each of six arrays, and room to sort), and `fetch`'s rows of `_PAIRS` pairs.

    Args:
        bands: keys of each band in turn, uint64 [num].
        fetch: the signatures of documents, int64 [k] ascending and all different -> uint32 [k, permutations].
        num: documents.
        threshold: least share of equal numbers.
    """
    parent = np.arange(num)
    for keys in bands:
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        for shift in range(1, WINDOW + 1):
            places = np.flatnonzero(ordered[shift:] == ordered[:-shift])
            if not len(places):
                break
            for start in range(0, len(places), _PAIRS):
                left = order[places[start : start + _PAIRS]]
                right = order[places[start : start + _PAIRS] + shift]
                apart = _roots(parent, left) != _roots(parent, right)
                left, right = left[apart], right[apart]
                alike = _similarity(fetch, left, right) >= threshold
                _join(parent, left[alike], right[alike])
    return np.not_equal(parent, np.arange(num))


def _similarity(fetch: Callable[[_I64], NDArray[np.uint32]], left: _I64, right: _I64) -> NDArray[np.float64]:
    if not len(left):
        return np.empty(0)
    rows, places = np.unique(np.concatenate([left, right]), return_inverse=True)
    signatures = fetch(rows)
    equal = signatures[places[: len(left)]] == signatures[places[len(left) :]]
    means: NDArray[np.float64] = equal.mean(axis=1)
    return means


def _roots(parent: _I64, nodes: _I64) -> _I64:
    while True:
        above = parent[nodes]
        if np.array_equal(above, nodes):
            return nodes
        nodes = above


def _join(parent: _I64, left: _I64, right: _I64) -> None:
    """Make one component of both ends of each pair; a root is the smallest of its component."""
    while True:
        left, right = _roots(parent, left), _roots(parent, right)
        apart = left != right
        if not apart.any():
            return
        left, right = left[apart], right[apart]
        np.minimum.at(parent, np.maximum(left, right), np.minimum(left, right))
