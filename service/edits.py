"""The rules of an edit, pure functions on values: what it may be, what plan it makes, when it is passed.

Places in problems are those of the request ($.mixture.c4, $.schedule.phases[1].start, $.corpora.c4.grow), and all
problems that can be seen in the edit itself come at once: unknown corpora together with wrong weights. Whether changes
of corpora fit each other is for the plan to say, one at a time.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mixer import Corpus, Ledger, Plan, Revision, Schedule, ScheduleError, groups
from mixer.changes import MAKES_A_NAME, Change
from service.errors import KnownRevisionError
from service.schemas import RevisionIn

__all__ = [
    "Settled",
    "agree",
    "base_schedule",
    "corpora_names",
    "differences",
    "make_plan",
    "passed_over",
    "plan_edit",
    "propose",
    "settle",
]


def base_schedule(definition: Mapping[str, Any]) -> Schedule:
    """The schedule a run is made with; `ScheduleError` with every problem of it, unknown corpora too."""
    sizes = {name: definition[name] for name in ("num_steps", "global_batch_size", "seq_len")}
    obj = definition["schedule"]
    corpora = {*definition["corpora"], *(name for row in obj.get("changes", ()) for name in _made(row["corpora"]))}
    problems = list(_unknown_heirs(definition["corpora"], corpora))
    for index, phase in enumerate(obj["phases"]):
        problems += _unknown(phase.get("mixture"), corpora, f"$.schedule.phases[{index}].mixture")
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
    kept = ("shard_sizes", "max_epochs", "then", "seq_len")
    given = definition["corpora"].items()
    corpora = {name: Corpus(**{key: corpus[key] for key in kept if key in corpus}) for name, corpus in given}
    order = {key: definition[key] for key in ("data_seed", "shuffle_window")}
    return groups.make_plan(schedule, corpora, **order, num_groups=definition.get("num_groups", 1))


def corpora_names(definition: Mapping[str, Any], schedule: Schedule) -> tuple[str, ...]:
    """The names of all that are corpora of a run at some time, sorted: those of its plan, without making the plan."""
    made = (change.name for change in schedule.changes if change.verb in MAKES_A_NAME)
    return tuple(sorted({*definition["corpora"], *made}))


def plan_edit(definition: Mapping[str, Any], ledger: Ledger, edit: RevisionIn) -> Plan:
    """The plan under `ledger`, whose newest revision is `edit`; raises what `make_plan` raises.

    Where a change that an earlier revision made does not fit because of this one, the problem says so.
    """
    try:
        return make_plan(definition, ledger.schedule)
    except ScheduleError as error:
        places = tuple(f"$.corpora.{name}.{verb}" for name, change in (edit.corpora or {}).items() for verb in change)
        raise ScheduleError.of([_placed(problem, places) for problem in error.problems]) from error


def propose(
    ledger: Ledger, edit: RevisionIn, *, parent: int, frontier: int, corpora: Mapping[str, Corpus], time: str
) -> Ledger:
    """The ledger with `edit` as its newest revision.

    corpora: those of the plan so far. What `Ledger.propose` refuses is refused (`StaleParentError`,
    `FrozenStepError`, `ScheduleError`), and so are names that are none of `corpora` and that the edit does not make,
    and growth or corpora that would be there already.
    """
    problems = list(_unknown_in(edit, {*corpora, *_made(edit.corpora or {})}))
    problems += _there_already(edit, corpora, ledger.schedule.changes)
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


def agree(ledger: Ledger, *, known_revision: int, superseded: Sequence[int] | None) -> None:
    """Raise `KnownRevisionError` unless a trainer's ledger and this one agree, as far as it knows, on what is in force.

    `superseded`: the revisions up to `known_revision` that are not, to the trainer; None where it does not say.
    """
    known, current = known_revision, ledger.in_force
    if known > ledger.number:
        raise KnownRevisionError(known, current, "this service has never had it")
    if superseded is None:
        return
    ours = {item.number for item in ledger.revisions[:known] if item.superseded is not None}
    for number in sorted(ours ^ set(superseded)):
        why = f"revision {number} was superseded" if number in ours else f"revision {number} is in force here"
        raise KnownRevisionError(known, current, why)


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


class Settled(NamedTuple):
    """What a report decides: the new frontier, and what it takes out of force (number → reason)."""

    frontier: int
    superseded: dict[int, str]


def settle(
    revisions: Sequence[Revision],
    *,
    frontier: int,
    num_steps: int,
    known_revision: int,
    decided_through: int,
    freeze_through: int,
) -> Settled:
    """What the report of a trainer that follows `known_revision` decides, all of it a function of the run as it stands.

    revisions: the ledger's. The new frontier is the highest of `frontier`, as it was, `freeze_through` and
    `decided_through`, at most `num_steps`.
    """
    reasons = passed_over(revisions, known_revision=known_revision, decided_through=decided_through)
    return Settled(max(frontier, min(num_steps, max(freeze_through, decided_through))), reasons)


def differences(existing: Mapping[str, Any], wanted: Mapping[str, Any], changes: Sequence[Change]) -> list[str]:
    """The fields in which a run that is sent again differs from the one that exists, whose corpora had `changes`.

    Who reads from disk sees what is there by now: corpora that were added, and shards that were appended.
    """
    before = {name for name in wanted if name != "corpora" and wanted[name] != existing.get(name)}
    corpora, added = dict(existing["corpora"]), {change.name: change for change in changes if change.verb == "add"}
    same = corpora.keys() <= wanted["corpora"].keys() and all(
        _same_corpus(corpora[name], corpus, [c for c in changes if c.verb == "grow" and c.name == name])
        if name in corpora
        else name in added and _as_added(added[name]).items() <= corpus.items()
        for name, corpus in wanted["corpora"].items()
    )
    return [name for name in wanted if name in before or (name == "corpora" and not same)]


def _as_added(change: Change) -> dict[str, Any]:
    return {"max_epochs": None, "then": "refuse", **change.arguments}


def _same_corpus(existing: Mapping[str, Any], wanted: Mapping[str, Any], growth: Sequence[Change]) -> bool:
    if wanted == existing:
        return True
    sizes, found = existing["shard_sizes"], wanted["shard_sizes"]
    grown = [*sizes, *(size for change in growth for size in change.arguments["shard_sizes"])]
    kept = ("max_epochs", "then", "seq_len")  # its content, and so its fingerprint, is another
    longer = len(sizes) < len(found) and found == grown[: len(found)]
    return longer and all(existing.get(key) == wanted.get(key) for key in kept)


def _made(corpora: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The names that become corpora by changes as written."""
    return (name for name, change in corpora.items() if not change.keys().isdisjoint(MAKES_A_NAME))


def _placed(problem: str, places: tuple[str, ...]) -> str:
    """A problem of the plan, which speaks of a change at one of `places`, or of one made before."""
    message, _, where = problem.rpartition(" @ ")
    if where.startswith("$.schedule.phases"):  # of the schedule as it would be, not of the request
        return f"{message} @ $"
    if not where.startswith("$.corpora.") or any(f"{where}.".startswith(f"{place}.") for place in places):
        return problem
    return f"with this edit a change that was made before does not fit any more: {message} ({where[2:]}) @ $.corpora"


def _there_already(edit: RevisionIn, corpora: Mapping[str, Corpus], changes: Sequence[Change]) -> Iterator[str]:
    """A problem for each change whose shards the run has had from before on.

    A plan takes them for what a trainer finds on its disk by now, and so would leave them out of the steps before.
    """
    for name, change in (edit.corpora or {}).items():
        if name not in corpora:
            continue
        growth, num_shards = change.get("grow"), len(corpora[name].shard_sizes)
        first = growth.get("first_shard") if isinstance(growth, Mapping) else None
        if isinstance(first, int) and first < num_shards:
            where = f"$.corpora.{name}.grow.first_shard"
            yield f"'{name}' has {num_shards} shards, the first new one is {num_shards}, found {first} @ {where}"
        if "add" in change and not _removed(name, changes, edit.effective_step):
            yield f"the run has had a corpus '{name}' from before: choose another name @ $.corpora.{name}.add"


def _removed(name: str, changes: Sequence[Change], step: int) -> bool:
    verbs = [change.verb for change in changes if change.name == name and change.step <= step]
    return [verb for verb in verbs if verb in ("add", "remove")][-1:] == ["remove"]


def _unknown_in(edit: RevisionIn, corpora: Iterable[str]) -> Iterator[str]:
    if edit.mixture is not None:
        yield from _unknown(edit.mixture, corpora, "$.mixture")
    if edit.schedule is not None:
        for index, phase in enumerate(edit.schedule.phases):
            yield from _unknown(phase.get("mixture"), corpora, f"$.schedule.phases[{index}].mixture")
    added = {f"{name}.add": change["add"] for name, change in (edit.corpora or {}).items() if "add" in change}
    yield from _unknown_heirs(added, corpora)


def _unknown_heirs(heirs: Mapping[str, Any], corpora: Iterable[str]) -> Iterator[str]:
    """A problem for each of `heirs` whose share would go, at its cap, to none of `corpora`."""
    for name, corpus in heirs.items():
        heir = corpus.get("then", "refuse") if isinstance(corpus, Mapping) else "refuse"
        if isinstance(heir, str) and heir not in ("refuse", *corpora):
            yield f"unknown corpus {heir!r} @ $.corpora.{name}.then"


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
