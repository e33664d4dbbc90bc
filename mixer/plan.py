"""The plan: a pure function (data seed, schedule, corpus sizes) → which sample stands in each slot of each step.

No state, no clock, no rank count. `batch(step)` costs the same at every step. docs/DETERMINISM.md states the guarantees
and the tests that hold them. `ORDER_VERSION` names the order itself: any change that moves a single sample raises it.

Arithmetic only: standard library and NumPy.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixer import compiled
from mixer.building import BEGINNING, Builder, Past, Segment
from mixer.corpora import Corpus, Domain
from mixer.epochs import CorpusOrder, sample_ids
from mixer.errors import CorpusError, MixerError, ScheduleError, StepError
from mixer.keys import derive_key, random_words
from mixer.schedule import Schedule
from mixer.weights import UNIT

__all__ = ["ORDER_VERSION", "Batch", "Corpus", "Forecast", "Plan"]

ORDER_VERSION = 2

_I64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One step. Arrays [batch size of the step], int64, by slot. `corpus` indexes `Plan.names`."""

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


class Plan:
    """Which sample stands in each slot of each step.

    Args:
        schedule: the mixture of every step, and changes of the corpora.
        corpora: name → samples of each shard in shard order, or a `Corpus`. May hold more than the schedule names.
        data_seed: any integer; another seed gives another order.
        shuffle_window: shards that are shuffled together, and so in use together.
        past: what an earlier plan left (`Plan.past`): this one then answers for the steps from there on only.

    Raises UnknownCorpusError, CorpusError (no samples), RepetitionError (a cap would be exceeded) and ScheduleError (a
    change does not fit).
    """

    def __init__(
        self,
        schedule: Schedule,
        corpora: Mapping[str, Sequence[int] | _I64 | Corpus],
        *,
        data_seed: int,
        shuffle_window: int = 16,
        past: Past = BEGINNING,
    ) -> None:
        if shuffle_window < 1:
            raise MixerError(f"shuffle_window is a number of shards, at least 1, found {shuffle_window}")
        self.schedule = schedule
        every = [*(change for change, _ in past.changes), *schedule.changes]
        domain = Domain(corpora, every, data_seed=data_seed, shuffle_window=shuffle_window)
        schedule.check_names(domain.names)
        self.names = domain.names
        self._first_step = past.step
        builder = Builder(schedule, domain, past)
        self._segments = builder.build()
        self._starts = [segment.start for segment in self._segments]
        self._changes = builder.made
        self.corpora = {name: domain.corpus(name) for name in self.names}
        self.origins: Mapping[str, str] = domain.origins
        self._check_lengths()
        self._orders = [domain.order(index) for index in range(len(self.names))]
        self._slots_key = derive_key(data_seed, "slots")
        self._filler = compiled.BatchFiller([order.runs for order in self._orders], slots_key=self._slots_key)

    def weights(self, step: int) -> dict[str, float]:
        """The mixture of `step` in force, repetition caps applied; sums to 1."""
        weights = self._segment(step).stretch.weights
        scheduled = self.schedule.weights_ppb(step)
        return {n: weights.get(i, 0) / UNIT for i, n in enumerate(self.names) if n in scheduled or i in weights}

    def counts(self, step: int) -> dict[str, int]:
        """Samples of each corpus in `step`; corpora of which there are none are left out."""
        self._check_step(step)
        before, after = self._drawn(step), self._drawn(step + 1)
        return {name: after[i] - before[i] for i, name in enumerate(self.names) if after[i] > before[i]}

    def drawn_before(self, step: int) -> dict[str, int]:
        """Samples of each corpus in all steps below `step`, which may be the end of the run."""
        self.schedule.check_step(step, end=True)
        return dict(zip(self.names, self._drawn(step), strict=True))

    def batch(self, step: int) -> Batch:
        """What stands in each slot of `step`."""
        segment = self._segment(step)
        fill_batch = compiled.fill_batch(self.schedule.batch_size(step))
        if fill_batch is None:
            columns = self._columns(step, segment)
        else:
            columns = self._filler.fill(fill_batch, self._place(step, segment), lambda: self._columns(step, segment))
        corpus, ordinal, epoch, sample_id = columns
        return Batch(step=step, corpus=corpus, ordinal=ordinal, epoch=epoch, sample_id=sample_id)

    def steps_of(self, corpus: str, sample_id: int, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
        """Every (step, slot) in steps [start, end) that reads this sample, in order."""
        end = self.schedule.num_steps if end is None else end
        for step in (start, end):
            self._check_step(step, end=True)
        index = self._index(corpus)
        order = self._orders[index]
        if not 0 <= sample_id < order.num_samples:
            raise CorpusError(
                f"corpus '{corpus}' has samples 0 to {order.num_samples - 1}, not {sample_id}", path=corpus
            )
        first, last = self._drawn(start)[index], self._drawn(end)[index]
        return [self._slot_of(index, ordinal) for ordinal in order.ordinals_of(sample_id, first, last)]

    def forecast(self, step: int | None = None) -> dict[str, Forecast]:
        """Per corpus, what is read in all steps below `step` (default: the whole run), and where it first repeats."""
        step = self.schedule.num_steps if step is None else step
        self._check_step(step, end=True)
        drawn, total = self._drawn(step), self._drawn(self.schedule.num_steps)
        return {name: self._forecast(i, drawn[i], total[i]) for i, name in enumerate(self.names)}

    def step_of(self, corpus: str, ordinal: int) -> int | None:
        """The step that makes the ordinal-th draw (from 0) of `corpus`, or None if the run ends before."""
        index = self._index(corpus)
        if not 0 <= ordinal < self._drawn(self.schedule.num_steps)[index]:
            return None
        return self.schedule.step_of_draw(self._draw_of(index, ordinal))[0]

    @property
    def stretch_starts(self) -> Sequence[int]:
        """The first step of each stretch of constant weights in force, ascending."""
        return self._starts

    def order_of(self, corpus: str) -> CorpusOrder:
        """The order in which the samples of a corpus are read, by ordinal."""
        return self._orders[self._index(corpus)]

    def row_tokens(self, corpus: str) -> int:
        """Tokens of each sample of a corpus."""
        return self.corpora[corpus].seq_len or self.schedule.seq_len

    def num_readable(self, corpus: str) -> int:
        """Samples of a whole epoch of a corpus, at the end of the run."""
        return self.order_of(corpus).num_readable

    def past(self, step: int) -> Past:
        """What the steps before leave to those from `past.step` on: the start of the stretch of the last step before.

        Not one that begins at `step`: a revision there might yet let the stretch before it go on.
        """
        self._check_step(step, end=True)
        segment = self._segments[max(bisect_left(self._starts, step) - 1, 0)]
        return Past(
            step=segment.start,
            drawn=dict(zip(self.names, segment.drawn, strict=True)),
            errors=dict(zip(self.names, segment.errors, strict=True)),
            spent=tuple(self.names[index] for index in sorted(segment.spent)),
            changes=tuple(self._changes[: segment.num_changes]),
        )

    def _forecast(self, index: int, drawn: int, total: int) -> Forecast:
        order = self._orders[index]
        unread = order.start_of(1)  # as many can be read before one is read again
        repeats = self.step_of(self.names[index], unread)
        earliest = largest = None
        if repeats is not None:
            last_unusable, _ = self.schedule.step_of_draw(self._draw_of(index, total - unread - 1))
            first_used, _ = self.schedule.step_of_draw(self._draw_of(index, 0))
            earliest = last_unusable + 1
            largest = unread / (self.schedule.num_samples - self.schedule.first_draw(first_used))
        return Forecast(
            samples=drawn,
            tokens=drawn * self.row_tokens(self.names[index]),
            epochs=order.epochs(drawn),
            first_repeat_step=repeats,
            earliest_start=earliest,
            largest_weight=largest,
        )

    def _check_lengths(self) -> None:
        """Raise ScheduleError unless all corpora of weight above 0 in a step have rows of the length of its phase."""
        if self.schedule.has_one_length and all(corpus.seq_len is None for corpus in self.corpora.values()):
            return
        problems: dict[tuple[str, int], str] = {}
        for segment, end in zip(self._segments, [*self._starts[1:], self.schedule.num_steps], strict=True):
            for phase, step, context in self.schedule.contexts_in(segment.start, end):
                for name in (self.names[index] for index in segment.stretch.weights):
                    if (own := self.row_tokens(name)) != (wanted := context.seq_len):
                        problems.setdefault((name, wanted), _other_length(name, own, step, wanted, phase))
        if problems:
            raise ScheduleError.of(list(problems.values()))

    def _columns(self, step: int, segment: Segment) -> compiled.Columns:
        """What stands in each slot, with NumPy: the reference for `mixer.kernels`."""
        place = self._place(step, segment)
        picked = segment.stretch.pick(place.start, place.size)
        firsts = [segment.drawn[corpus] + rank for corpus, rank, _ in picked]
        lengths = [len(places) for _, _, places in picked]
        runs = [
            run
            for (corpus, _, _), first, length in zip(picked, firsts, lengths, strict=True)
            for run in self._orders[corpus].runs(first, first + length)
        ]
        # so far by corpus; `where` leads from the slot to the draw that stands in it, and from there into these arrays
        where = np.empty(place.size, np.int64)
        where[np.concatenate([places for _, _, places in picked])] = np.arange(place.size)
        where = where[self._draw_in_slot(step)]
        return (
            np.repeat([corpus for corpus, _, _ in picked], lengths)[where],
            np.concatenate([np.arange(f, f + n) for f, n in zip(firsts, lengths, strict=True)])[where],
            np.repeat([run.epoch for run in runs], [run.length for run in runs])[where],
            sample_ids(runs)[where],
        )

    def _place(self, step: int, segment: Segment) -> compiled.Place:
        following = bisect_right(self._starts, step)
        end = self._starts[following] if following < len(self._starts) else self.schedule.num_steps
        first, last = (self.schedule.first_draw(border) - segment.first_draw for border in (step, end))
        return compiled.Place(step, self.schedule.batch_size(step), segment.stretch, segment.drawn, first, last)

    def _drawn(self, step: int) -> list[int]:
        if step == self._first_step:
            return self._segments[0].drawn
        segment = self._segment(step - 1)
        counts = segment.stretch.counts(self.schedule.first_draw(step) - segment.first_draw)
        return [d + n for d, n in zip(segment.drawn, counts, strict=True)]

    def _segment(self, step: int) -> Segment:
        self._check_step(step)
        return self._segments[bisect_right(self._starts, step) - 1]

    def _check_step(self, step: int, *, end: bool = False) -> None:
        self.schedule.check_step(step, end=end)
        if step < self._first_step:
            raise StepError(
                f"step {step} is below step {self._first_step}, from which on this plan was kept: what lies before "
                "is in the run's ledger",
                step=step,
            )

    def _index(self, corpus: str) -> int:
        try:
            return self.names.index(corpus)
        except ValueError:
            raise CorpusError(f"unknown corpus '{corpus}', known are {', '.join(self.names)}", path=corpus) from None

    def _draw_in_slot(self, step: int) -> _I64:
        """The draw of the step that stands in each slot: a keyed permutation, so that no stride of slots is special."""
        return np.argsort(random_words(self._slots_key, step, self.schedule.batch_size(step)), kind="stable")

    def _draw_of(self, index: int, ordinal: int) -> int:
        """The draw of the run, counted from 0, that takes this ordinal."""
        low, high = 0, len(self._segments)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._segments[middle].drawn[index] <= ordinal else (low, middle)
        segment = self._segments[low]
        return segment.first_draw + segment.stretch.draw_of(index, ordinal - segment.drawn[index])

    def _slot_of(self, index: int, ordinal: int) -> tuple[int, int]:
        step, draw = self.schedule.step_of_draw(self._draw_of(index, ordinal))
        return step, int(np.flatnonzero(self._draw_in_slot(step) == draw)[0])


def _other_length(name: str, own: int, step: int, wanted: int, phase: int) -> str:
    return (
        f"corpus '{name}' has rows of {own} tokens, and step {step} reads it among rows of {wanted}: all corpora of a "
        f"phase share its length; convert it with --seq-len {wanted}, or say seq_len: {own} in the phase that begins "
        f"to read it @ $.schedule.phases[{phase}]"
    )
