"""What a run is to the service: a definition, a ledger, a frontier; and the three ways they change.

    create   a run, once; the same definition again finds it
    revise   appends a revision made against the one in force, at or above the frontier
    report   takes the trainer's report, freezes steps for ever, hands out what the trainer lacks

Each decides and writes inside one write transaction of the store, so of two edits made against one
parent exactly one is accepted, and an edit is either in the answer that freezes its step or refused.

Guarantees. The frontier never goes back, and is on disk before it is answered. A revision changes no step
below its effective step, which is at least the frontier of that moment. A revision is never changed and
never dropped: it is in force, or `superseded` with a reason (see `edits.passed_over`). A number is used
once. Plans are pure functions of (run, revision) and kept in an LRU cache.
"""

import hashlib
import json
import math
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mixer import ORDER_VERSION, Ledger, Plan, Revision
from service.edits import base_schedule, differences, make_plan, passed_over, plan_edit, propose
from service.errors import (
    IdempotencyMismatchError,
    InvalidRequestError,
    KnownRevisionError,
    NameTakenError,
    OrderVersionError,
)
from service.schemas import ProgressIn, RevisionIn, RunIn
from service.store import RunRow, Store, Transaction

__all__ = ["Runs", "State", "rebuild"]


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a run is at one revision: an immutable value, which may be cached."""

    definition: Mapping[str, Any]
    ledger: Ledger
    plan: Plan


@dataclass(frozen=True, kw_only=True)
class State:
    """A run at one moment: its row, and what it is under the revision in force."""

    row: RunRow
    definition: Mapping[str, Any]
    ledger: Ledger
    plan: Plan


class Runs:
    """All runs of a store. Safe for many threads."""

    def __init__(self, store: Store, *, plan_cache_size: int) -> None:
        self._store = store
        self._cache = _Lru(plan_cache_size)

    def create(self, run: RunIn) -> tuple[State, bool]:
        """The run, and whether it was made now.

        A run of that name and the same definition is answered as it stands, so that a trainer that starts
        again, or repeats a request whose answer was lost, finds its run, also with what was added to its
        corpora since (`edits.differences`). `NameTakenError` when the definition differs otherwise;
        `mixer.MixerError` when schedule and corpora do not fit.
        """
        definition = run.definition()
        ledger = Ledger(base=base_schedule(definition))
        definition["schedule"] = ledger.base.to_dict()
        content = Content(definition=definition, ledger=ledger, plan=make_plan(definition, ledger.schedule))
        with self._store.write() as tx:
            row = tx.run_named(run.name)
            if row is not None:
                state = self._state(tx, row)
                if fields := differences(state.definition, definition, state.ledger.schedule.changes):
                    raise NameTakenError(row.name, row.id, fields)
                return state, False
            run_id = secrets.token_hex(6)
            named = {"id": run_id, "name": run.name, "num_steps": run.num_steps, "created": _now()}
            fresh = {"frontier": 0, "step": None, "order_version": ORDER_VERSION}
            tx.add_run({**named, **fresh, "definition": definition})
            row = tx.run(run_id)
        return _at(row, content), True

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

    def reports(self, run_id: str, *, start: int, limit: int) -> list[dict[str, Any]]:
        """What the trainer reported from step `start` on, by step."""
        with self._store.read() as tx:
            return tx.progress(tx.run(run_id).key, start=start, limit=limit)

    def preview(self, run_id: str, edit: RevisionIn, *, parent: int) -> tuple[State, Plan]:
        """(the run as it stands, the plan it would have); stores nothing, refuses what `revise` refuses."""
        state = self.state(run_id)
        return state, _revised(state, edit, parent=parent).plan

    def revise(
        self, run_id: str, edit: RevisionIn, *, parent: int, idempotency_key: str | None = None
    ) -> tuple[dict[str, Any], bool]:
        """(the revision, whether it is an earlier answer to the same key).

        Raises `mixer.StaleParentError`, `mixer.FrozenStepError`, other `mixer.MixerError` for a schedule that
        is wrong, and `IdempotencyMismatchError` when the key was used for something else.
        """
        digest = _digest({**edit.model_dump(), "parent": parent})
        with self._store.write() as tx:
            row = tx.run(run_id)
            if idempotency_key is not None and (kept := tx.answer(row.key, idempotency_key)) is not None:
                if kept["digest"] != digest:
                    raise IdempotencyMismatchError(idempotency_key)
                return kept["answer"], True
            content = _revised(self._state(tx, row), edit, parent=parent)
            revision = {**content.ledger.revisions[-1].to_dict(), "superseded_time": None}
            tx.add_revision(row.key, revision)
            answer, number = _outward(revision), revision["number"]
            if idempotency_key is not None:
                kept = {"idempotency_key": idempotency_key, "digest": digest, "number": number}
                tx.add_answer(row.key, {**kept, "answer": answer})
        # Only what is on disk may be cached: a number that was rolled back will be given to another edit.
        self._cache.put((run_id, number, number), content)
        return answer, False

    def report(self, run_id: str, report: ProgressIn) -> dict[str, Any]:
        """Take a report and freeze; {frontier, revision, revisions, superseded}.

        The new frontier is the highest of the old one, `freeze_through` and `decided_through`, at most the
        end of the run. Sending the same report again changes nothing and gets the same answer, or newer
        revisions too. `KnownRevisionError` when the trainer follows a revision that is not in force;
        `InvalidRequestError` for a step beyond the run or counts of a corpus that the run does not have.
        """
        decided = report.step if report.decided_through is None else report.decided_through
        with self._store.write() as tx:
            row = tx.run(run_id)
            state = self._state(tx, row)
            _check_report(state, report)
            reasons = passed_over(state.ledger.revisions, known_revision=report.known_revision, decided_through=decided)
            now = _now()
            tx.supersede(row.key, reasons, time=now)
            frontier = max(row.frontier, min(row.num_steps, max(report.freeze_through, decided)))
            tx.advance(row.key, frontier=frontier, step=report.step)
            kept = {"time": now, "decided_through": decided, "frontier": frontier, "counts": report.counts}
            metrics = {name: _finite(value) for name, value in report.metrics.items()}
            known = report.known_revision
            tx.put_progress(row.key, {"step": report.step, "known_revision": known, "metrics": metrics, **kept})
            row = tx.run(run_id)
            history = tx.revisions(row.key)
        return {
            "frontier": row.frontier,
            "revision": row.revision,
            "revisions": [_bare(item) for item in history if item["number"] > known],
            "superseded": [item["number"] for item in history if item["superseded"] is not None],
        }

    def _state(self, tx: Transaction, row: RunRow) -> State:
        if row.order_version != ORDER_VERSION:
            raise OrderVersionError(row.order_version, ORDER_VERSION)
        # What is in force and what was given out decide which are superseded: those above `revision`, and
        # below it those that were when it was made.
        key = (row.id, row.revision, row.newest)
        content = self._cache.get(key)
        if content is None:
            revisions = [Revision.from_dict(_bare(item)) for item in tx.revisions(row.key)]
            content = rebuild(tx.definition(row.key), revisions)
            self._cache.put(key, content)
        return _at(row, content)


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
    return Content(definition=state.definition, ledger=ledger, plan=plan)


def _check_report(state: State, report: ProgressIn) -> None:
    _check_known(state, report)
    problems, corpora = [], state.plan.names
    if report.step > state.row.num_steps:
        problems.append(f"the run ends at step {state.row.num_steps}, found {report.step} @ $.step")
    names = ", ".join(corpora)
    problems += [
        f"the run has no corpus {name!r}; it has {names} @ $.counts.{name}"
        for name in report.counts
        if name not in corpora
    ]
    if problems:
        raise InvalidRequestError(problems)


def _check_known(state: State, report: ProgressIn) -> None:
    """The trainer's ledger and ours agree, up to what it knows, on what is in force."""
    known, current = report.known_revision, state.row.revision
    if known > state.row.newest:
        raise KnownRevisionError(known, current, "this service has never had it")
    if report.superseded is None:
        return
    ours = {item.number for item in state.ledger.revisions[:known] if item.superseded is not None}
    for number in sorted(ours ^ set(report.superseded)):
        why = f"revision {number} was superseded" if number in ours else f"revision {number} is in force here"
        raise KnownRevisionError(known, current, why)


def _bare(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table as mixer's `Revision.from_dict` reads it."""
    return {name: value for name, value in row.items() if name not in ("run_key", "superseded_time")}


def _outward(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "run_key"}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class _Lru:
    """The last `size` contents by (run, revision, newest). Two threads may build one twice."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[tuple[str, int, int], Content] = OrderedDict()

    def get(self, key: tuple[str, int, int]) -> Content | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: tuple[str, int, int], value: Content) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)
