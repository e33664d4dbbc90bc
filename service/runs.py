"""What a run is to the service: a definition, a ledger, a frontier; and the ways they change.

    create   a run, once; the same definition again finds it
    fork     a run that shares another's past
    revise   appends a revision made against the one in force, at or above the frontier, within the limits
    claim    gives the run to one trainer
    report   takes the trainer's report, freezes steps for ever, hands out what the trainer lacks
    limit    sets the limits that edits are held to

Each decides and writes inside one write transaction of the store, its event in the record of the run
(`service.chain`) included, so of two edits made against one parent exactly one is accepted, and an edit is
either in the answer that freezes its step or refused.

Guarantees. The frontier never goes back, and is on disk before it is answered. A revision changes no step
below its effective step, which is at least the frontier of that moment. A revision is never changed and
never dropped: it is in force, or `superseded` with a reason (see `edits.passed_over`). A number is used
once. Plans are pure functions of (run, revision) and kept in an LRU cache.
"""

import math
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from mixer import ORDER_VERSION, Ledger, MixerError, Plan, Revision, Schedule
from mixer.forking import fork as mixer_fork
from service import claims
from service.chain import digest, link
from service.edits import agree, base_schedule, corpora_names, differences, make_plan, plan_edit, propose, settle
from service.errors import (
    IdempotencyMismatchError,
    InvalidRequestError,
    LimitsError,
    NameTakenError,
    OrderVersionError,
    ServiceError,
    UnknownRunError,
)
from service.limits import breaches
from service.schemas import ClaimIn, ForkIn, LimitIn, NewLimitsIn, ProgressIn, RevisionIn, RunIn
from service.store import ReportRow, RunRow, Store, Transaction

__all__ = ["Content", "Runs", "State", "rebuild"]

LEDGER_CACHE_SIZE = 10_000
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a run is at one revision: an immutable value, which may be cached."""

    definition: Mapping[str, Any]
    ledger: Ledger
    plan: Plan


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a report needs: no plan, which takes long to make, so it is kept of many more runs than plans are."""

    ledger: Ledger
    names: Sequence[str]  # of the corpora


@dataclass(frozen=True, kw_only=True)
class State:
    """A run at one moment: its row, and what it is under the revision in force."""

    row: RunRow
    definition: Mapping[str, Any]
    ledger: Ledger
    plan: Plan


class Runs:
    """All runs of a store. Safe for many threads. `actor` is who asks, as the record has it."""

    def __init__(self, store: Store, *, plan_cache_size: int) -> None:
        self._store = store
        self._contents: _Lru[Content] = _Lru(plan_cache_size)
        self._knowns: _Lru[Known] = _Lru(LEDGER_CACHE_SIZE)

    def create(self, run: RunIn, *, actor: str) -> tuple[State, bool]:
        """The run, and whether it was made now.

        A run of that name and the same definition is answered as it stands, so that a trainer that starts
        again, or repeats a request whose answer was lost, finds its run, also with what was added to its
        corpora since (`edits.differences`). `NameTakenError` when the definition differs otherwise;
        `mixer.MixerError` when schedule and corpora do not fit, `LimitsError` when it breaks its own limits.
        """
        definition = run.definition()
        ledger = Ledger(base=base_schedule(definition))
        definition["schedule"] = ledger.base.to_dict()
        limits = _limits(run.limits)
        _hold(limits, ledger.schedule, start=0)
        content = Content(definition=definition, ledger=ledger, plan=make_plan(definition, ledger.schedule))
        with self._store.write() as tx:
            row = tx.run_named(run.name)
            if row is not None:
                state = self._state(tx, row)
                if fields := differences(state.definition, definition, state.ledger.schedule.changes):
                    raise NameTakenError(row.name, row.id, fields)
                return state, False
            row = self._add(tx, run.name, content, limits=limits, actor=actor)
        return _at(row, content), True

    def fork(self, run_id: str, fork: ForkIn, *, actor: str) -> State:
        """A new run that shares the past of another up to a step, and its plans from there on until they are edited.

        `NameTakenError` when there is a run of that name; `mixer.MixerError` for a step that the run does not have, or
        where nothing unseen is left.
        """
        with self._store.write() as tx:
            if (taken := tx.run_named(fork.name)) is not None:
                raise NameTakenError(taken.name, taken.id, ["parent"])
            state = self._state(tx, tx.run(run_id))
            made_by = {"author": fork.author, "time": _now()}
            ledger = mixer_fork(
                state.ledger, state.plan, step=fork.step, replay=fork.replay, until=fork.until, **made_by
            )
            content = rebuild(state.definition, ledger.revisions)
            row = self._add(
                tx, fork.name, content, limits=state.row.limits, actor=actor, parent={"run": run_id, "step": fork.step},
                why={"author": fork.author, "reason": fork.reason},
            )  # fmt: skip
        return _at(row, content)

    def state(self, run_id: str) -> State:
        """The run as it stands; `UnknownRunError` when there is none."""
        with self._store.read() as tx:
            return self._state(tx, tx.run(run_id))

    def rows(self, *, after: int, limit: int) -> list[RunRow]:
        """Runs in the order they were made."""
        with self._store.read() as tx:
            return tx.list_runs(after=after, limit=limit)

    def revisions(self, run_id: str, *, after: int, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """(the newest in force, the history above `after` by number, superseded ones too)."""
        with self._store.read() as tx:
            row = tx.run(run_id)
            found = tx.revisions(row.key, after=after, limit=limit)
        return row.revision, [_outward(item) for item in found]

    def reports(self, run_id: str, *, start: int, limit: int, points: int | None = None) -> list[dict[str, Any]]:
        """What the trainer reported from step `start` on, by step; about `points` of them where that is given."""
        with self._store.read() as tx:
            key = tx.run(run_id).key
            stride = 1 if points is None else -(-tx.num_reports(key, start=start) // points)
            return tx.progress(key, start=start, limit=limit, stride=max(1, stride))

    def events(self, run_id: str, *, after: int, limit: int) -> list[dict[str, Any]]:
        """The record of a run: events numbered above `after`, in order."""
        with self._store.read() as tx:
            return tx.events(tx.run(run_id).key, after=after, limit=limit)

    def all_events(self, *, after: int, limit: int) -> list[dict[str, Any]]:
        """The record of all runs, and of what belongs to none, by key."""
        with self._store.read() as tx:
            return tx.all_events(after=after, limit=limit)

    def preview(self, run_id: str, edit: RevisionIn, *, parent: int) -> tuple[State, Plan]:
        """(the run as it stands, the plan it would have); stores nothing, refuses what `revise` refuses."""
        state = self.state(run_id)
        return state, _revised(state, edit, parent=parent).plan

    def revise(
        self, run_id: str, edit: RevisionIn, *, parent: int, actor: str, idempotency_key: str | None = None
    ) -> tuple[dict[str, Any], bool]:
        """(the revision, whether it is an earlier answer to the same key).

        Raises `mixer.StaleParentError`, `mixer.FrozenStepError`, other `mixer.MixerError` for a schedule that
        is wrong, `LimitsError`, and `IdempotencyMismatchError` when the key was used for something else.
        """
        request = digest({**edit.model_dump(), "parent": parent})
        with self._store.write() as tx:
            row = tx.run(run_id)
            if idempotency_key is not None and (kept := tx.answer(row.key, idempotency_key)) is not None:
                if kept["digest"] != request:
                    raise IdempotencyMismatchError(idempotency_key)
                return kept["answer"], True
            content = _revised(self._state(tx, row), edit, parent=parent)
            revision = content.ledger.revisions[-1].to_dict()
            del revision["superseded"]
            _record(tx, row, "revised", actor, revision)
            revision |= {"superseded": None, "superseded_time": None}
            tx.add_revision(row.key, revision)
            answer, number = _outward(revision), revision["number"]
            if idempotency_key is not None:
                kept = {"idempotency_key": idempotency_key, "digest": request, "number": number}
                tx.add_answer(row.key, {**kept, "answer": answer})
        # Only what is on disk may be cached: a number that was rolled back will be given to another edit.
        self._contents.put((run_id, number, number), content)
        return answer, False

    def claim(self, run_id: str, claim: ClaimIn, *, actor: str) -> RunRow:
        """Give the run to a trainer, see `service.claims`; the run as it stands then. Raises `ClaimedError`."""
        with self._store.write() as tx:
            row = tx.run(run_id)
            given = claims.take(row.claim, **claim.model_dump(), time=_now())
            _record(tx, row, "claimed", actor, given)
            tx.update(row.key, claim=given)
        return replace(row, claim=given)

    def limit(self, run_id: str, limits: NewLimitsIn, *, actor: str) -> State:
        """Set other limits. Those that hold for what is planned already are not asked for: they are for edits."""
        found = _limits(limits.limits)
        with self._store.write() as tx:
            state = self._state(tx, tx.run(run_id))
            if problems := _unknown_corpora(found, state.plan.names, "$.limits"):
                raise InvalidRequestError(problems)
            _record(tx, state.row, "limited", actor, {"limits": found, "reason": limits.reason})
            tx.update(state.row.key, limits=found)
        return replace(state, row=replace(state.row, limits=found))

    def report(self, run_id: str, report: ProgressIn, *, actor: str) -> dict[str, Any]:
        """Take a report and freeze, see `edits.settle`; {frontier, revision, revisions, superseded}.

        Sending the same report again changes nothing and gets the same answer, or newer revisions too.
        `KnownRevisionError` when the trainer follows a revision that is not in force; `ClaimLostError` when another
        trainer has the run; `InvalidRequestError` for a step beyond the run or counts of a corpus it does not have.
        """
        (answer,) = self.report_all([(run_id, report, actor)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def report_all(self, reports: Sequence[tuple[str, ProgressIn, str]]) -> list[dict[str, Any] | Exception]:
        """What `report` answers to each (run_id, report, actor), or raises; no two of one run.

        One transaction has them all, so one sync of the disk serves them all. One that is refused leaves nothing.
        """
        answers: list[dict[str, Any] | Exception] = []
        kept = []
        with self._store.write() as tx:
            rows = tx.runs({run_id for run_id, _, _ in reports})
            for run_id, report, actor in reports:
                try:
                    row, answer = self._report(tx, rows.get(run_id), run_id, report, actor)
                except (ServiceError, MixerError) as error:
                    answers.append(error)
                else:
                    kept.append(row)
                    answers.append(answer)
            tx.add_reports(kept)
        return answers

    def _report(
        self, tx: Transaction, row: RunRow | None, run_id: str, report: ProgressIn, actor: str
    ) -> tuple[ReportRow, dict[str, Any]]:
        """(what is to be kept of a report, its answer); what it supersedes is written already, if nothing is wrong."""
        if row is None:
            raise UnknownRunError(run_id)
        claims.check(row.claim, report.claim)
        known = self._known(tx, row)
        _check_report(row, known, report)
        decided = report.step if report.decided_through is None else report.decided_through
        ledger, now = known.ledger, _now()
        settled = settle(
            ledger.revisions, frontier=row.frontier, num_steps=row.num_steps,
            known_revision=report.known_revision, decided_through=decided, freeze_through=report.freeze_through,
        )  # fmt: skip
        body = {"step": report.step, "frontier": settled.frontier, "decided_through": decided}
        body |= {"known_revision": report.known_revision}
        superseded = {str(number): reason for number, reason in settled.superseded.items()}
        event = _event(row, "reported", actor, {**body, "superseded": superseded}, time=now)
        metrics = {name: _finite(value) for name, value in report.metrics.items()}
        progress = {**body, "time": now, "counts": report.counts, "metrics": metrics}
        for number, reason in settled.superseded.items():
            ledger = ledger.supersede([number], reason)
        tx.supersede(row.key, settled.superseded, time=now)
        answer = {
            "frontier": settled.frontier,
            "revision": ledger.in_force,
            "revisions": [revision.to_dict() for revision in ledger.since(report.known_revision)],
            "superseded": list(ledger.superseded),
        }
        kept = ReportRow(key=row.key, event=event, progress=progress, frontier=settled.frontier, step=report.step)
        return kept, answer

    def _add(
        self,
        tx: Transaction,
        name: str,
        content: Content,
        *,
        limits: Mapping[str, Any],
        actor: str,
        parent: Mapping[str, Any] | None = None,
        why: Mapping[str, str] | None = None,
    ) -> RunRow:
        """Insert a run, and the first event of its record."""
        run_id, now, frontier = secrets.token_hex(6), _now(), parent["step"] if parent else 0
        num_steps = content.ledger.base.num_steps
        named = {"id": run_id, "name": name, "num_steps": num_steps, "created": now, "order_version": ORDER_VERSION}
        tx.add_run(
            {**named, "definition": content.definition, "limits": limits, "parent": parent, "frontier": frontier}
        )
        row = tx.run(run_id)
        revisions = [revision.to_dict() for revision in content.ledger.revisions]
        made = {
            "definition": digest(content.definition),
            "limits": limits,
            "frontier": frontier,
            "revisions": revisions,
        }
        kind, more = ("created", {}) if parent is None else ("forked", {"parent": parent, **(why or {})})
        _record(tx, row, kind, actor, {**made, **more}, time=now)
        for revision in revisions:
            tx.add_revision(row.key, {**revision, "superseded_time": now if revision["superseded"] else None})
        return tx.run(run_id)

    def _state(self, tx: Transaction, row: RunRow) -> State:
        content = self._contents.get(_version(row))
        if content is None:
            definition, ledger = self._read(tx, row)
            plan = make_plan(definition, ledger.schedule)
            content = Content(definition=definition, ledger=ledger, plan=plan)
            self._contents.put(_version(row), content)
        return _at(row, content)

    @staticmethod
    def _read(tx: Transaction, row: RunRow) -> tuple[Mapping[str, Any], Ledger]:
        definition = tx.definition(row.key)
        revisions = [Revision.from_dict(_bare(item)) for item in tx.revisions(row.key)]
        return definition, Ledger(base=base_schedule(definition)).extend(revisions)

    def _known(self, tx: Transaction, row: RunRow) -> Known:
        known = self._knowns.get(_version(row))
        if known is None:
            definition, ledger = self._read(tx, row)
            known = Known(ledger=ledger, names=corpora_names(definition, ledger.schedule))
            self._knowns.put(_version(row), known)
        return known


def rebuild(definition: Mapping[str, Any], revisions: Iterable[Revision]) -> Content:
    """What a run is by its definition and its whole history; `mixer.MixerError` if they do not fit."""
    ledger = Ledger(base=base_schedule(definition)).extend(revisions)
    return Content(definition=definition, ledger=ledger, plan=make_plan(definition, ledger.schedule))


def _at(row: RunRow, content: Content) -> State:
    return State(row=row, definition=content.definition, ledger=content.ledger, plan=content.plan)


def _revised(state: State, edit: RevisionIn, *, parent: int) -> Content:
    frontier, corpora = state.row.frontier, state.plan.corpora
    ledger = propose(state.ledger, edit, parent=parent, frontier=frontier, corpora=corpora, time=_now())
    plan = plan_edit(state.definition, ledger, edit)
    _hold(state.row.limits, ledger.schedule, start=edit.effective_step, before=state.ledger.schedule)
    return Content(definition=state.definition, ledger=ledger, plan=plan)


def _version(row: RunRow) -> tuple[str, int, int]:
    """Of which content and ledger are functions; `OrderVersionError` where they are those of another program.

    What is in force and what was given out decide which revisions are superseded: those above `revision`, and below it
    those that were when it was made.
    """
    if row.order_version != ORDER_VERSION:
        raise OrderVersionError(row.order_version, ORDER_VERSION)
    return row.id, row.revision, row.newest


def _event(row: RunRow, kind: str, actor: str, body: Mapping[str, Any], *, time: str | None = None) -> dict[str, Any]:
    """The next event in the record of a run, as it stands in `row`."""
    event = {"seq": row.seq + 1, "time": time or _now(), "kind": kind, "actor": actor, "body": body}
    return {**event, "hash": link(row.head, row.id, event)}


def _record(
    tx: Transaction, row: RunRow, kind: str, actor: str, body: Mapping[str, Any], *, time: str | None = None
) -> None:
    """Append an event to the record of a run, as it stands in `row`."""
    tx.add_event(row.key, _event(row, kind, actor, body, time=time))


def _limits(limits: Mapping[str, LimitIn]) -> dict[str, dict[str, float]]:
    return {corpus: limit.model_dump(exclude_none=True) for corpus, limit in limits.items()}


def _hold(limits: Mapping[str, Any], schedule: Schedule, *, start: int, before: Schedule | None = None) -> None:
    if broken := breaches(limits, schedule, start=start, before=before):
        raise LimitsError(broken)


def _unknown_corpora(names: Iterable[str], corpora: Sequence[str], place: str) -> list[str]:
    there = ", ".join(corpora)
    return [f"the run has no corpus {name!r}; it has {there} @ {place}.{name}" for name in names if name not in corpora]


def _check_report(row: RunRow, known: Known, report: ProgressIn) -> None:
    agree(known.ledger, known_revision=report.known_revision, superseded=report.superseded)
    problems = _unknown_corpora(report.counts, known.names, "$.counts")
    if report.step > row.num_steps:
        problems.insert(0, f"the run ends at step {row.num_steps}, found {report.step} @ $.step")
    if problems:
        raise InvalidRequestError(problems)


def _bare(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table as mixer's `Revision.from_dict` reads it."""
    return {name: value for name, value in row.items() if name not in ("run_key", "superseded_time")}


def _outward(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "run_key"}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class _Lru(Generic[Value]):
    """The last `size` values by (run, revision, newest). Two threads may build one twice."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[tuple[str, int, int], Value] = OrderedDict()

    def get(self, key: tuple[str, int, int]) -> Value | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: tuple[str, int, int], value: Value) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)
