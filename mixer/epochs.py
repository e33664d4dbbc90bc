"""The order of one corpus: ordinal → (epoch, sample_id) and back, a new permutation every epoch.

Shards are permuted, cut into windows of `shuffle_window` shards, and samples are permuted within a window: while a
window is read only its shards are in use. Everything is keyed by (data seed, corpus name, epoch), so no other corpus
matters. Memory is one entry a shard; no table has the size of the corpus.
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
    """The order of one epoch: `shards` [num_shards] as permuted, `ends` where each ends, `window_ends` where each
    window does.

    Positions are counted through the epoch from 0. Ends may repeat: empty shards, and windows of them, hold no
    position.
    """

    shards: _I64
    ends: _I64
    window_ends: list[int]
    key: int

    def window_of(self, position: int) -> tuple[int, int, int]:
        """The window that holds `position`: its number, start and end."""
        window = bisect_right(self.window_ends, position)
        return window, self.window_ends[window - 1] if window else 0, self.window_ends[window]

    def window_key(self, window: int) -> int:
        return mix(self.key + window & 0xFFFFFFFFFFFFFFFF)


class Run(NamedTuple):
    """Consecutive ordinals that lie in one window of one epoch; shards' ends count from the window's start."""

    epoch: int
    window_key: int
    window_size: int
    offset: int  # of the first ordinal within the window
    length: int
    shard_ends: _I64  # where each shard of the window ends, in samples from the window's start
    sample_ends: _I64  # the sample_id after the last of each of these shards


class CorpusOrder:
    """The order in which the samples of one corpus are read, for ever. `shard_sizes` [num_shards] in samples."""

    def __init__(self, name: str, shard_sizes: Sequence[int] | _I64, *, data_seed: int, shuffle_window: int) -> None:
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
            window, first, last = order.window_of(position)
            shards = slice(window * self._window, (window + 1) * self._window)
            length = min(last - position, end - start)
            runs.append(
                Run(
                    epoch=epoch,
                    window_key=order.window_key(window),
                    window_size=last - first,
                    offset=position - first,
                    length=length,
                    shard_ends=order.ends[shards] - first,
                    sample_ends=self.starts[1:][order.shards[shards]],
                )
            )
            start += length
        return runs

    def ordinal_of(self, sample_id: int, epoch: int) -> int:
        """The ordinal at which `sample_id` is read in `epoch`."""
        order = self.epoch_order(epoch)
        shard = int(np.searchsorted(self.starts, sample_id, side="right")) - 1
        place = int(np.flatnonzero(order.shards == shard)[0])
        position = int(order.ends[place] - self.sizes[shard]) + sample_id - int(self.starts[shard])
        window, start, end = order.window_of(position)
        key = np.array([order.window_key(window)], np.uint64)
        offset = unpermute(np.array([position - start]), np.array([end - start]), key)
        return epoch * self.num_samples + start + int(offset[0])

    def _epoch_order(self, epoch: int) -> EpochOrder:
        words = random_words(self._shard_key, epoch, len(self.sizes))
        shards = np.argsort(words, kind="stable")
        ends = np.cumsum(self.sizes[shards])
        last = np.arange(self._window, len(shards) + self._window, self._window).clip(max=len(shards)) - 1
        return EpochOrder(shards, ends, ends[last].tolist(), int(random_words(self._sample_key, epoch, 1)[0]))


def sample_ids(runs: list[Run]) -> _I64:
    """The samples of all ordinals of `runs`, in order: one vectorised permutation and one search for all of them."""
    lengths = [run.length for run in runs]
    bases = np.cumsum([0, *(run.window_size for run in runs)])  # lays the windows side by side
    places = np.cumsum([0, *lengths])
    columns = np.array([[run.window_size for run in runs], bases[:-1], [run.offset for run in runs] - places[:-1]])
    sizes, starts, offsets = np.repeat(columns, lengths, axis=1)
    keys = np.repeat(np.array([run.window_key for run in runs], np.uint64), lengths)
    positions = permute(offsets + np.arange(places[-1]), sizes, keys) + starts
    shard_ends = np.concatenate([run.shard_ends + base for run, base in zip(runs, bases, strict=False)])
    shard = np.searchsorted(shard_ends, positions, side="right")
    back_from_end = shard_ends[shard] - positions
    samples: _I64 = np.concatenate([run.sample_ends for run in runs])[shard] - back_from_end
    return samples
