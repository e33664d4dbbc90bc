"""What a run looks like from outside: pure functions from a `State` to the bodies of answers.

They raise `NotInRunError` for what the run does not have, `InvalidRequestError` for ranges without sense.
"""

from dataclasses import asdict
from typing import Any

import numpy as np

from mixer import Forecast, Plan
from service.errors import InvalidRequestError, NotInRunError
from service.runs import State
from service.schemas import (
    BatchOut,
    ClaimOut,
    CorpusOut,
    CourseOut,
    ForecastOut,
    LedgerOut,
    ParentOut,
    PreviewOut,
    ReadOut,
    ReadsOut,
    RevisionBaseOut,
    RevisionIn,
    RunOut,
    ScheduleOut,
    StepWeightsOut,
    WeightsOut,
)

__all__ = [
    "batch",
    "course",
    "forecast",
    "ledger",
    "preview",
    "reads",
    "run",
    "schedule",
    "spread",
    "step_weights",
    "weights",
]

MAX_WORK = 4 * 10**6  # slots permuted for one answer
NOTHING = Forecast(samples=0, tokens=0, epochs=0.0, first_repeat_step=None, earliest_start=None, largest_weight=None)


def run(state: State) -> RunOut:
    """A run without the sizes of its shards, of which there may be a million."""
    definition, row = state.definition, state.row
    corpora = {name: _corpus(state, name) for name in state.plan.names}
    head = ("id", "name", "created", "order_version", "revision", "frontier", "step")
    kept = ("data_seed", "global_batch_size", "seq_len", "num_steps", "shuffle_window")
    return RunOut(
        corpora=corpora,
        limits={name: dict(limit) for name, limit in row.limits.items()},
        claim=None if row.claim is None else ClaimOut(**row.claim),
        parent=None if row.parent is None else ParentOut(**row.parent),
        **{name: getattr(row, name) for name in head},
        **{name: definition[name] for name in kept},
        num_groups=definition.get("num_groups", 1),
    )


def schedule(state: State) -> ScheduleOut:
    """The schedule in force, in canonical form."""
    kept = ("num_steps", "seq_len")
    return ScheduleOut(
        run=state.row.id,
        revision=state.row.revision,
        **_schedule(state.plan),
        **{name: state.definition[name] for name in kept},
    )


def ledger(state: State) -> LedgerOut:
    """The definition of a run, shard sizes and all, and every revision made to it."""
    head = ("id", "created", "order_version", "revision", "frontier", "step")
    return LedgerOut(
        definition=dict(state.definition),
        revisions=[RevisionBaseOut(**revision.to_dict()) for revision in state.ledger.revisions],
        **{name: getattr(state.row, name) for name in head},
    )


def step_weights(state: State, step: int) -> StepWeightsOut:
    """The weights of one step."""
    _check_step(state, step)
    return StepWeightsOut(
        revision=state.row.revision,
        step=step,
        frozen=step < state.row.frontier,
        weights=state.plan.weights(step),
    )


def weights(state: State, start: int | None, end: int | None, points: int) -> WeightsOut:
    """The weights of at most `points` steps spread over [start, end), by default the whole run."""
    start, end = _range(state, start, end)
    steps = spread(start, end, points)
    mixtures = [state.plan.weights(step) for step in steps]
    names = sorted({name for mixture in mixtures for name in mixture})
    return WeightsOut(
        revision=state.row.revision,
        start=start,
        end=end,
        frontier=state.row.frontier,
        switchpoints=[point for point in state.plan.schedule.switchpoints if start <= point < end],
        steps=steps,
        weights={name: [mixture.get(name, 0.0) for mixture in mixtures] for name in names},
    )


def spread(start: int, end: int, points: int) -> list[int]:
    """At most `points` (2 or more) steps of [start, end), evenly spread, both ends among them."""
    last = end - 1 - start
    if last < points:
        return list(range(start, end))
    return [start + index * last // (points - 1) for index in range(points)]


def forecast(state: State, step: int | None, points: int | None = None) -> ForecastOut:
    """The forecast for all steps below `step`, by default the whole run; with `points`, the course of the run too."""
    num_steps = state.row.num_steps
    if step is not None and step > num_steps:
        raise InvalidRequestError([f"the run ends at step {num_steps}, found {step} @ $.step"])
    step = num_steps if step is None else step
    return ForecastOut(
        revision=state.row.revision,
        step=step,
        corpora=_forecast(state.plan, step),
        course=None if points is None else course(state.plan, points),
    )


def course(plan: Plan, points: int) -> CourseOut:
    """The whole run at about `points` steps, its end among them."""
    num_steps = plan.schedule.num_steps
    steps = sorted({*spread(0, num_steps, points), *_corners(plan, points), num_steps})
    weights = [plan.weights(min(step, num_steps - 1)) for step in steps]
    drawn = [plan.drawn_before(step) for step in steps]
    orders = {name: plan.order_of(name) for name in plan.names}
    return CourseOut(
        steps=steps,
        weights={name: [mixture.get(name, 0.0) for mixture in weights] for name in plan.names},
        tokens={name: [counts[name] * plan.row_tokens(name) for counts in drawn] for name in plan.names},
        epochs={name: [order.epochs(counts[name]) for counts in drawn] for name, order in orders.items()},
    )


def _corners(plan: Plan, most: int) -> list[int]:
    """Where the lines of a course have corners: on both sides of the first phases' starts, and where ramps end."""
    phases, last = plan.schedule.phases[1:], plan.schedule.num_steps - 1
    ends = [
        phase.start + phase.ramp.length for phase in phases if phase.ramp and phase.start + phase.ramp.length <= last
    ]
    return [*(step for phase in phases for step in (phase.start - 1, phase.start)), *ends][:most]


def preview(state: State, plan: Plan, edit: RevisionIn, *, parent: int, points: int | None = None) -> PreviewOut:
    """The forecast of the whole run as it stands, and with the edit that makes `plan` of it."""
    step = state.row.num_steps
    after = _forecast(plan, step)
    return PreviewOut(
        parent=parent,
        effective_step=edit.effective_step,
        step=step,
        **_schedule(plan),
        before={**dict.fromkeys(after, asdict(NOTHING)), **_forecast(state.plan, step)},
        after=after,
        course=None if points is None else course(plan, points),
    )


def batch(state: State, step: int, start: int, limit: int) -> BatchOut:
    """Slots [start, start + limit) of a step."""
    _check_step(state, step)
    size = state.plan.schedule.batch_size(step)
    if start >= size:
        raise NotInRunError(f"step {step} has slots 0 to {size - 1}, not {start}")
    end, found = min(size, start + limit), state.plan.batch(step)
    return BatchOut(
        revision=state.row.revision,
        step=step,
        frozen=step < state.row.frontier,
        start=start,
        end=end,
        corpus=[state.plan.names[index] for index in found.corpus[start:end].tolist()],
        ordinal=found.ordinal[start:end].tolist(),
        epoch=found.epoch[start:end].tolist(),
        sample_id=found.sample_id[start:end].tolist(),
        next=end if end < size else None,
    )


def reads(state: State, corpus: str, sample_id: int, *, start: int | None, end: int | None, limit: int) -> ReadsOut:
    """Where in [start, end) a sample is read: about `limit` places, then `next` says where to go on."""
    start, asked = _range(state, start, end)
    num_samples = _num_samples(state, corpus)
    if sample_id >= num_samples:
        raise NotInRunError(f"{corpus} has samples 0 to {num_samples - 1}, not {sample_id}")
    # Finding the slot of a read costs one permutation of a step's slots, so large steps give shorter answers.
    largest = max(row.size for row in state.plan.schedule.batching.rows)
    limit = min(limit, max(1, MAX_WORK // largest))
    end = _last_step(state.plan, corpus, start, asked, num_epochs=limit)
    found, origins = state.plan.steps_of(corpus, sample_id, start, end), state.plan.origins
    return ReadsOut(
        revision=state.row.revision,
        corpus=corpus,
        sample_id=sample_id,
        start=start,
        end=end,
        also_named=[name for name, origin in origins.items() if origin == origins[corpus] and name != corpus],
        reads=[ReadOut(step=int(step), slot=int(slot)) for step, slot in found],
        next=end if end < asked else None,
    )


def _corpus(state: State, name: str) -> CorpusOut:
    corpus, origin = state.plan.corpora[name], state.plan.origins[name]
    return CorpusOut(
        origin=origin,
        num_shards=len(corpus.shard_sizes),
        num_samples=int(np.sum(corpus.shard_sizes)),
        max_epochs=corpus.max_epochs,
        then=corpus.then,
        fingerprint=state.definition["corpora"].get(origin, {}).get("fingerprint"),
    )


def _schedule(plan: Plan) -> dict[str, Any]:
    schedule = plan.schedule
    return {
        "changes": [],
        "batch_sizes": [],
        **schedule.to_dict(),
        "global_batch_size": schedule.global_batch_size,
    }


def _forecast(plan: Plan, step: int) -> dict[str, dict[str, Any]]:
    return {name: asdict(item) for name, item in plan.forecast(step).items()}


def _check_step(state: State, step: int) -> None:
    if step >= state.row.num_steps:
        raise NotInRunError(f"the run has steps 0 to {state.row.num_steps - 1}, not {step}")


def _range(state: State, start: int | None, end: int | None) -> tuple[int, int]:
    num_steps = state.row.num_steps
    start, end = start or 0, num_steps if end is None else end
    if not start < end <= num_steps:
        problem = f"start must be below end, end at most {num_steps}; found {start} and {end} @ $.end"
        raise InvalidRequestError([problem])
    return start, end


def _num_samples(state: State, corpus: str) -> int:
    if corpus not in state.plan.corpora:
        raise NotInRunError(f"the run has no corpus {corpus!r}; it has {', '.join(state.plan.names)}")
    return int(np.sum(state.plan.corpora[corpus].shard_sizes))


def _last_step(plan: Plan, corpus: str, start: int, end: int, *, num_epochs: int) -> int:
    """The highest step in (start, end] before which `corpus` is gone through `num_epochs` times at most from `start`.

    An epoch reads a sample once at most, however few of the samples are read.
    """
    most = plan.forecast(start)[corpus].epochs + num_epochs
    if plan.forecast(end)[corpus].epochs <= most:
        return end
    low, high = start + 1, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if plan.forecast(middle)[corpus].epochs <= most else (low, middle)
    return low
