"""Questions about a schedule asked backwards: from when, or how much of, may a corpus be used without reading it again?
And what must be on disk by some step?

The answers are the plan's own, not those of a formula beside it: an answer's schedule makes a plan that keeps to the
limit, and with the start one step earlier, or the weight 10^-9 higher, it does not. (A corpus reads less the later it
starts but for single samples, as a plan may be up to two off its target; so a start earlier still that keeps to the
limit can only be as near as that.) A question costs some twenty plans, whatever the length of the run.

What is asked about is one corpus. The others share what it leaves in the proportions they have without it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mixer.epochs import CorpusOrder
from mixer.errors import CorpusError, MixerError, StepError
from mixer.plan import Corpus, Forecast, Plan
from mixer.ramp import Ramp
from mixer.schedule import Phase, Schedule
from mixer.weights import UNIT, Mixture, apportion

_I64 = NDArray[np.int64]

NEAR = 4  # samples that a plan may be off a straight line: two at either end


@dataclass(frozen=True, kw_only=True)
class Use:
    """A corpus at `weight` (parts per 10^9) in steps [start, end), reached over `ramp`; `end` None is the run's end.

    In a question, None stands for what is asked, or for what the question says it does.
    """

    corpus: str
    weight: int | None = None
    start: int | None = None
    end: int | None = None
    ramp: Ramp | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`use` with what was asked filled in, the schedule that has it, and the forecast of its whole run."""

    use: Use
    schedule: Schedule
    forecasts: Mapping[str, Forecast]

    @property
    def forecast(self) -> Forecast:
        """Of the corpus that was asked about."""
        return self.forecasts[self.use.corpus]


@dataclass(frozen=True, kw_only=True)
class Need:
    """What must have been fetched of a corpus for every step below some step.

    `shards` counts those of all windows that are entered by then: at most `shuffle_window` - 1 more than have been read
    from, and what a reader that fetches by windows has on disk. `samples` are different ones, `reads` are all. `bytes`
    is None where the sizes of the shards on disk are not known.
    """

    samples: int
    reads: int
    tokens: int
    epochs: float
    shards: int
    num_shards: int
    bytes: int | None


class Solver:
    """Answers for one schedule.

    Args:
        schedule: as written; a corpus that is asked about need not be in it.
        corpora: as `Plan` takes them. Caps that refuse are left aside here; those that hand a share on act as ever,
            but for the corpus that is asked about.
        frozen: steps below this stand as they are written.
        max_epochs: how often a sample may be read; 1 is no repetition.

    Questions raise MixerError for a corpus, step or weight that cannot be asked about.
    """

    def __init__(
        self,
        schedule: Schedule,
        corpora: Mapping[str, Sequence[int] | _I64 | Corpus],
        *,
        frozen: int = 0,
        max_epochs: int = 1,
    ) -> None:
        schedule.check_step(frozen, end=True)
        self.schedule, self.frozen, self.max_epochs = schedule, frozen, max_epochs
        self._corpora = {name: _as_corpus(corpus, whole=not schedule.changes) for name, corpus in corpora.items()}

    def what_if(self, use: Use) -> Answer:
        """The schedule with `use`, which must have a weight and a start; elsewhere it stands as written."""
        self._check(use)
        if use.weight is None or use.start is None:
            raise MixerError(f"say at which weight and from which step on '{use.corpus}' would be used")
        return self._answer(use, self._at_weight(use, use.weight))

    def earliest_start(self, use: Use) -> Answer | None:
        """The earliest step from which `use.corpus` can be read within the limit, if it is not read before.

        With a weight: at that weight up to `use.end`. Without one: as written from there on; a start earlier than
        the one written brings the corpus in at the weight and by the ramp with which it is written to come in.
        None: not even in the last step.
        """
        self._check(use)
        at = self._starts_as_written(use.corpus) if use.weight is None else self._starts_at(use)
        end = self.schedule.num_steps if use.end is None else use.end
        joined = [change.step for change in self.schedule.changes if change.name == use.corpus]
        first = self.frozen if use.corpus in self._corpora else max(self.frozen, *joined[:1])
        start = _crossing(lambda step: self._excess(use.corpus, at(step)), first, end)
        return None if start is None or start == end else self._answer(replace(use, start=start), at(start))

    def largest_weight(self, use: Use) -> Answer | None:
        """The largest weight that `use.corpus` can have in steps [use.start, use.end) within the limit.

        Elsewhere the schedule stands as written. Without a start: from the corpus's first step that is not frozen. A
        phase that begins at the start keeps its ramp, unless `use` has one. None: not even 10^-9.
        """
        if use.start is None:
            use = replace(use, start=max(self._first_phase(use.corpus).start, self.frozen))
        self._check(use)
        less = _crossing(lambda less: self._excess(use.corpus, self._at_weight(use, UNIT - less)), 0, UNIT)
        if less is None or less == UNIT:
            return None
        return self._answer(replace(use, weight=UNIT - less), self._at_weight(use, UNIT - less))

    def _at_weight(self, use: Use, weight: int) -> Schedule:
        written = next((phase.ramp for phase in self.schedule.phases if phase.start == use.start), None)
        return with_use(self.schedule, replace(use, weight=weight, ramp=use.ramp or written))

    def _starts_at(self, use: Use) -> Callable[[int], Schedule]:
        """step → the schedule in which the corpus comes in there, and is not read before."""
        without = with_use(self.schedule, Use(corpus=use.corpus, start=self.frozen))
        return lambda step: with_use(without, replace(use, start=step))

    def _starts_as_written(self, corpus: str) -> Callable[[int], Schedule]:
        """step → the schedule in which the corpus comes in there, and not where it is written to."""
        phase = self._first_phase(corpus)
        written, ramp = max(phase.start, self.frozen), phase.ramp if phase.start >= self.frozen else None

        def at(step: int) -> Schedule:
            if step < written:
                earlier = Use(corpus=corpus, weight=phase.mixture[corpus], start=step, end=written, ramp=ramp)
                return with_use(self.schedule, earlier)
            return with_use(self.schedule, Use(corpus=corpus, start=self.frozen, end=step), ramp_back=ramp)

        return at

    def _first_phase(self, corpus: str) -> Phase:
        """The first phase that uses the corpus in a step that is not frozen."""
        for phase in self.schedule.phases:
            if phase.end > self.frozen and phase.mixture.get(corpus, 0):
                return phase
        raise MixerError(
            f"the schedule does not use '{corpus}' from step {self.frozen} on: say from where, or at which weight"
        )

    def _answer(self, use: Use, schedule: Schedule) -> Answer:
        return Answer(use=use, schedule=schedule, forecasts=self._plan(use.corpus, schedule).forecast())

    def _excess(self, corpus: str, schedule: Schedule) -> int:
        """Samples that a run under `schedule` reads of the corpus beyond what it may."""
        plan = self._plan(corpus, schedule)
        order = plan.order_of(corpus)
        return plan.drawn_before(schedule.num_steps)[corpus] - order.start_of(self.max_epochs)

    def _plan(self, corpus: str, schedule: Schedule) -> Plan:
        """A plan that draws as the run's own would: neither seed nor shards decide how much of what is drawn."""
        corpora = {
            name: replace(one, max_epochs=None) if name == corpus or one.then == "refuse" else one
            for name, one in self._corpora.items()
        }
        return Plan(schedule, corpora, data_seed=0)

    def _check(self, use: Use) -> None:
        known = self._corpora.keys() | {change.name for change in self.schedule.changes}
        if use.corpus not in known:
            raise CorpusError(f"unknown corpus '{use.corpus}', known are {', '.join(sorted(known))}", path=use.corpus)
        if use.weight is not None and not 0 < use.weight <= UNIT:
            raise MixerError(f"a weight is above 0 and at most 1, found {use.weight / UNIT:g} for '{use.corpus}'")
        start = self.frozen if use.start is None else use.start
        end = self.schedule.num_steps if use.end is None else use.end
        if not self.frozen <= start < end <= self.schedule.num_steps:
            raise StepError(
                f"'{use.corpus}' cannot be used in steps {start} to {end}: what may change are steps {self.frozen} to "
                f"{self.schedule.num_steps}",
                step=start,
            )


def needed_by(plan: Plan, step: int, shard_bytes: Mapping[str, Sequence[int]] | None = None) -> dict[str, Need]:
    """Per corpus, what all steps below `step` need; `shard_bytes` gives each shard's size on disk, by corpus.

    Arithmetic over shards, whatever is read. Raises StepError for a step outside of the run.
    """
    needs = {}
    for name, forecast in plan.forecast(step).items():
        order = plan.order_of(name)
        samples = min(forecast.samples, order.start_of(1))
        shards = _shards_entered(order, samples)
        known = (shard_bytes or {}).get(name)
        needs[name] = Need(
            samples=samples,
            reads=forecast.samples,
            tokens=forecast.tokens,
            epochs=forecast.epochs,
            shards=len(shards),
            num_shards=len(order.shard_sizes),
            bytes=None if known is None else int(np.asarray(known, np.int64)[shards].sum()),
        )
    return needs


def _shards_entered(order: CorpusOrder, end: int) -> _I64:
    """The shards of the windows that hold the first `end` samples read of a corpus, ascending."""
    ends = np.cumsum(order.shard_sizes)
    entered = np.zeros(len(ends) + 1, np.int64)
    for run in order.runs(0, end):
        sizes = np.diff(run.shard_ends, prepend=0)
        firsts, lasts = run.sample_ends - run.strides * sizes, run.sample_ends - run.strides
        np.add.at(entered, np.searchsorted(ends, firsts[sizes > 0], side="right"), 1)  # a segment may span shards
        np.add.at(entered, np.searchsorted(ends, lasts[sizes > 0], side="right") + 1, -1)
    return np.flatnonzero((np.cumsum(entered)[:-1] > 0) & (order.shard_sizes > 0))


def with_use(schedule: Schedule, use: Use, *, ramp_back: Ramp | None = None) -> Schedule:
    """`schedule` with the corpus at `use.weight` (None: not read) in steps [start, end) of `use`, by its ramp.

    The others share the rest as they do without it; where it stands alone, as they last did before, or else first do
    after. A ramp under way at start or end is cut there; `ramp_back` leads to what is written from the end on. Raises
    MixerError if there is no other corpus to share the rest.
    """
    start, end = use.start or 0, schedule.num_steps if use.end is None else use.end
    during = _clip(_with_share(schedule.phases, use.corpus, use.weight or 0), start, end)
    after = _clip(schedule.phases, end, schedule.num_steps)
    if during:
        during[0] = replace(during[0], ramp=use.ramp)
    if after:
        after[0] = replace(after[0], ramp=after[0].ramp or ramp_back)
    first, *others = (*_clip(schedule.phases, 0, start), *during, *after)
    return replace(schedule, phases=(replace(first, ramp=None), *others))  # at step 0 there is nothing to ramp from


def _clip(phases: Sequence[Phase], start: int, end: int) -> list[Phase]:
    """What lies in steps [start, end) of phases; a ramp goes with its first step."""
    return [
        replace(
            phase,
            start=max(phase.start, start),
            end=min(phase.end, end),
            ramp=phase.ramp if phase.start >= start else None,
        )
        for phase in phases
        if max(phase.start, start) < min(phase.end, end)
    ]


def _with_share(phases: Sequence[Phase], corpus: str, weight: int) -> list[Phase]:
    """Phases with the corpus at `weight` in all of them."""
    rests = [tuple((n, w) for n, w in sorted(phase.mixture.items()) if w and n != corpus) for phase in phases]
    rest = next((rest for rest in rests if rest), ())
    shared = []
    for phase, own in zip(phases, rests, strict=True):
        rest = own or rest
        shared.append(replace(phase, mixture=_beside(rest, corpus, weight)))
    return shared


@lru_cache(maxsize=1 << 14)
def _beside(rest: tuple[tuple[str, int], ...], corpus: str, weight: int) -> Mixture:
    if weight == UNIT:
        return {corpus: UNIT}
    if not rest:
        raise MixerError(f"'{corpus}' is the only corpus of the schedule: nothing could take the rest of its weight")
    mixture = apportion({name: Fraction(share) for name, share in rest}, UNIT - weight)
    return {**mixture, corpus: weight} if weight else mixture


def _crossing(excess: Callable[[int], int], low: int, high: int) -> int | None:
    """`low` where nothing is in excess, else x in (low, high] with excess(x) ≤ 0 < excess(x - 1), or None without one.

    What is read is nearly a straight line in start and weight: a guess to either side of where it would reach the
    limit nearly always brackets the answer. Halving what is left as well bounds the worst case.
    """
    above, below = excess(low), excess(high)
    if above <= 0:
        return low
    if below > 0:
        return None
    while high - low > 1:
        guess = low + (high - low) * above // (above - below)
        margin = (high - low) * NEAR // (above - below) + 1
        for side in (-margin, margin, 0):
            x = guess + side if side else (low + high) // 2
            if low < x < high:
                found = excess(x)
                low, above, high, below = (x, found, high, below) if found > 0 else (low, above, x, found)
    return high


def _as_corpus(corpus: Sequence[int] | _I64 | Corpus, *, whole: bool) -> Corpus:
    """`whole`: as one shard, where nothing depends on shards."""
    corpus = corpus if isinstance(corpus, Corpus) else Corpus(shard_sizes=corpus)
    return replace(corpus, shard_sizes=[int(np.sum(corpus.shard_sizes))]) if whole else corpus
