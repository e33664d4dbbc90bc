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
works on draws relative to the start of a batch, so it never leaves int64.
"""

import heapq
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixer.weights import UNIT

MAX_HEAD = 32
HALF = UNIT // 2

_I64 = NDArray[np.int64]


class Node:
    """A split: of `total` parts, `share` go to `left`. What is below is a Node or a leaf, an int (corpus index)."""

    __slots__ = ("errors", "left", "left_leaves", "phi", "right", "right_leaves", "share", "total")

    def __init__(self, left: "Node | int", right: "Node | int", share: int, total: int) -> None:
        self.left, self.right, self.share, self.total = left, right, share, total
        self.left_leaves, self.right_leaves = leaves_of(left), leaves_of(right)
        self.phi = 0
        self.errors = (0, 0)  # of the left and the right side, as far as they count

    def left_of(self, num_draws: int) -> int:
        return (self.share * num_draws + self.phi) // self.total

    def draws_for_left(self, num_left: int) -> int:
        """The smallest number of draws of which `num_left` (≥ 1) go left."""
        return -((self.phi - num_left * self.total) // self.share)

    def draws_for_right(self, num_right: int) -> int:
        """The smallest number of draws of which `num_right` (≥ 1) go right."""
        return ((num_right - 1) * self.total + self.phi) // (self.total - self.share) + 1


def leaves_of(node: Node | int) -> tuple[int, ...]:
    return (node,) if isinstance(node, int) else node.left_leaves + node.right_leaves


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
        self.root = _huffman(weights)
        self.head = self._settle(list(errors), num_draws)

    def counts(self, num_draws: int) -> list[int]:
        """Of the first `num_draws` draws, how many go to each corpus [num_corpora]."""
        counts = [0] * self.num_corpora
        for corpus in self.head[:num_draws]:
            counts[corpus] += 1
        _count(self.root, max(num_draws - len(self.head), 0), counts)
        return counts

    def pick(self, start: int, num_draws: int) -> list[tuple[int, int, _I64]]:
        """Who stands at the draws [start, start + num_draws): per corpus that does, (corpus, rank, places).

        `places` are the offsets from `start`, ascending; `rank` is the how-manieth draw of its corpus within this
        stretch the first of them is, from 0, and the others follow one by one.
        """
        in_head = self.head[start : start + num_draws]
        rest = np.arange(len(in_head), num_draws)
        picked: list[tuple[int, int, _I64]] = []
        _pick(self.root, max(start - len(self.head), 0), rest, picked)
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
        return len(self.head) + _draw_of(self.root, corpus, rank - len(in_head))

    def _settle(self, errors: list[int], num_draws: int) -> list[int]:
        """Set φ of every node, after as many draws by largest deficit as it takes until all errors are absorbed."""
        head: list[int] = []
        while not _set_offsets(self.root, _gather(self.root, errors)) and len(head) < min(MAX_HEAD, num_draws):
            for c, weight in self.weights.items():
                errors[c] += weight
            furthest = max(self.weights, key=lambda c: (errors[c], -c))
            errors[furthest] -= UNIT
            head.append(furthest)
        return head


def _gather(node: Node | int, errors: list[int]) -> int:
    """The error of all that is below `node`, without what its splits cannot absorb."""
    if isinstance(node, int):
        return errors[node]
    left, right = _gather(node.left, errors), _gather(node.right, errors)
    error = left - node.share * (left + right) // node.total
    right += error - _absorbed(error)
    node.errors = (left, right)
    return left + right


def _set_offsets(node: Node | int, standing: int) -> bool:
    """Set φ from `node` down; `standing` is the error that the corpora below keep in sum. True if all is absorbed."""
    if isinstance(node, int):
        return True
    left, right = node.errors
    by_weight = standing * node.share // node.total
    evenly = standing * len(node.left_leaves) // (len(node.left_leaves) + len(node.right_leaves))
    level = (by_weight + evenly) // 2
    error = left - level - node.share * (left + right - standing) // node.total
    node.phi = min((_absorbed(error) + HALF) * node.total // UNIT, node.total - 1)
    below = [_set_offsets(node.left, level), _set_offsets(node.right, standing - level)]
    return error == _absorbed(error) and all(below)


def _absorbed(error: int) -> int:
    return min(max(error, -HALF), HALF)


def _huffman(weights: Mapping[int, int]) -> Node | int:
    """The tree: heavy corpora near the root, at each node the heavier side to the left, ties by index."""
    heap: list[Any] = [(weight, c, c) for c, weight in weights.items()]
    heapq.heapify(heap)
    while len(heap) > 1:
        light_weight, light_first, light = heapq.heappop(heap)
        heavy_weight, heavy_first, heavy = heapq.heappop(heap)
        node = Node(heavy, light, heavy_weight, heavy_weight + light_weight)
        heapq.heappush(heap, (node.total, min(light_first, heavy_first), node))
    root: Node | int = heap[0][2]
    return root


def _count(node: Node | int, num_draws: int, counts: list[int]) -> None:
    if isinstance(node, int):
        counts[node] += num_draws
        return
    left = node.left_of(num_draws)
    _count(node.left, left, counts)
    _count(node.right, num_draws - left, counts)


def _pick(node: Node | int, start: int, places: _I64, picked: list[tuple[int, int, _I64]]) -> None:
    """Distribute the draws [start, start + len(places)) of a node over the places where they stand in the batch."""
    if not places.size:
        return
    if isinstance(node, int):
        picked.append((node, start, places))
        return
    left_start, carry = divmod(node.share * start + node.phi, node.total)
    left_counts = (np.arange(places.size + 1) * node.share + carry) // node.total
    goes_left = left_counts[1:] > left_counts[:-1]
    _pick(node.left, left_start, places[goes_left], picked)
    _pick(node.right, start - left_start, places[~goes_left], picked)


def _draw_of(node: Node | int, corpus: int, rank: int) -> int:
    if isinstance(node, int):
        return rank
    if corpus in node.left_leaves:
        return node.draws_for_left(_draw_of(node.left, corpus, rank) + 1) - 1
    return node.draws_for_right(_draw_of(node.right, corpus, rank) + 1) - 1
