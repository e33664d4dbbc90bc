"""Within a stretch of constant weights: which corpus stands at which draw, exact at every prefix, by random access.

A stretch begins with the errors (target minus drawn) that earlier stretches left. A binary tree over the corpora of
non-zero weight, Huffman-shaped, splits the draws: of the first m draws that reach a node, floor((a·m + φ) / b) go left,
where a/b is the left share. Such a split keeps the error of its left side within half a sample of a level that φ sets.
Three things keep errors from adding up over many stretches (docs/DETERMINISM.md has what was tried, and the figures):

- the level: what the corpora in use owe, or are owed by, those out of use stays as it is while the stretch lasts; it is
  spread over them half by weight and half evenly, so that neither a heavy nor a light corpus carries all of it;
- what a split cannot absorb is left to its lighter side, and the nodes above do not count it;
- the first few draws, the *head* of the stretch, each go to the corpus that is furthest behind, until all splits can
  absorb what is left, but at most `MAX_HEAD` of them. The head is known when the stretch is built.

Integers throughout: errors are in units of 1/10^9 sample. Scalar arithmetic is Python's (any size); the vectorised part
works on draws relative to the start of a batch, so it never leaves int64. A schedule may have many thousand stretches,
each of which begins with what the one before it left, so they are built one after the other: hence flat lists and loops
here, instead of nodes and recursion.
"""

from collections.abc import Mapping
from functools import cached_property
from heapq import heapify, heappop, heapreplace

import numpy as np
from numpy.typing import NDArray

from mixer.weights import UNIT

MAX_HEAD = 32
HALF = UNIT // 2

_I64 = NDArray[np.int64]


Split = tuple[int, int, int, int, int, int]
"""(left, right, share, total, left_size, right_size): of `total` parts, `share` go to `left`. The sides are corpora or
splits, corpus c being c and the i-th split num_corpora + i, with `left_size` and `right_size` corpora below. Tuples of
numbers cost the garbage collector nothing, and there may be a hundred thousand of them.
"""


class Stretch:
    """Draws of constant weights that begin with `errors` carried in.

    Args:
        weights: corpus index → weight > 0 in parts per 10^9, summing to 10^9.
        errors: target minus drawn of every corpus [num_corpora] at the start, in 1/10^9 samples.
        num_draws: length of the stretch, in draws.
    """

    def __init__(self, weights: Mapping[int, int], errors: list[int], num_draws: int) -> None:
        self.weights = weights
        self.num_corpora = len(errors)
        self._splits, self._root = _huffman(weights, self.num_corpora)
        self.head, self._offsets = self._settle(list(errors), min(MAX_HEAD, num_draws))

    def counts(self, num_draws: int) -> list[int]:
        """Of the first `num_draws` draws, how many go to each corpus [num_corpora]."""
        arrived = [0] * (self.num_corpora + len(self._splits))
        arrived[self._root] = max(num_draws - len(self.head), 0)
        index = len(self._splits)
        for left, right, share, total, _, _ in reversed(self._splits):
            index -= 1
            draws = arrived[self.num_corpora + index]
            arrived[left] = (share * draws + self._offsets[index]) // total
            arrived[right] = draws - arrived[left]
        for corpus in self.head[:num_draws]:
            arrived[corpus] += 1
        return arrived[: self.num_corpora]

    def pick(self, start: int, num_draws: int) -> list[tuple[int, int, _I64]]:
        """Who stands at the draws [start, start + num_draws): per corpus that does, (corpus, rank, places).

        `places` are the offsets from `start`, ascending; `rank` is the how-manieth draw of its corpus within this
        stretch the first of them is, from 0, and the others follow one by one.
        """
        in_head = self.head[start : start + num_draws]
        rest = np.arange(len(in_head), num_draws)
        picked = self._pick_from_tree(max(start - len(self.head), 0), rest)
        if not self.head:
            return picked
        by_corpus = {corpus: (rank + self.head.count(corpus), places) for corpus, rank, places in picked}
        for corpus in set(in_head):
            places = np.array([place for place, c in enumerate(in_head) if c == corpus])
            following = by_corpus[corpus][1] if corpus in by_corpus else rest[:0]
            by_corpus[corpus] = (self.head[:start].count(corpus), np.concatenate([places, following]))
        return [(corpus, rank, places) for corpus, (rank, places) in by_corpus.items()]

    def draw_of(self, corpus: int, rank: int) -> int:
        """The draw at which `corpus` (of non-zero weight) is drawn for the rank-th time, counted from 0."""
        in_head = [index for index, c in enumerate(self.head) if c == corpus]
        if rank < len(in_head):
            return in_head[rank]
        draw, side = rank - len(in_head), corpus
        for index, (left, right, share, total, _, _) in enumerate(self._splits):
            if side == left:  # the first draw but one of which draw + 1 go left
                draw = -((self._offsets[index] - (draw + 1) * total) // share) - 1
            elif side == right:
                draw = (draw * total + self._offsets[index]) // (total - share)
            else:
                continue
            side = self.num_corpora + index
        return len(self.head) + draw

    @cached_property
    def arrays(self) -> tuple[_I64, int, _I64]:
        """For `mixer.kernels`: share, total, φ, left, right of each split [num_splits, 5], the root, and the head."""
        rows = [
            (share, total, offset, left, right)
            for (left, right, share, total, _, _), offset in zip(self._splits, self._offsets, strict=True)
        ]
        return np.array(rows, np.int64).reshape(-1, 5), self._root, np.array(self.head, np.int64)

    def _pick_from_tree(self, start: int, places: _I64) -> list[tuple[int, int, _I64]]:
        """Distribute the draws [start, start + len(places)) behind the head over the places where they stand."""
        arrived = {self._root: (start, places)}
        for index in reversed(range(len(self._splits))):
            first, places = arrived.pop(self.num_corpora + index)
            left, right, share, total, _, _ = self._splits[index]
            first_left, carry = divmod(share * first + self._offsets[index], total)
            left_counts = (np.arange(places.size + 1) * share + carry) // total
            goes_left = left_counts[1:] > left_counts[:-1]
            arrived[left] = (first_left, places[goes_left])
            arrived[right] = (first - first_left, places[~goes_left])
        return [(corpus, rank, places) for corpus, (rank, places) in arrived.items() if places.size]

    def _settle(self, errors: list[int], max_head: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The head, draws by largest deficit until the tree can absorb all errors, and then φ of each split."""
        head: list[int] = []
        while (offsets := self._offsets_for(errors, is_last=len(head) == max_head)) is None:
            furthest, most = -1, 0
            for corpus, weight in self.weights.items():
                errors[corpus] += weight
                error = errors[corpus]
                if furthest < 0 or error > most or (error == most and corpus < furthest):
                    furthest, most = corpus, error
            errors[furthest] -= UNIT
            head.append(furthest)
        return tuple(head), offsets

    def _offsets_for(self, errors: list[int], *, is_last: bool) -> tuple[int, ...] | None:
        """φ of each split; None if one of them cannot absorb its error and more draws may help."""
        below, sides = _gather(self._splits, errors)
        standing = [0] * len(below)  # what is kept in sum below each
        standing[self._root] = below[self._root]
        offsets = [0] * len(sides)
        index = len(offsets)
        for left, right, share, total, left_size, right_size in reversed(self._splits):
            index -= 1
            kept = standing[self.num_corpora + index]
            error, both = sides[index]
            level = (kept * share // total + kept * left_size // (left_size + right_size)) // 2
            error -= level + share * (both - kept) // total
            if not -HALF <= error <= HALF:
                if not is_last:
                    return None
                error = HALF if error > HALF else -HALF
            offsets[index] = min((error + HALF) * total // UNIT, total - 1)
            standing[left], standing[right] = level, kept - level
        return tuple(offsets)


def _gather(splits: tuple[Split, ...], errors: list[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """The error of all that is below each corpus and split, and of each split's (left, both sides).

    What a split cannot absorb is left out of the account of those above it.
    """
    below = list(errors)
    sides = []
    for left, right, share, total, _, _ in splits:
        error_left, error_right = below[left], below[right]
        error = error_left - share * (error_left + error_right) // total
        if error > HALF:
            error_right += error - HALF
        elif error < -HALF:
            error_right += error + HALF
        below.append(error_left + error_right)
        sides.append((error_left, error_left + error_right))
    return below, sides


def _huffman(weights: Mapping[int, int], num_corpora: int) -> tuple[tuple[Split, ...], int]:
    """The splits, those below first, and the root: heavy corpora near it, heavier side left, ties by index."""
    heap = [weight * num_corpora + corpus for corpus, weight in weights.items()]  # weight and first corpus of a tree
    heapify(heap)
    tree_of = list(range(num_corpora))  # by its first corpus
    size_of = [1] * num_corpora
    splits: list[Split] = []
    while len(heap) > 1:
        share_right, first_right = divmod(heappop(heap), num_corpora)
        share, first_left = divmod(heap[0], num_corpora)
        left, right = tree_of[first_left], tree_of[first_right]
        splits.append((left, right, share, share + share_right, size_of[left], size_of[right]))
        first = min(first_left, first_right)
        tree_of[first] = len(size_of)
        size_of.append(size_of[left] + size_of[right])
        heapreplace(heap, (share + share_right) * num_corpora + first)
    return tuple(splits), tree_of[heap[0] % num_corpora]
