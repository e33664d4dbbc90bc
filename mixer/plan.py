"""The plan: a pure function (data seed, schedule, corpus sizes) → which sample stands in each slot of each step.

No state, no clock, no rank count. `batch(step)` costs the same at every step. docs/DETERMINISM.md states the guarantees
and the tests that hold them. `ORDER_VERSION` names the order itself: any change that moves a single sample raises it.

Arithmetic only: standard library and NumPy.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mixer.apportion import Stretch
from mixer.epochs import CorpusOrder, sample_ids
from mixer.errors import CorpusError, MixerError, RepetitionError, ScheduleError, UnknownCorpusError
from mixer.keys import derive_key, random_words
from mixer.schedule import Piece, Schedule
from mixer.weights import UNIT

ORDER_VERSION = 1

_I64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """What the plan needs to know of a corpus: the samples of each shard, and how often it may be read.

    `max_epochs` None is unlimited. At the cap, `then` says what happens: "refuse" the schedule, or the name of the
    corpus that takes over the share from the first step that would exceed the cap.
    """

    shard_sizes: Sequence[int] | _I64
    max_epochs: int | None = None
    then: Literal["refuse"] | str = "refuse"


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One step. Arrays [global_batch_size], int64, by slot. `corpus` indexes `Plan.names`."""

    step: int
    corpus: _I64
    ordinal: _I64
    epoch: _I64
    sample_id: _I64


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run reads of one corpus below some step. Unlike the first three, the rest speaks of the whole run.

    `first_repeat_step` is the first step that reads a sample again (None: never). If there is one, `earliest_start` is
    the first step from which the corpus could be used, as scheduled, without repeating, and `largest_weight` the
    largest average weight it can have from its first use on.
    """

    samples: int
    tokens: int
    epochs: float
    first_repeat_step: int | None
    earliest_start: int | None
    largest_weight: float | None


@dataclass(frozen=True)
class _Segment:
    """Steps [start, end) of one stretch, and what was drawn of each corpus before it."""

    start: int
    end: int
    stretch: Stretch
    drawn: list[int]


class Plan:
    """Which sample stands in each slot of each step.

    Args:
        schedule: the mixture of every step.
        corpora: name → samples of each shard in shard order, or a `Corpus`. May hold more than the schedule names.
        data_seed: any integer; another seed gives another order.
        shuffle_window: shards that are shuffled together, and so in use together.

    Raises UnknownCorpusError, CorpusError (no samples) and RepetitionError (a cap would be exceeded).
    """

    def __init__(
        self,
        schedule: Schedule,
        corpora: Mapping[str, Sequence[int] | _I64 | Corpus],
        *,
        data_seed: int,
        shuffle_window: int = 16,
    ) -> None:
        if shuffle_window < 1:
            raise MixerError(f"shuffle_window is a number of shards, at least 1, found {shuffle_window}")
        schedule.check_names(corpora)
        self.schedule = schedule
        self.names = tuple(sorted(corpora))
        self.corpora = {name: _as_corpus(name, corpora[name], self.names) for name in self.names}
        self._orders = [
            CorpusOrder(name, self.corpora[name].shard_sizes, data_seed=data_seed, shuffle_window=shuffle_window)
            for name in self.names
        ]
        for order in self._orders:
            if order.num_samples == 0 and order.name in schedule.names:
                raise CorpusError(
                    f"corpus '{order.name}' has no samples: leave it out of the schedule", path=order.name
                )
        self._slots_key = derive_key(data_seed, "slots")
        self._batch_size = schedule.global_batch_size
        self._segments = self._build()
        self._starts = [segment.start for segment in self._segments]

    def weights(self, step: int) -> dict[str, float]:
        """The mixture of `step` in force, repetition caps applied; sums to 1."""
        weights = self._segment(step).stretch.weights
        scheduled = self.schedule.weights_ppb(step)
        return {n: weights.get(i, 0) / UNIT for i, n in enumerate(self.names) if n in scheduled or i in weights}

    def counts(self, step: int) -> dict[str, int]:
        """Samples of each corpus in `step`; corpora of which there are none are left out."""
        self.schedule.check_step(step)
        before, after = self._drawn(step), self._drawn(step + 1)
        return {name: after[i] - before[i] for i, name in enumerate(self.names) if after[i] > before[i]}

    def drawn_before(self, step: int) -> dict[str, int]:
        """Samples of each corpus in all steps below `step`, which may be the end of the run."""
        self.schedule.check_step(step, end=True)
        return dict(zip(self.names, self._drawn(step), strict=True))

    def batch(self, step: int) -> Batch:
        """What stands in each slot of `step`."""
        segment = self._segment(step)
        picked = segment.stretch.pick((step - segment.start) * self._batch_size, self._batch_size)
        firsts = [segment.drawn[corpus] + rank for corpus, rank, _ in picked]
        lengths = [len(places) for _, _, places in picked]
        runs = [
            run
            for (corpus, _, _), first, length in zip(picked, firsts, lengths, strict=True)
            for run in self._orders[corpus].runs(first, first + length)
        ]
        # so far by corpus; `where` leads from the slot to the draw that stands in it, and from there into these arrays
        where = np.empty(self._batch_size, np.int64)
        where[np.concatenate([places for _, _, places in picked])] = np.arange(self._batch_size)
        where = where[self._draw_in_slot(step)]
        return Batch(
            step=step,
            corpus=np.repeat([corpus for corpus, _, _ in picked], lengths)[where],
            ordinal=np.concatenate([np.arange(f, f + n) for f, n in zip(firsts, lengths, strict=True)])[where],
            epoch=np.repeat([run.epoch for run in runs], [run.length for run in runs])[where],
            sample_id=sample_ids(runs)[where],
        )

    def steps_of(self, corpus: str, sample_id: int, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
        """Every (step, slot) in steps [start, end) that reads this sample, in order."""
        end = self.schedule.num_steps if end is None else end
        for step in (start, end):
            self.schedule.check_step(step, end=True)
        index = self._index(corpus)
        order = self._orders[index]
        if not 0 <= sample_id < order.num_samples:
            raise CorpusError(
                f"corpus '{corpus}' has samples 0 to {order.num_samples - 1}, not {sample_id}", path=corpus
            )
        first, last = self._drawn(start)[index], self._drawn(end)[index]
        found = []
        for epoch in range(first // order.num_samples, -(-last // order.num_samples)):
            ordinal = order.ordinal_of(sample_id, epoch)
            if first <= ordinal < last:
                found.append(self._slot_of(index, ordinal))
        return found

    def forecast(self, step: int | None = None) -> dict[str, Forecast]:
        """Per corpus, what is read in all steps below `step` (default: the whole run), and where it first repeats."""
        step = self.schedule.num_steps if step is None else step
        self.schedule.check_step(step, end=True)
        drawn, total = self._drawn(step), self._drawn(self.schedule.num_steps)
        return {name: self._forecast(i, drawn[i], total[i]) for i, name in enumerate(self.names)}

    def step_of(self, corpus: str, ordinal: int) -> int | None:
        """The step that makes the ordinal-th draw (from 0) of `corpus`, or None if the run ends before."""
        index = self._index(corpus)
        if not 0 <= ordinal < self._drawn(self.schedule.num_steps)[index]:
            return None
        return self._draw_of(index, ordinal) // self._batch_size

    def _forecast(self, index: int, drawn: int, total: int) -> Forecast:
        name, size = self.names[index], self._orders[index].num_samples
        repeats = self.step_of(name, size)
        earliest = largest = None
        if repeats is not None:
            last_unusable = self._draw_of(index, total - size - 1) // self._batch_size
            first_used = self._draw_of(index, 0) // self._batch_size
            earliest = last_unusable + 1
            largest = size / ((self.schedule.num_steps - first_used) * self._batch_size)
        return Forecast(
            samples=drawn,
            tokens=drawn * self.schedule.seq_len,
            epochs=drawn / size if size else 0.0,
            first_repeat_step=repeats,
            earliest_start=earliest,
            largest_weight=largest,
        )

    def _build(self) -> list[_Segment]:
        """Stretches of constant weights, each beginning with the errors of those before it, caps applied."""
        segments: list[_Segment] = []
        drawn, errors = [0] * len(self.names), [0] * len(self.names)
        spent: set[int] = set()  # corpora at their cap
        todo = list(self.schedule.pieces())[::-1]
        while todo:
            piece = todo.pop()
            weights = self._in_force(piece, spent)
            num_draws = (piece.end - piece.start) * self._batch_size
            segment = _Segment(piece.start, piece.end, Stretch(weights, errors, num_draws), drawn)
            cut = self._first_over_cap(segment, spent)
            if cut is not None:
                todo.append(Piece(start=cut, end=piece.end, mixture=piece.mixture))
                if cut == piece.start:
                    continue
                num_draws = (cut - piece.start) * self._batch_size
                segment = _Segment(piece.start, cut, Stretch(weights, errors, num_draws), drawn)
            counts = segment.stretch.counts(num_draws)
            errors = [e + weights.get(c, 0) * num_draws - UNIT * counts[c] for c, e in enumerate(errors)]
            drawn = [d + n for d, n in zip(drawn, counts, strict=True)]
            segments.append(segment)
        return segments

    def _in_force(self, piece: Piece, spent: set[int]) -> dict[int, int]:
        """Weights above 0 by corpus index, with the share of spent corpora handed on."""
        weights: dict[int, int] = {}
        for index, name in enumerate(self.names):
            weight = piece.mixture.get(name, 0)
            seen: set[int] = set()
            while index in spent and weight:
                seen.add(index)
                index = self._index(self.corpora[self.names[index]].then)
                if index in seen:
                    raise RepetitionError(
                        f"every corpus that could take over the share of '{name}' at step {piece.start} has reached "
                        "its max_epochs too: raise a cap, or name another corpus in 'then'",
                        corpus=name,
                        step=piece.start,
                    )
            if weight:
                weights[index] = weights.get(index, 0) + weight
        return weights

    def _first_over_cap(self, segment: _Segment, spent: set[int]) -> int | None:
        """The first step of `segment` that would read a corpus beyond its cap, after adding that corpus to `spent`."""
        total = segment.stretch.counts((segment.end - segment.start) * self._batch_size)
        over: list[tuple[int, int]] = []
        for index in segment.stretch.weights:
            cap = self.corpora[self.names[index]].max_epochs
            allowed = None if cap is None else cap * self._orders[index].num_samples - segment.drawn[index]
            if allowed is not None and total[index] > allowed:
                over.append((segment.start + segment.stretch.draw_of(index, allowed) // self._batch_size, index))
        if not over:
            return None
        step, index = min(over)
        self._refuse_unless_handed_on(step, index, segment)
        spent.add(index)
        return step

    def _refuse_unless_handed_on(self, step: int, index: int, segment: _Segment) -> None:
        name = self.names[index]
        corpus = self.corpora[name]
        if corpus.then == "refuse":
            size = self._orders[index].num_samples
            raise RepetitionError(
                f"corpus '{name}' would be read more than max_epochs={corpus.max_epochs} times from step {step} on "
                f"(it has {size} samples): start it later, lower its weight, raise the cap, or let 'then' name a "
                "corpus to take over",
                corpus=name,
                step=step,
            )

    def _drawn(self, step: int) -> list[int]:
        if step == 0:
            return [0] * len(self.names)
        segment = self._segment(step - 1)
        counts = segment.stretch.counts((step - segment.start) * self._batch_size)
        return [d + n for d, n in zip(segment.drawn, counts, strict=True)]

    def _segment(self, step: int) -> _Segment:
        self.schedule.check_step(step)
        return self._segments[bisect_right(self._starts, step) - 1]

    def _index(self, corpus: str) -> int:
        try:
            return self.names.index(corpus)
        except ValueError:
            raise CorpusError(f"unknown corpus '{corpus}', known are {', '.join(self.names)}", path=corpus) from None

    def _draw_in_slot(self, step: int) -> _I64:
        """The draw of the step that stands in each slot: a keyed permutation, so that no stride of slots is special."""
        return np.argsort(random_words(self._slots_key, step, self._batch_size), kind="stable")

    def _draw_of(self, index: int, ordinal: int) -> int:
        """The draw of the run, counted from 0, that takes this ordinal."""
        low, high = 0, len(self._segments)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._segments[middle].drawn[index] <= ordinal else (low, middle)
        segment = self._segments[low]
        return segment.start * self._batch_size + segment.stretch.draw_of(index, ordinal - segment.drawn[index])

    def _slot_of(self, index: int, ordinal: int) -> tuple[int, int]:
        step, draw = divmod(self._draw_of(index, ordinal), self._batch_size)
        return step, int(np.flatnonzero(self._draw_in_slot(step) == draw)[0])


def _as_corpus(name: str, value: Sequence[int] | _I64 | Corpus, names: tuple[str, ...]) -> Corpus:
    corpus = value if isinstance(value, Corpus) else Corpus(shard_sizes=value)
    sizes = np.asarray(corpus.shard_sizes)
    if sizes.ndim != 1 or sizes.size == 0 or sizes.dtype.kind not in "iu" or (sizes < 0).any():
        raise CorpusError(f"corpus '{name}': shard sizes are a non-empty list of whole numbers of samples", path=name)
    if corpus.max_epochs is not None and corpus.max_epochs < 1:
        raise ScheduleError.of(
            [f"max_epochs must be at least 1, found {corpus.max_epochs} @ $.corpora.{name}.max_epochs"]
        )
    if corpus.then not in ("refuse", *names):
        problem = f"unknown corpus '{corpus.then}', known are {', '.join(names)}, or 'refuse' @ $.corpora.{name}.then"
        raise UnknownCorpusError.of([problem], names=[corpus.then])
    return corpus
