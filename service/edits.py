"""The rules of an edit, pure functions on values: what it may be, what plan it makes, when it is passed.

Places in problems are those of the request ($.mixture.c4, $.schedule.phases[1].start), and all problems of
an edit come at once: unknown corpora together with wrong weights.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mixer import Corpus, Ledger, Plan, Revision, Schedule, ScheduleError
from service.schemas import RevisionIn

__all__ = ["base_schedule", "make_plan", "passed_over", "propose"]


def base_schedule(definition: Mapping[str, Any]) -> Schedule:
    """The schedule a run is made with; `ScheduleError` with every problem of it, unknown corpora too."""
    sizes = {name: definition[name] for name in ("num_steps", "global_batch_size", "seq_len")}
    obj, problems = definition["schedule"], list(_unknown_heirs(definition["corpora"]))
    for index, phase in enumerate(obj["phases"]):
        where = f"$.schedule.phases[{index}].mixture"
        problems += _unknown(phase.get("mixture"), definition["corpora"], where)
    try:
        schedule = Schedule.from_dict(obj, **sizes, place="$.schedule")
    except ScheduleError as error:
        raise ScheduleError.of([*problems, *error.problems]) from error
    if problems:
        raise ScheduleError.of(problems)
    return schedule


def make_plan(definition: Mapping[str, Any], schedule: Schedule) -> Plan:
    """The plan of a run under `schedule`.

    `RepetitionError` where a corpus would exceed its cap, `ScheduleError` where a change of the corpora does not fit.
    """
    kept = ("shard_sizes", "max_epochs", "then")
    corpora = {name: Corpus(**{key: corpus[key] for key in kept}) for name, corpus in definition["corpora"].items()}
    seed, window = definition["data_seed"], definition["shuffle_window"]
    return Plan(schedule, corpora=corpora, data_seed=seed, shuffle_window=window)


def propose(
    ledger: Ledger, edit: RevisionIn, *, parent: int, frontier: int, corpora: Iterable[str], time: str
) -> Ledger:
    """The ledger with `edit` as its newest revision.

    What `Ledger.propose` refuses is refused (`StaleParentError`, `FrozenStepError`, `ScheduleError`), and so are
    names that are none of `corpora`.
    """
    problems = list(_unknown_in(edit, corpora))
    try:
        longer = ledger.propose(
            edit.change(),
            parent=parent,
            effective_step=edit.effective_step,
            frontier=frontier,
            author=edit.author,
            reason=edit.reason,
            time=time,
        )
    except ScheduleError as error:
        raise ScheduleError.of([*problems, *error.problems]) from error
    if problems:
        raise ScheduleError.of(problems)
    return longer


def passed_over(revisions: Sequence[Revision], *, known_revision: int, decided_through: int) -> dict[int, str]:
    """The revisions that a trainer's report takes out of force: number → reason.

    revisions: a ledger's, by number. The trainer has handed out every step below `decided_through` under
    `known_revision`. A newer revision that was to take effect at one of those steps did not: it is
    superseded. So is every revision made after it: each was made against one that is now gone (and its
    ramp, if it has one, would start from a mixture that never was), so nobody has seen the schedule that
    would remain. Its author makes it again against what is in force, having seen it.
    """
    reasons: dict[int, str] = {}
    first = None
    for revision in revisions:
        number, step = revision.number, revision.effective_step
        if number <= known_revision or revision.superseded is not None:
            continue
        if step < decided_through:
            reasons[number] = (
                f"the trainer passed step {step} under revision {known_revision}: it had handed out every "
                f"step below {decided_through} when it first could hear of this revision"
            )
            first = number if first is None else first
        elif first is not None:
            reasons[number] = (
                f"it was made after revision {first}, which the trainer had passed before it could hear of "
                "it; make it again against the revision in force"
            )
    return reasons


def _unknown_in(edit: RevisionIn, corpora: Iterable[str]) -> Iterator[str]:
    if edit.mixture is not None:
        yield from _unknown(edit.mixture, corpora, "$.mixture")
    if edit.schedule is not None:
        for index, phase in enumerate(edit.schedule.phases):
            yield from _unknown(phase.get("mixture"), corpora, f"$.schedule.phases[{index}].mixture")


def _unknown_heirs(corpora: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A problem for each corpus whose share would go, at its cap, to one that does not exist."""
    for name, corpus in corpora.items():
        if corpus["then"] not in ("refuse", *corpora):
            yield f"unknown corpus {corpus['then']!r} @ $.corpora.{name}.then"


def _unknown(mixture: Any, corpora: Iterable[str], where: str) -> Iterator[str]:
    """A problem for each name in a mixture as written, groups too, that is none of `corpora`."""
    pending = [(mixture, where)]
    while pending:
        found, where = pending.pop()
        for name, value in found.items() if isinstance(found, Mapping) else ():
            if isinstance(value, Mapping):
                pending.append((value.get("parts"), f"{where}.{name}.parts"))
            elif name not in corpora:
                close = difflib.get_close_matches(name, list(corpora), n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(corpora))}"
                yield f"unknown corpus {name!r}, {hint} @ {where}.{name}"
