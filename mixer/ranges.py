"""Sets of whole numbers as sorted, disjoint half-open ranges: which samples, or which shards.

Written as people write them, `[17, [100, 200]]`, and kept in one canonical form, `[[17, 18], [100, 200]]`, so that
equal sets are equal values. Standard library and NumPy only.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_I64 = NDArray[np.int64]

MAX_NUMBER = 2**62


class Ranges:
    """An immutable set of numbers. `starts` and `ends` [num_ranges], ascending, disjoint, none empty or adjacent."""

    def __init__(self, ranges: Iterable[Sequence[int]] = ()) -> None:
        merged: list[list[int]] = []
        for start, end in sorted((int(start), int(end)) for start, end in ranges if start < end):
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
        self.starts: _I64 = np.array([start for start, _ in merged], np.int64)
        self.ends: _I64 = np.array([end for _, end in merged], np.int64)
        self._before = np.concatenate([[0], np.cumsum(self.ends - self.starts)])  # numbers in the ranges before each

    def __len__(self) -> int:
        """How many numbers."""
        return int(self._before[-1])

    def __contains__(self, number: int) -> bool:
        return int(self.count_below(np.array([number, number + 1])) @ [-1, 1]) == 1

    def to_list(self) -> list[list[int]]:
        """The canonical form: [[start, end), ...]."""
        return [[int(start), int(end)] for start, end in zip(self.starts, self.ends, strict=True)]

    def count_below(self, numbers: _I64) -> _I64:
        """How many of the set are below each of `numbers` [n]."""
        index = np.searchsorted(self.starts, numbers, side="right") - 1
        inside = np.minimum(numbers, self.ends[index]) - self.starts[index] if len(self.starts) else 0
        counts: _I64 = np.where(index >= 0, self._before[index] + inside, 0)
        return counts

    def union(self, other: "Ranges") -> "Ranges":
        return Ranges([*self.to_list(), *other.to_list()])

    def complement(self, end: int) -> "Ranges":
        """What of [0, end) is not in the set."""
        edges = [0, *(edge for pair in self.to_list() for edge in pair), end]
        return Ranges(zip(edges[::2], (min(edge, end) for edge in edges[1::2]), strict=True))

    def every_other(self, parity: int) -> "Ranges":
        """The k for which 2·k + parity is in the set."""
        return Ranges(zip((self.starts + 1 - parity) // 2, (self.ends + 1 - parity) // 2, strict=True))

    def within(self, start: int, end: int) -> _I64:
        """The numbers of the set that lie in [start, end), ascending."""
        low, high = self.count_below(np.array([start, end], np.int64)).tolist()
        ranks = np.arange(low, high)
        index = np.searchsorted(self._before, ranks, side="right") - 1
        numbers: _I64 = self.starts[index] + ranks - self._before[index] if high > low else ranks
        return numbers


def parse_ranges(obj: Any, place: str, problems: list[str]) -> list[list[int]]:
    """A list of numbers and [start, end) pairs in canonical form; what is wrong goes to `problems` with its place."""
    if not isinstance(obj, list) or not obj:
        problems.append(
            f"expected a list of numbers or [start, end) pairs like [17, [100, 200]], found {obj!r} @ {place}"
        )
        return []
    pairs: list[list[int]] = []
    for index, item in enumerate(obj):
        pair = [item, item + 1] if _is_number(item) else item
        if isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair)) and pair[0] < pair[1]:
            pairs.append(pair)
        else:
            problems.append(f"expected a number or [start, end) with start < end, found {item!r} @ {place}[{index}]")
    return Ranges(pairs).to_list()


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER
