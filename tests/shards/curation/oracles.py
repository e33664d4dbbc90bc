"""Slow and plain versions of what curation does fast."""

from __future__ import annotations

import unicodedata
from collections import Counter

UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF))
HAN = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


def words_of(text: str) -> list[str]:
    """Normalised words, letter by letter."""
    words, current = [], ""
    for letter in unicodedata.normalize("NFKC", text):
        alone = any(first <= ord(letter) <= last for first, last in (*UNSPACED, *HAN))
        if unicodedata.category(letter)[0] not in "LMN" and not 0x20000 <= ord(letter) < 0x40000:
            words.append(current)
            current = ""
        elif alone:
            words += [current, letter]
            current = ""
        else:
            current += letter.lower()[0]
    return [word for word in (*words, current) if word]


def ngrams_of(text: str, n: int) -> list[tuple[str, ...]]:
    words = words_of(text)
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def shingles_of(text: str, n: int) -> set[tuple[str, ...]]:
    return set(ngrams_of(text, n)) or {tuple(words_of(text))}


def jaccard(a: str, b: str, n: int = 5) -> float:
    left, right = shingles_of(a, n), shingles_of(b, n)
    return len(left & right) / len(left | right)


def lcs(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence, by the textbook's table."""
    above = [0] * (len(b) + 1)
    for x in a:
        row = [0]
        for j, y in enumerate(b):
            row.append(above[j] + 1 if x == y else max(row[-1], above[j + 1]))
        above = row
    return above[-1]


def components(num: int, pairs: list[tuple[int, int]]) -> list[int]:
    """The smallest member of the component of each."""
    group = list(range(num))
    for a, b in pairs:
        low, high = sorted((group[a], group[b]))
        group = [low if one == high else one for one in group]
    return group


def top_ngram_share(text: str, n: int) -> float:
    counts = Counter(ngrams_of(text, n))
    often = [(count, sum(map(len, gram))) for gram, count in counts.items() if count > 1]
    total = sum(map(len, words_of(text)))
    return max(often)[0] * max(often)[1] / total if often else 0.0


def duplicate_ngram_share(text: str, n: int) -> float:
    words, seen, inside = words_of(text), set(), set()
    for place, gram in enumerate(ngrams_of(text, n)):
        if gram in seen:
            inside |= set(range(place, place + n))
        seen.add(gram)
    return sum(len(words[place]) for place in inside) / max(sum(map(len, words)), 1)
