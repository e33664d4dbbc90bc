"""The order of one corpus: ordinal → (epoch, sample_id) and back, a new permutation every epoch.

The samples are divided into *segments* (a shard; or every other sample of a few shards), each for ever in one of two
*halves*: an epoch reads all of the first half, then all of the second, so between two readings of a sample lies at
least the smaller half of the corpus. Within a half segments are permuted, cut into windows of `shuffle_window`, and
samples are permuted within a window: while a window is read only its shards are in use. Everything is keyed by (data
seed, corpus name, epoch), so no other corpus matters. Memory is one entry a shard; no table has the corpus's size.

What is read of a corpus may change: from some ordinal on it is read from another *pool*, which goes on at the place
where the one before it was left. docs/DETERMINISM.md has the order exactly.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixer.keys import derive_key, random_words
from mixer.permutation import mix, permute, unpermute
from mixer.ranges import Ranges

_I64 = NDArray[np.int64]
_U64 = NDArray[np.uint64]

_NOTHING = Ranges()


class Run(NamedTuple):
    """Consecutive places of one window of one epoch, read one after the other; ends count from the window's start."""

    epoch: int
    window_key: int
    window_size: int
    offset: int  # of the first place within the window
    length: int
    shard_ends: _I64  # where each segment of the window ends, in samples from the window's start
    sample_ends: _I64  # the sample_id that would follow the last of each of these
    strides: _I64  # from one sample_id to the next


class Window(NamedTuple):
    """What is in use together: the ordinal after the last that is read in it, and its shards, ascending."""

    end: int
    shards: _I64


@dataclass(frozen=True)
class _Keys:
    """The keys of one corpus, and the window in segments. `words` and `window_key` name streams by epoch and growth."""

    halves: int
    shards: int
    samples: int
    window: int

    @classmethod
    def of(cls, name: str, data_seed: int, window: int) -> "_Keys":
        halves, shards, samples = (derive_key(data_seed, domain, name) for domain in ("halves", "shards", "samples"))
        return cls(halves, shards, samples, window)

    def words(self, epoch: int, growth: int, num_segments: int) -> _U64:
        return random_words(self.shards, epoch + (growth << 64), num_segments)

    def window_keys(self, epoch: int, growth: int, num_windows: int) -> list[int]:
        base = int(random_words(self.samples, epoch + (growth << 64), 1)[0])
        return [base + window & 0xFFFFFFFFFFFFFFFF for window in range(num_windows)]


@dataclass(frozen=True, eq=False)
class _Layout:
    """The segments of a corpus [num_segments], in the order in which they came; `growth` is how often it has grown."""

    firsts: _I64  # the first sample_id
    sizes: _I64  # in samples
    strides: _I64  # from one sample_id to the next: 1, or 2 for all odd or all even ones
    halves: _I64
    shard_ends: _I64  # [num_shards], the sample_id after the last of each shard
    growth: int = 0

    @classmethod
    def of(cls, shard_sizes: _I64, keys: _Keys) -> "_Layout":
        none = np.zeros(0, np.int64)
        return cls(none, none, none, none, none)._with(shard_sizes, keys, half=0)

    def grown(self, shard_sizes: _I64, keys: _Keys, half: int) -> "_Layout":
        """With more shards; `half` is the one that is being read."""
        return self._with(shard_sizes, keys, half=half, growth=self.growth + 1)

    @property
    def num_samples(self) -> int:
        return int(self.shard_ends[-1]) if len(self.shard_ends) else 0

    def ends_of(self, segments: _I64) -> _I64:
        """The sample_id that would follow the last of each of these segments."""
        ends: _I64 = self.firsts[segments] + self.strides[segments] * self.sizes[segments]
        return ends

    def shards_of(self, segments: _I64) -> _I64:
        """The shards in which the samples of these segments lie, ascending; one segment may span several."""
        held = segments[self.sizes[segments] > 0]
        firsts = np.searchsorted(self.shard_ends, self.firsts[held], side="right").tolist()
        lasts = np.searchsorted(self.shard_ends, self.ends_of(held) - self.strides[held], side="right").tolist()
        spans = [np.arange(first, last + 1) for first, last in zip(firsts, lasts, strict=True)]
        shards = np.unique(np.concatenate([np.zeros(0, np.int64), *spans]))
        starts = np.where(shards > 0, self.shard_ends[shards - 1], 0)
        held_shards: _I64 = shards[self.shard_ends[shards] > starts]
        return held_shards

    def _with(self, shard_sizes: _I64, keys: _Keys, half: int, growth: int = 0) -> "_Layout":
        ends = self.num_samples + np.cumsum(shard_sizes)
        starts = ends - shard_sizes
        if half == 0 and len(self.shard_ends) + len(ends) <= keys.window:  # all are in use at once anyway
            start, end = self.num_samples, int(ends[-1])
            firsts = np.array([start | 1, start + start % 2])  # the odd ones, and the even ones
            sizes = np.array([end // 2 - start // 2, (end + 1) // 2 - (start + 1) // 2])
            halves, strides = np.array([0, 1]), np.array([2, 2])
        else:
            firsts, sizes, halves = starts, shard_sizes, np.ones(len(ends), np.int64)
            strides = np.ones(len(ends), np.int64)
            if half == 0:
                order = np.argsort(random_words(keys.halves, growth, len(ends)), kind="stable")
                held = np.concatenate([[0], np.cumsum(shard_sizes[order])])
                halves[order[: int(np.searchsorted(2 * held, held[-1]))]] = 0
        return _Layout(
            firsts=np.concatenate([self.firsts, firsts]),
            sizes=np.concatenate([self.sizes, sizes]),
            strides=np.concatenate([self.strides, strides]),
            halves=np.concatenate([self.halves, halves]),
            shard_ends=np.concatenate([self.shard_ends, ends]),
            growth=growth,
        )


class _Pass:
    """The order of one epoch, or of what is left of it: windows of segments, less the samples left out.

    Args:
        layout: whose segments `order` [n] names, in the order in which they are read.
        borders: index into `order` where each window begins, and the end of the last [num_windows + 1].
        keys: of each window [num_windows].
        out: samples that are not read.
        start: the place of the first window at which reading begins.

    `ends` [num_windows]: how many samples are read up to the end of each window.
    """

    def __init__(
        self, layout: _Layout, order: _I64, *, borders: Sequence[int], keys: Sequence[int], out: Ranges, start: int = 0
    ) -> None:
        self.layout, self.order, self.borders, self.keys = layout, order, list(borders), list(keys)
        self.out, self.start = out, start
        sizes = layout.sizes[order]
        if len(out):
            sizes = sizes - _num_out(layout, order, out)
        ends = np.concatenate([[0], np.cumsum(sizes)])[self.borders]
        self.window = lru_cache(maxsize=4)(self._window)
        if start:
            ends = ends - (start - int(np.searchsorted(self.window(0).out, start)))
        self.ends: list[int] = ends[1:].tolist()

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def runs(self, epoch: int, start: int, end: int) -> list[Run]:
        """The samples [start, end) of this order, cut where a window ends or a sample is left out."""
        runs: list[Run] = []
        while start < end:
            index = bisect_right(self.ends, start)
            window, before = self.window(index), self.ends[index - 1] if index else 0
            stop = min(self.ends[index], end)
            for place, length in window.stretches(self.start if index == 0 else 0, start - before, stop - before):
                runs.append(Run(epoch, window.key, window.size, place, length, *window.segments))
            start = stop
        return runs

    def place(self, index: int) -> tuple[int, int]:
        """(window, place in it) at which reading stands after `index` samples: the place after the last one read."""
        window = bisect_right(self.ends, index)
        before = self.ends[window - 1] if window else 0
        first = self.start if window == 0 else 0
        if window == len(self.ends) or index == before:
            return window, first
        return window, self.window(window).stretches(first, index - before - 1, index - before)[0][0] + 1

    def index_of(self, sample_id: int) -> int | None:
        """How many samples this order reads before this one, or None if it does not read it."""
        layout, order = self.layout, self.order
        firsts, strides, ends = layout.firsts[order], layout.strides[order], layout.ends_of(order)
        found = np.flatnonzero((firsts <= sample_id) & (sample_id < ends) & ((sample_id - firsts) % strides == 0))
        if not found.size or sample_id in self.out:
            return None
        index = bisect_right(self.borders, int(found[0])) - 1
        window, first = self.window(index), self.start if index == 0 else 0
        place = int(window.places_of(np.array([sample_id]))[0])
        if place < first:
            return None
        left_out = int(np.searchsorted(window.out, place) - np.searchsorted(window.out, first))
        return (self.ends[index - 1] if index else 0) + place - first - left_out

    def rest(self, window: int, place: int, out: Ranges) -> "_Pass":
        """What is left of this order at a place of a window, without `out`."""
        first = self.borders[window]
        borders = [border - first for border in self.borders[window:]]
        return _Pass(self.layout, self.order[first:], borders=borders, keys=self.keys[window:], out=out, start=place)

    def _window(self, index: int) -> "_Window":
        segments = self.order[self.borders[index] : self.borders[index + 1]]
        return _Window(self.layout, segments, key=mix(self.keys[index]), out=self.out)


def _num_out(layout: _Layout, segments: _I64, out: Ranges) -> _I64:
    """How many samples of each segment are left out."""
    firsts, strides, sizes = layout.firsts[segments], layout.strides[segments], layout.sizes[segments]
    counts = np.zeros(len(segments), np.int64)
    for stride, parity, among in ((1, 0, out), (2, 0, out.every_other(0)), (2, 1, out.every_other(1))):
        alike = (strides == stride) & (firsts % stride == parity)
        starts = firsts[alike] // stride
        counts[alike] = among.count_below(starts + sizes[alike]) - among.count_below(starts)
    return counts


class _Window:
    """Segments whose samples are permuted together; `segments` as in `Run`, `out`: places left out, ascending."""

    def __init__(self, layout: _Layout, segments: _I64, *, key: int, out: Ranges) -> None:
        self.key = key
        self.firsts, strides = layout.firsts[segments], layout.strides[segments]
        ends: _I64 = np.cumsum(layout.sizes[segments])
        self.segments = ends, layout.ends_of(segments), strides
        self.size = int(ends[-1])
        left_out = [np.zeros(0, np.int64)]
        if len(out):
            within = (out.within(int(a), int(b)) for a, b in zip(self.firsts, self.segments[1], strict=True))
            left_out += [
                ids[(ids - first) % stride == 0]
                for ids, first, stride in zip(within, self.firsts, strides, strict=True)
            ]
        self.out = np.sort(self.places_of(np.concatenate(left_out)))

    def places_of(self, sample_ids: _I64) -> _I64:
        """The place of each of these samples [n], which must all be in the window."""
        if not len(sample_ids):
            return sample_ids
        ends, sample_ends, strides = self.segments
        held = np.flatnonzero(sample_ends > self.firsts)
        by_first = held[np.argsort(self.firsts[held])]
        segment = by_first[np.searchsorted(self.firsts[by_first], sample_ids, side="right") - 1]
        rows = ends[segment] - (sample_ends[segment] - sample_ids) // strides[segment]
        return unpermute(rows, np.full(len(rows), self.size), np.full(len(rows), self.key, np.uint64))

    def stretches(self, first: int, start: int, end: int) -> list[tuple[int, int]]:
        """The samples [start, end), counted from the place `first` on, as (place, length) without gaps."""
        if not len(self.out):
            return [(first + start, end - start)]
        gaps = self.out[np.searchsorted(self.out, first) :] - first
        ranks = np.arange(start, end)
        places = first + ranks + np.searchsorted(gaps - np.arange(len(gaps)), ranks, side="right")
        cuts = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), end - start]
        return [(int(places[a]), b - a) for a, b in pairwise(cuts)]


class _Pool:
    """What a corpus is read from, from the ordinal `first` on: the rest of an epoch, then whole epochs of `layout`."""

    def __init__(
        self, keys: _Keys, layout: _Layout, out: Ranges, *, first: int, epoch: int, rest: _Pass | None = None
    ) -> None:
        self.keys, self.layout, self.out, self.first, self.epoch = keys, layout, out, first, epoch
        self.whole = lru_cache(maxsize=2)(self._whole)
        self.size = layout.num_samples - int(out.count_below(np.array([layout.num_samples]))[0])
        self._rest = rest  # None: all of it, made when it is asked for
        self.rest_size = self.size if rest is None else len(rest)

    @property
    def rest(self) -> _Pass:
        return self.whole(self.epoch) if self._rest is None else self._rest

    def locate(self, ordinal: int) -> tuple[int, _Pass, int]:
        """(epoch, its order, how many samples of it come before this ordinal)."""
        index = ordinal - self.first
        if index < self.rest_size or not self.size:
            return self.epoch, self.rest, index
        epochs, index = divmod(index - self.rest_size, self.size)
        return self.epoch + 1 + epochs, self.whole(self.epoch + 1 + epochs), index

    def start_of(self, epoch: int) -> int:
        """The first ordinal of an epoch ≥ this pool's (of its own: where it begins)."""
        if epoch <= self.epoch:
            return self.first
        return self.first + self.rest_size + (epoch - self.epoch - 1) * self.size

    def _whole(self, epoch: int) -> _Pass:
        words = self.keys.words(epoch, self.layout.growth, len(self.layout.sizes))
        return _shuffled(self.layout, np.arange(len(words)), words, self.keys, epoch=epoch, out=self.out)


def _shuffled(layout: _Layout, segments: _I64, words: _U64, keys: _Keys, *, epoch: int, out: Ranges) -> _Pass:
    """These segments of the layout, half by half, each half by its words and cut into windows."""
    order = segments[np.lexsort((words[segments], layout.halves[segments]))]
    middle = len(order) - int(layout.halves[order].sum())
    borders = [*range(0, middle, keys.window), *range(middle, len(order), keys.window)]
    window_keys = keys.window_keys(epoch, layout.growth, len(borders))
    return _Pass(layout, order, borders=[*borders, len(order)], keys=window_keys, out=out)


class CorpusOrder:
    """The order in which the samples of one corpus are read, for ever. `shard_sizes` [num_shards] in samples.

    An ordinal counts what was ever taken of it. The methods named as verbs change what is read from an ordinal on (at
    least that of the last change); what comes before stays as it was.
    """

    def __init__(self, shard_sizes: Sequence[int] | _I64, *, name: str, data_seed: int, shuffle_window: int) -> None:
        keys = _Keys.of(name, data_seed, shuffle_window)
        layout = _Layout.of(np.asarray(shard_sizes, dtype=np.int64), keys)
        self._pools = [_Pool(keys, layout, _NOTHING, first=0, epoch=0)]

    @property
    def num_samples(self) -> int:
        """Samples that its shards hold, read or not."""
        return self._pools[-1].layout.num_samples

    @property
    def num_readable(self) -> int:
        """Samples of a whole epoch."""
        return self._pools[-1].size

    @property
    def shard_sizes(self) -> _I64:
        return np.diff(self._pools[-1].layout.shard_ends, prepend=0)

    def runs(self, start: int, end: int) -> list[Run]:
        """Ordinals [start, end) as runs."""
        runs: list[Run] = []
        for epoch, order, first, length in self._pieces(start, end):
            runs += order.runs(epoch, first, first + length)
        return runs

    def window_at(self, ordinal: int) -> Window:
        """The window in which this ordinal is read."""
        index = self._pool_at(ordinal)
        _, order, place = self._pools[index].locate(ordinal)
        window = bisect_right(order.ends, place)
        end = ordinal + order.ends[window] - place
        for following in self._pools[index + 1 : index + 2]:
            end = min(end, following.first)
        segments = order.order[order.borders[window] : order.borders[window + 1]]
        shards, ends = order.layout.shards_of(segments), order.layout.shard_ends
        starts = np.where(shards > 0, ends[shards - 1], 0)
        num_out = order.out.count_below(ends[shards]) - order.out.count_below(starts)
        return Window(end, shards[ends[shards] - starts > num_out])

    def ordinals_of(self, sample_id: int, start: int, end: int) -> list[int]:
        """The ordinals in [start, end) at which `sample_id` is read, ascending."""
        found: list[int] = []
        for _, order, first, length in self._pieces(start, end):
            index = order.index_of(sample_id)
            if index is not None and first <= index < first + length:
                found.append(start + index - first)
            start += length
        return found

    def places(self, start: int, end: int) -> list[tuple[int, int]]:
        """Where ordinals [start, end) stand in the order without skips, as [start, end) counted through all epochs.

        Equal places are equal readings in two orders of which `same_but_for_skips` holds.
        """
        return [
            (place, place + length)
            for epoch, order, first, length in self._pieces(start, end)
            for place in [(epoch + 1) * self.num_readable - len(order) + first]
        ]

    def same_but_for_skips(self, other: "CorpusOrder") -> bool:
        """Whether both read the same samples in the same order, what either skips aside."""
        first = self._pools[0]
        return self.begins_like(other) and all(
            pool.layout.growth == 0 and pool.out.to_list() == first.out.to_list()
            for pool in (*self._pools, *other._pools)
        )

    def begins_like(self, other: "CorpusOrder") -> bool:
        """Whether both are one corpus with one order, before any change of it."""
        ours, theirs = self._pools[0], other._pools[0]
        return ours.keys == theirs.keys and bool(np.array_equal(ours.layout.shard_ends, theirs.layout.shard_ends))

    def start_of(self, epoch: int) -> int:
        """The first ordinal that is read in `epoch` or a later one."""
        for pool, following in zip(self._pools, [*self._pools[1:], None], strict=True):
            start = pool.start_of(epoch)
            if pool.epoch >= epoch or following is None or start < following.first:
                return start
        raise AssertionError("the last pool has no end")

    def start_of_next(self, ordinal: int) -> int:
        """The first ordinal of the epoch after the one in which this ordinal is read."""
        pool = self._pools[self._pool_at(ordinal)]
        return self.start_of(pool.locate(ordinal)[0] + 1)

    def epochs(self, ordinal: int) -> float:
        """How often the corpus has been gone through before this ordinal."""
        pool = self._pools[self._pool_at(ordinal)]
        read = ordinal - pool.first - pool.rest_size  # negative within the rest of its first epoch
        return ((pool.epoch + 1) * pool.size + read) / pool.size if pool.size else float(pool.epoch)

    def quarantine(self, ordinal: int, out: Ranges) -> None:
        """Leave the samples `out` out."""
        pool = self._pools[-1]
        self._go_on(ordinal, ordinal, pool.out.union(out))

    def skip(self, ordinal: int, num_samples: int) -> None:
        """Pass over the next samples, this time."""
        self._go_on(ordinal, ordinal + num_samples, self._pools[-1].out)

    def part(self, ordinal: int, shards: Ranges | None = None) -> "CorpusOrder":
        """A corpus that goes on from here as this one would, with these shards alone; ordinals from 0."""
        pool, (epoch, order, window, place) = self._pools[-1], self._stands(ordinal)
        out = pool.out if shards is None else pool.out.union(self.samples_of(shards).complement(self.num_samples))
        twin = object.__new__(CorpusOrder)
        rest = order.rest(window, place, out)
        twin._pools = [_Pool(pool.keys, pool.layout, out, first=0, epoch=epoch, rest=rest)]
        return twin

    def grow(self, ordinal: int, shard_sizes: Sequence[int]) -> None:
        """More shards: what has not been entered in this epoch is shuffled anew together with them."""
        pool, (epoch, order, window, place) = self._pools[-1], self._stands(ordinal)
        keys, entered = pool.keys, bool(place)
        first_open = order.borders[window + entered] if window < len(order.keys) else len(order.order)
        half = int(pool.layout.halves[order.order[order.borders[window]]]) if window < len(order.keys) else 0
        layout = pool.layout.grown(np.asarray(shard_sizes, np.int64), keys, half)
        added = np.arange(len(pool.layout.sizes), len(layout.sizes))
        fresh = _shuffled(
            layout,
            np.sort(np.concatenate([order.order[first_open:], added])),
            keys.words(epoch, layout.growth, len(layout.sizes)),
            keys,
            epoch=epoch,
            out=pool.out,
        )
        if entered:
            kept = order.order[order.borders[window] : first_open]
            fresh = _Pass(
                layout,
                np.concatenate([kept, fresh.order]),
                borders=[0, *(len(kept) + border for border in fresh.borders)],
                keys=[order.keys[window], *fresh.keys],
                out=pool.out,
                start=place,
            )
        self._pools.append(_Pool(keys, layout, pool.out, first=ordinal, epoch=epoch, rest=fresh))

    def samples_of(self, shards: Ranges) -> Ranges:
        """The samples of these shards."""
        ends = np.concatenate([[0], self._pools[-1].layout.shard_ends])
        return Ranges([(int(ends[start]), int(ends[end])) for start, end in shards.to_list()])

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, "_Pass", int, int]]:
        """Ordinals [start, end) cut at epochs and pools: (epoch, its order, how many of it come before, length)."""
        while start < end:
            index = self._pool_at(start)
            epoch, order, first = self._pools[index].locate(start)
            stop = min(start + len(order) - first, end, *(pool.first for pool in self._pools[index + 1 : index + 2]))
            yield epoch, order, first, stop - start
            start = stop

    def _go_on(self, ordinal: int, position: int, out: Ranges) -> None:
        """From `ordinal` on, read what would have been read from `position` on, without `out`."""
        pool, (epoch, order, window, place) = self._pools[-1], self._stands(position)
        rest = order.rest(window, place, out)
        self._pools.append(_Pool(pool.keys, pool.layout, out, first=ordinal, epoch=epoch, rest=rest))

    def _stands(self, ordinal: int) -> tuple[int, _Pass, int, int]:
        """(epoch, its order, window, place) at which reading stands before `ordinal`."""
        epoch, order, index = self._pools[-1].locate(ordinal)
        return epoch, order, *order.place(index)

    def _pool_at(self, ordinal: int) -> int:
        return bisect_right(self._pools, ordinal, key=lambda pool: pool.first) - 1


def sample_ids(runs: list[Run]) -> _I64:
    """The samples of all ordinals of `runs`, in order: one vectorised permutation and one search for all of them."""
    lengths = [run.length for run in runs]
    bases = np.cumsum([0, *(run.window_size for run in runs)])  # lays the windows side by side
    places = np.cumsum([0, *lengths])
    columns = np.array([[run.window_size for run in runs], bases[:-1], [run.offset for run in runs] - places[:-1]])
    sizes, starts, offsets = np.repeat(columns, lengths, axis=1)
    keys = np.repeat(np.array([run.window_key for run in runs], np.uint64), lengths)
    positions = permute(offsets + np.arange(places[-1]), sizes, keys) + starts
    segment_ends = np.concatenate([run.shard_ends + base for run, base in zip(runs, bases, strict=False)])
    segment = np.searchsorted(segment_ends, positions, side="right")
    sample_ends, strides = (np.concatenate([run[column] for run in runs])[segment] for column in (-2, -1))
    samples: _I64 = sample_ends - strides * (segment_ends[segment] - positions)
    return samples
