"""Two plans beside each other: where their weights differ, and what the one reads that the other does not.

By arithmetic where it can be. Two plans of one data seed, shuffle window and corpus read that corpus in the same order,
so what both have read of it below a step is the shorter of two beginnings of that order: counts of draws say all; where
one skips a part (a fork that reads the unseen alone), places in that order do. Only where one has lost or gained
samples are the readings compared one by one. An edit is judged the same way, by the plan before and the plan with it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from mixer.epochs import sample_ids
from mixer.errors import MixerError
from mixer.plan import Forecast, Plan
from mixer.ranges import Ranges
from mixer.schedule import Schedule

Weights = Mapping[str, float]
MAX_READINGS = 50_000_000

_NOTHING = Forecast(
    samples=0, tokens=0, epochs=0.0, first_repeat_step=None, earliest_start=None, largest_weight=None
)  # of a corpus that a run does not have


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Steps [start, end) in which the weights of two plans differ; `a` and `b` at its first and at its last step."""

    start: int
    end: int
    a: tuple[Weights, Weights]
    b: tuple[Weights, Weights]


@dataclass(frozen=True, kw_only=True)
class Reads:
    """What two plans read of one corpus in all steps below `Comparison.step`, in samples.

    `common` is how many readings, of a sample in an epoch, are in both; None where they cannot be told (another seed or
    corpus under the name, or more than `MAX_READINGS` to be compared one by one). The first repeats are of the whole
    runs.
    """

    a: int
    b: int
    common: int | None
    a_epochs: float
    b_epochs: float
    a_first_repeat: int | None
    b_first_repeat: int | None

    @property
    def only_a(self) -> int | None:
        return None if self.common is None else self.a - self.common

    @property
    def only_b(self) -> int | None:
        return None if self.common is None else self.b - self.common


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`first_difference` is the first step whose weights differ (None: none that both have), `stretches` all of them.

    `first_other_size` is the first step that has another batch size (None likewise). Below `same_below` both read the
    same samples in the same slots. `step` is what `corpora` counts up to.
    """

    step: int
    num_steps: tuple[int, int]
    seq_len: int
    first_difference: int | None
    first_other_size: int | None
    same_below: int
    stretches: tuple[Stretch, ...]
    corpora: Mapping[str, Reads]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with what follows from the counts written out."""
        stretches = [
            {"start": s.start, "end": s.end, "a": dict(zip(("first", "last"), s.a, strict=True)),
             "b": dict(zip(("first", "last"), s.b, strict=True))}
            for s in self.stretches
        ]  # fmt: skip
        corpora = {name: {**vars(r), "only_a": r.only_a, "only_b": r.only_b} for name, r in self.corpora.items()}
        return {**vars(self), "num_steps": list(self.num_steps), "stretches": stretches, "corpora": corpora}


def compare(a: Plan, b: Plan, *, step: int | None = None, same_seed: bool = True) -> Comparison:
    """What sets two plans apart, counting what is read below `step` (default: the end of the shorter run).

    `same_seed` says whether both have one data seed and one shuffle window. Raises MixerError if samples of the two
    cannot be counted alike, StepError for a step that is not in both.
    """
    if a.schedule.seq_len != b.schedule.seq_len:
        lengths = f"{a.schedule.seq_len} and {b.schedule.seq_len}"
        raise MixerError(f"samples of {lengths} tokens cannot be compared: seq_len must be the same")
    num_steps = a.schedule.num_steps, b.schedule.num_steps
    step = min(num_steps) if step is None else step
    for plan in (a, b):
        plan.schedule.check_step(step, end=True)
    stretches = tuple(_stretches(a, b))
    first = stretches[0].start if stretches else None
    other_size = _first_other_size(a.schedule, b.schedule)
    until = min(step for step in (*num_steps, first, other_size) if step is not None)
    alike = same_seed and all(_same_order(a, b, name, until) for name, drawn in a.drawn_before(until).items() if drawn)
    return Comparison(
        step=step,
        num_steps=num_steps,
        seq_len=a.schedule.seq_len,
        first_difference=first,
        first_other_size=other_size,
        same_below=until if alike else 0,
        stretches=stretches,
        corpora=_reads(a, b, step, same_seed),
    )


def _first_other_size(a: Schedule, b: Schedule) -> int | None:
    starts = sorted({row.start for row in (*a.batching.rows, *b.batching.rows)})
    differ = (step for step in starts if a.batching.size(step) != b.batching.size(step))
    first = next(differ, None)
    return None if first is None or first >= min(a.num_steps, b.num_steps) else first


def pieces_in_force(plan: Plan) -> Iterator[tuple[int, int, Weights]]:
    """(start, end, weights above 0): the run in steps of equal weights, caps applied, each as long as can be."""
    for start, end in pairwise([*plan.stretch_starts, plan.schedule.num_steps]):
        yield start, end, {name: weight for name, weight in plan.weights(start).items() if weight}


def _stretches(a: Plan, b: Plan) -> Iterator[Stretch]:
    """Where the weights differ, cut at switchpoints; a ramp is one stretch."""
    end = min(a.schedule.num_steps, b.schedule.num_steps)
    switchpoints = {*a.schedule.switchpoints, *b.schedule.switchpoints}
    current: Stretch | None = None
    for start, stop, of_a, of_b in _side_by_side(a, b, end):
        if current and (of_a == of_b or start in switchpoints):
            yield current
            current = None
        if of_a != of_b:
            first = (of_a, of_b) if current is None else (current.a[0], current.b[0])
            begin = start if current is None else current.start
            current = Stretch(start=begin, end=stop, a=(first[0], of_a), b=(first[1], of_b))
    if current:
        yield current


def _side_by_side(a: Plan, b: Plan, end: int) -> Iterator[tuple[int, int, Weights, Weights]]:
    """(start, end, weights of a, weights of b) for all steps below `end`, cut where either changes."""
    of_a, of_b = ({start: weights for start, _, weights in pieces_in_force(plan) if start < end} for plan in (a, b))
    now_a: Weights = {}
    now_b: Weights = {}
    for start, stop in pairwise(sorted({*of_a, *of_b, end})):
        now_a, now_b = of_a.get(start, now_a), of_b.get(start, now_b)
        yield start, stop, now_a, now_b


def _reads(a: Plan, b: Plan, step: int, same_seed: bool) -> dict[str, Reads]:
    forecasts = a.forecast(step), b.forecast(step)
    reads: dict[str, Reads] = {}
    for name in sorted({*a.names, *b.names}):
        of_a, of_b = (forecast.get(name, _NOTHING) for forecast in forecasts)
        fewer = min(of_a.samples, of_b.samples)
        if fewer and same_seed:
            same = _same_order(a, b, name, step)
            common = fewer if same else _common(a, b, name, (of_a.samples, of_b.samples))
        else:
            common = None if fewer else 0
        reads[name] = Reads(
            a=of_a.samples,
            b=of_b.samples,
            common=common,
            a_epochs=of_a.epochs,
            b_epochs=of_b.epochs,
            a_first_repeat=of_a.first_repeat_step,
            b_first_repeat=of_b.first_repeat_step,
        )
    return reads


def _common(a: Plan, b: Plan, name: str, samples: tuple[int, int]) -> int | None:
    """How many readings of a corpus the first `samples` of each plan of one seed have in common, order by order."""
    of_a, of_b = a.order_of(name), b.order_of(name)
    if of_a.same_but_for_skips(of_b):
        return _overlap(of_a.places(0, samples[0]), of_b.places(0, samples[1]))
    if not of_a.begins_like(of_b) or sum(samples) > MAX_READINGS:
        return None
    num_samples = max(of_a.num_samples, of_b.num_samples)
    readings = []
    for order, count in zip((of_a, of_b), samples, strict=True):
        runs = order.runs(0, count)
        epochs = np.repeat([run.epoch for run in runs], [run.length for run in runs])
        readings.append(epochs * num_samples + sample_ids(runs))
    return len(np.intersect1d(readings[0], readings[1], assume_unique=True))


def _overlap(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> int:
    """How many whole numbers lie in a range of both lists, each of disjoint ranges."""
    one = Ranges(a)
    return sum(int(one.count_below(np.array([start, end])) @ [-1, 1]) for start, end in b)


def _same_order(a: Plan, b: Plan, name: str, step: int) -> bool:
    """Whether two plans of one seed and window read a corpus in one order below `step`."""
    return bool(_order_of(a, name, step) == _order_of(b, name, step))


def _order_of(plan: Plan, name: str, step: int) -> Any:
    """All that decides the order of a corpus below `step`: its shards, the changes made to it, and where in it."""
    names, made, num_later = {name}, [], 0
    for change in reversed(plan.schedule.changes):
        if change.name in names or change.arguments.get("from") in names:
            names.add(change.arguments.get("from", change.name))
            if change.step < step:
                source = change.arguments.get("from", change.name)
                made.append((change.name, change.verb, change.arguments, plan.drawn_before(change.step)[source]))
            else:
                num_later += len(change.arguments["shard_sizes"]) if change.verb == "grow" else 0
    sizes = plan.corpora[name].shard_sizes if name in plan.corpora else ()
    return np.asarray(sizes, np.int64)[: len(sizes) - num_later].tobytes(), made
