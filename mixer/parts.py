"""Which samples of a corpus each node group reads: its *part*, and the numbers that samples have in it.

The shards of a corpus, in an order keyed by data seed and corpus name alone, are laid end to end and cut into as many
parts as there are groups, whose sizes differ by one sample at most. So every sample is in exactly one part, nearly all
shards are too, and no group comes to the end of its part before the others; a shard that lies across a cut (at most one
a cut) is read by the groups on both sides of it. A corpus of fewer shards than groups is cut all the same. Shards that
are added later are laid out and cut in the same way, and follow.

Within a part, samples are numbered through its pieces of shards, in the order of the shards.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mixer.errors import CorpusError
from mixer.keys import derive_key, random_words
from mixer.ranges import Ranges

_I64 = NDArray[np.int64]


class Parts:
    """The parts of one corpus. Raises CorpusError if it has fewer samples than there are groups."""

    def __init__(self, name: str, shard_sizes: Sequence[int] | _I64, *, data_seed: int, num_groups: int) -> None:
        if (num_samples := int(np.sum(shard_sizes))) < num_groups:
            raise CorpusError(
                f"corpus '{name}' has {num_samples} samples, which cannot be split over num_groups={num_groups}: "
                "choose fewer groups, or leave the corpus out",
                path=name,
            )
        self._key, self._num_groups = derive_key(data_seed, "parts", name), num_groups
        self._shard_ends = np.zeros(0, np.int64)
        self._starts: list[_I64] = [np.zeros(0, np.int64) for _ in range(num_groups)]  # of each piece, its first sample
        self._ends = list(self._starts)  # of each piece, the number within the part that follows its last
        self._growth = 0
        self.grow(shard_sizes)

    def sizes(self, group: int) -> list[int]:
        """Samples of each piece of a shard that the group has."""
        sizes: list[int] = np.diff(self._ends[group], prepend=0).tolist()
        return sizes

    def grow(self, shard_sizes: Sequence[int] | _I64) -> list[list[int]]:
        """Append shards. Returns the samples of each new piece of each group, one without samples if it gets none."""
        sizes = np.asarray(shard_sizes, np.int64)
        num_before = int(self._shard_ends[-1]) if len(self._shard_ends) else 0
        ends = num_before + np.cumsum(sizes)
        order = np.argsort(random_words(self._key, self._growth, len(sizes)), kind="stable")
        laid = np.cumsum(sizes[order])
        cuts = [int(laid[-1]) * group // self._num_groups for group in range(self._num_groups + 1)]
        added = []
        for group, (low, high) in enumerate(pairwise(cuts)):
            first, last = (np.clip(edge, low, high) for edge in (laid - sizes[order], laid))
            held = np.flatnonzero(last > first)
            starts = (ends - sizes)[order][held] + (first - (laid - sizes[order]))[held]
            by_sample = np.argsort(starts)
            pieces = (last - first)[held][by_sample] if len(held) else np.zeros(1, np.int64)
            starts = starts[by_sample] if len(held) else np.full(1, num_before)
            size = int(self._ends[group][-1]) if len(self._ends[group]) else 0
            self._starts[group] = np.concatenate([self._starts[group], starts])
            self._ends[group] = np.concatenate([self._ends[group], size + np.cumsum(pieces)])
            added.append(pieces.tolist())
        self._shard_ends = np.concatenate([self._shard_ends, ends])
        self._growth += 1
        return added

    def to_corpus(self, group: int, numbers: _I64) -> _I64:
        """The sample_id of each of these numbers [n] of the group's part."""
        piece = np.searchsorted(self._ends[group], numbers, side="right")
        samples: _I64 = numbers - self._firsts(group)[piece] + self._starts[group][piece]
        return samples

    def to_part(self, sample_id: int) -> tuple[int, int]:
        """The group whose part has this sample, and its number there."""
        for group, starts in enumerate(self._starts):
            offsets = sample_id - starts
            found = np.flatnonzero((offsets >= 0) & (offsets < self.sizes(group)))
            if len(found):
                return group, int(self._firsts(group)[found[0]] + offsets[found[0]])
        raise AssertionError("every sample is in a part")

    def within(self, group: int, samples: Ranges) -> list[list[int]]:
        """The numbers in the group's part of those of `samples` that it has, as ranges."""
        found = []
        pieces = zip(self._starts[group], self._firsts(group), self._ends[group], strict=True)
        edges = samples.to_list()
        for start, first, end in pieces:
            shift, stop = int(start - first), int(start + end - first)
            found += [
                [max(low, int(start)) - shift, min(high, stop) - shift]
                for low, high in edges
                if low < stop and start < high
            ]
        return Ranges(found).to_list()

    def samples_of(self, shards: Ranges) -> Ranges:
        """The sample_ids of these shards."""
        edges = np.concatenate([[0], self._shard_ends])
        return Ranges((int(edges[low]), int(edges[high])) for low, high in shards.to_list())

    def shards_of(self, group: int, pieces: _I64 | None = None) -> _I64:
        """The shards in which these pieces of the group's part lie (default: all of them), ascending."""
        held = np.flatnonzero(np.diff(self._ends[group], prepend=0)) if pieces is None else pieces
        return np.unique(np.searchsorted(self._shard_ends, self._starts[group][held], side="right"))

    def _firsts(self, group: int) -> _I64:
        """The number within the part of each piece's first sample."""
        return np.concatenate([[0], self._ends[group][:-1]])
