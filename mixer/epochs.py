"""The order of one corpus: ordinal → (epoch, sample_id) and back, a new permutation every epoch.

Shards are permuted, cut into windows of `shuffle_window` shards, and samples are permuted within a window: while a window is
read only its shards are in use. Everything is keyed by (data seed, corpus name, epoch), so no other corpus matters.
Memory is one entry a shard; no table has the size of the corpus.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixer.keys import derive_key, random_words
from mixer.permutation import mix, permute, unpermute

_I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EpochOrder:
    """The order of one epoch. Position p of the epoch lies in the shard `shards[j]` with ends[j-1] ≤ p < ends[j]."""

    shards: _I64
    ends: _I64
    window_ends: list[int]
    key: int

    def window_key(self, window: int) -> int:
        return mix(self.key + window & 0xFFFFFFFFFFFFFFFF)


class Run(NamedTuple):
    """Consecutive ordinals that lie in one window of one epoch."""

    order: EpochOrder
    epoch: int
    window_start: int  # position in the epoch
    window_size: int
    window_key: int
    offset: int  # of the first ordinal within the window
    length: int


class CorpusOrder:
    """The order in which the samples of one corpus are read, for ever. `shard_sizes` [num_shards] in samples."""

    def __init__(
        self, name: str, shard_sizes: Sequence[int] | _I64, *, data_seed: int, shuffle_window: int
    ) -> None:
        self.name = name
        self.sizes = np.asarray(shard_sizes, dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.num_samples = int(self.starts[-1])
        self._window = shuffle_window
        self._shard_key = derive_key(data_seed, "shards", name)
        self._sample_key = derive_key(data_seed, "samples", name)
        self.epoch_order = lru_cache(maxsize=2)(self._epoch_order)

    def runs(self, start: int, end: int) -> list[Run]:
        """Ordinals [start, end) cut where a window or an epoch ends."""
        runs = []
        while start < end:
            epoch, position = divmod(start, self.num_samples)
            order = self.epoch_order(epoch)
            window = bisect_right(order.window_ends, position)
            window_start = order.window_ends[window - 1] if window else 0
            window_end = order.window_ends[window]
            length = min(window_end - position, end - start)
            size, offset = window_end - window_start, position - window_start
            runs.append(Run(order, epoch, window_start, size, order.window_key(window), offset, length))
            start += length
        return runs

    def ordinal_of(self, sample_id: int, epoch: int) -> int:
        """The ordinal at which `sample_id` is read in `epoch`."""
        order = self.epoch_order(epoch)
        shard = int(np.searchsorted(self.starts, sample_id, side="right")) - 1
        place = int(np.flatnonzero(order.shards == shard)[0])
        position = int(order.ends[place] - self.sizes[shard]) + sample_id - int(self.starts[shard])
        window = bisect_right(order.window_ends, position)
        start = order.window_ends[window - 1] if window else 0
        size = order.window_ends[window] - start
        key = np.array([order.window_key(window)], np.uint64)
        offset = unpermute(np.array([position - start]), np.array([size]), key)
        return epoch * self.num_samples + start + int(offset[0])

    def sample_ids(self, run: Run, positions: _I64) -> _I64:
        """The samples at `positions` of the run's epoch, all within its window."""
        ends = run.order.ends
        low = int(np.searchsorted(ends, run.window_start, side="right"))
        high = int(np.searchsorted(ends, run.window_start + run.window_size, side="left")) + 1
        place = np.searchsorted(ends[low:high], positions, side="right") + low
        shard = run.order.shards[place]
        samples: _I64 = positions - ends[place] + self.starts[shard + 1]
        return samples

    def _epoch_order(self, epoch: int) -> EpochOrder:
        words = random_words(self._shard_key, epoch, len(self.sizes))
        shards = np.argsort(words, kind="stable")
        ends = np.cumsum(self.sizes[shards])
        last = np.arange(self._window, len(shards) + self._window, self._window).clip(max=len(shards)) - 1
        window_ends = sorted(set(ends[last].tolist()) - {0})  # a window of empty shards is no window
        return EpochOrder(shards, ends, window_ends, int(random_words(self._sample_key, epoch, 1)[0]))


def permuted_positions(runs: list[Run]) -> _I64:
    """Positions in their epochs of all ordinals of `runs`, in order; one vectorised permutation for all of them."""
    lengths = [run.length for run in runs]
    columns = np.array([(run.window_size, run.window_start, run.offset) for run in runs], np.int64).reshape(
        -1, 3
    )
    columns[:, 2] -= np.cumsum(
        [0, *lengths[:-1]]
    )  # so that offset + place in the batch = place in the window
    sizes, starts, offsets = np.repeat(columns.T, lengths, axis=1)
    keys = np.repeat(np.array([run.window_key for run in runs], np.uint64), lengths)
    return permute(offsets + np.arange(len(offsets)), sizes, keys) + starts
