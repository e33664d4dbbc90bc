"""The words of texts as numbers: what duplicates, n-grams and repetition are found by.

Normalisation. Text in NFKC and lower case; a word is a run of letters, digits and combining marks, all else
separates. Scripts written without spaces (Han, kana, Thai, Lao, Burmese, Khmer) make a word of each character.
Of a run longer than `LONGEST` characters the first `LONGEST` count.

A word is told by a 64-bit hash: a polynomial of its characters modulo 2^64, mixed. Sums of such polynomials
are differences of one running total, so words of a megabyte, and n-grams of its words, take a handful of
passes of NumPy and no loop over words. Two different words, or n-grams, agree with a chance of about 2^-64.
Equal texts give equal hashes on every machine, as long as Python's Unicode tables have the same version
(`VERSIONS`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

__all__ = ["LONGEST", "VERSIONS", "Words", "hash_rows", "read_words", "spell"]

VERSIONS = {"words": 1, "unicode": unicodedata.unidata_version}
LONGEST = 255

_PIECE = 1 << 16  # characters looked at together: what is made of them stays in the processor's cache
_BASE = 0x9E3779B97F4A7C15
_SINGLE = np.uint32(1 << 31)
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF))
_HAN = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))

_U64 = NDArray[np.uint64]
_I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Words:
    """Words of several texts, end to end.

    Attributes:
        hashes: uint64 [words].
        lengths: int64 [words], characters of each.
        offsets: int64 [texts + 1]; the words of text i are those from offsets[i] to before offsets[i + 1].
    """

    hashes: _U64
    lengths: _I64
    offsets: _I64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> _I64:
        """Words of each text, int64 [texts]."""
        return np.diff(self.offsets)

    def keep(self, mask: NDArray[np.bool_]) -> Words:
        """Those of the texts where `mask` [texts] is true."""
        counts = self.counts
        each = np.repeat(mask, counts)
        return Words(self.hashes[each], self.lengths[each], _offsets(counts[mask]))

    def ngrams(self, n: int, *, whole: bool = False) -> tuple[_U64, _I64]:
        """Hashes of all n-grams, text after text, and where each begins: uint64 [n-grams], int64 [n-grams].

        None reaches over the border of two texts. `whole`: a text of fewer than n words, but not of none, has
        one n-gram, all its words.
        """
        ends = np.repeat(self.offsets[1:], self.counts)
        starts = np.arange(len(self.hashes), dtype=np.int64)
        fits = starts + n <= ends
        if whole:
            fits[self.offsets[:-1][self.counts > 0]] = True
        starts = starts[fits]
        ends = np.minimum(starts + n, ends[fits])
        return _hash_runs(self.hashes, starts, ends, n), starts

    def text_of(self, positions: _I64) -> _I64:
        """The text that each word position belongs to."""
        return np.searchsorted(self.offsets, positions, side="right") - 1


def read_words(texts: Sequence[str]) -> Words:
    """The words of `texts`."""
    normal = [text if text.isascii() else unicodedata.normalize("NFKC", text) for text in texts]
    hashes, starts, lengths = [], [], []
    before = 0
    for joined in _gather(normal):
        for begin, end in _pieces(joined):
            piece_hashes, piece_starts, piece_lengths = _read(joined[begin:end])
            hashes.append(piece_hashes)
            starts.append(piece_starts + (before + begin))
            lengths.append(piece_lengths)
        before += len(joined) + 1
    borders = np.array(list(accumulate((len(text) + 1 for text in normal), initial=0)), np.int64)
    if not hashes:
        return Words(np.empty(0, np.uint64), np.empty(0, np.int64), np.zeros(len(borders), np.int64))
    offsets = np.searchsorted(np.concatenate(starts), borders)
    return Words(np.concatenate(hashes), np.concatenate(lengths), offsets.astype(np.int64))


def spell(text: str) -> list[str]:
    """The words of one text as text; the word i of `read_words([text])` is the i-th of them."""
    normal = text if text.isascii() else unicodedata.normalize("NFKC", text)
    words = []
    for begin, end in _pieces(normal):
        codes = _codes(normal[begin:end])
        starts, ends = _borders(codes)
        plain = (codes & ~_SINGLE).astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
        words += [plain[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    return words


def hash_rows(rows: NDArray[np.uint32]) -> _U64:
    """One hash for each row: uint32 [n, k] -> uint64 [n]."""
    powers, _ = _powers(max(rows.shape[1], 1))
    return _mix((rows.astype(np.uint64) + np.uint64(1)) @ powers[: rows.shape[1]])


def _gather(texts: Sequence[str]) -> Iterator[str]:
    """All texts, a line break between two, in runs of about a piece; one longer than that stands alone."""
    run: list[str] = []
    size = 0
    for text in texts:
        if run and size + len(text) >= _PIECE:
            yield "\n".join(run)
            run, size = [], 0
        run.append(text)
        size += len(text) + 1
    if run:
        yield "\n".join(run)


def _pieces(text: str) -> list[tuple[int, int]]:
    """Ranges of at most `_PIECE` characters that cut no word, except of a run longer than that."""
    ranges, start = [], 0
    while start < len(text):
        end = min(start + _PIECE, len(text))
        if end < len(text):
            end = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end)) + 1 or end
        ranges.append((start, end))
        start = end
    return ranges


def _codes(text: str) -> NDArray[np.uint32]:
    """Lower-case code point of each character, with `_SINGLE` where it is a word of its own; 0 where it separates."""
    if text.isascii():
        return _table().take(np.frombuffer(text.encode("ascii"), np.uint8))
    return _table().take(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4"))


def _borders(codes: NDArray[np.uint32]) -> tuple[_I64, _I64]:
    """Where words start and end."""
    inside = np.zeros(len(codes) + 2, np.bool_)
    np.not_equal(codes, 0, out=inside[1:-1])
    change = inside[1:] != inside[:-1]
    if (codes >= _SINGLE).any():
        single = np.zeros(len(codes) + 2, np.bool_)
        np.greater_equal(codes, _SINGLE, out=single[1:-1])
        apart = single[1:] | single[:-1]
        starts = np.flatnonzero((change | apart) & inside[1:])
        return starts, np.flatnonzero((change | apart) & inside[:-1])
    borders = np.flatnonzero(change)
    return borders[::2], borders[1::2]


def _read(text: str) -> tuple[_U64, _I64, _I64]:
    codes = _codes(text)
    starts, ends = _borders(codes)
    lengths = ends - starts
    return _hash_runs(codes, starts, np.minimum(ends, starts + LONGEST), LONGEST), starts, lengths


def _hash_runs(values: NDArray[np.uint64] | NDArray[np.uint32], starts: _I64, ends: _I64, longest: int) -> _U64:
    """Hash of values[start:end] for each pair; `starts` ascend, no run is longer than `longest`."""
    if len(values) <= _PIECE + longest:
        return _hash_piece(values, starts, ends)
    cuts = np.searchsorted(starts, np.arange(0, len(values), _PIECE))
    hashes = np.empty(len(starts), np.uint64)
    for number, (first, last) in enumerate(zip(cuts, [*cuts[1:], len(starts)], strict=True)):
        begin = number * _PIECE
        runs = starts[first:last] - begin, ends[first:last] - begin
        hashes[first:last] = _hash_piece(values[begin : begin + _PIECE + longest], *runs)
    return hashes


def _hash_piece(values: NDArray[np.uint64] | NDArray[np.uint32], starts: _I64, ends: _I64) -> _U64:
    powers, inverses = _powers(len(values))
    totals = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * powers[: len(values)], out=totals[1:])
    return _mix((totals[ends] - totals[starts]) * inverses[starts])


def _mix(values: _U64) -> _U64:
    """splitmix64's last step: every bit of the result depends on every bit of the value."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _powers(num: int) -> tuple[_U64, _U64]:
    """The first powers of the base and of its inverse modulo 2^64, at least `num` of each."""
    return _powers_of_size(1 << max(num, 1 << 12).bit_length())


@cache
def _powers_of_size(size: int) -> tuple[_U64, _U64]:
    inverse = pow(_BASE, -1, 1 << 64)
    tables = []
    for base in (_BASE, inverse):
        table = np.full(size, base, np.uint64)
        table[0] = 1
        tables.append(np.cumprod(table, dtype=np.uint64))
    return tables[0], tables[1]


@cache
def _table() -> NDArray[np.uint32]:
    table = np.zeros(0x110000, np.uint32)
    for code in (*range(0x20000), *range(0xE0100, 0xE01F0)):
        letter = chr(code)
        if unicodedata.category(letter)[0] in "LMN":
            table[code] = ord(letter.lower()[0])
    for first, last in (*_UNSPACED, *_HAN):
        table[first : last + 1] = np.where(
            (table[first : last + 1] > 0) | (first >= 0x20000),
            np.arange(first, last + 1, dtype=np.uint32) | _SINGLE,
            0,
        )
    return table


def _offsets(counts: _I64) -> _I64:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
