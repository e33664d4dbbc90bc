"""A run as JSON lines: for backup, for another database, for reading with any tool.

    {"format": "switchpoint-ledger", "version": 2, "id": ..., "frontier": ..., "definition": {...}, ...}
    {"event": {"seq": 1, "kind": "created", ..., "hash": ...}}            the record of the run, in order
    {"revision": {"number": 1, ..., ...}}                                 in order of number
    {"progress": {"step": 100, ...}}                                      in order of step
    {"end": {"events": 1, "revisions": 1, "progress": 1, "head": ...}}    so that a truncated file is seen

A revision that changes no corpora, or no batch size, is written without that field, as it was before there was one.
Export is one snapshot. Import checks everything as if it were new, the chain of hashes and that it adds up to the rest
of the file, then stores all of it or nothing, under the same id. Answers kept for Idempotency-Keys stay behind.
Version 1 had no events: its runs get a record of what is known of them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from mixer import ORDER_VERSION, MixerError, Revision
from mixer.changes import parse_changes
from service.chain import canonical, digest, reconstruct, replay
from service.errors import LedgerFileError, OrderVersionError
from service.problems import place
from service.runs import rebuild
from service.schemas import ClaimOut, Count, EventOut, LimitIn, ParentOut, ReportOut, RevisionOut, RunIn
from service.store import RunRow, Store

__all__ = ["FORMAT", "VERSION", "export_ledger", "import_ledger"]

FORMAT, VERSION = "switchpoint-ledger", 2


class _Head(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    version: int
    id: str
    created: str
    order_version: int
    frontier: Count
    step: Count | None
    definition: RunIn
    limits: dict[str, LimitIn] = {}
    claim: ClaimOut | None = None
    parent: ParentOut | None = None


def export_ledger(store: Store, run_id: str) -> Iterator[str]:
    """The lines of a run, without line ends; `UnknownRunError` when there is none."""
    with store.read() as tx:
        row = tx.run(run_id)
        definition = tx.definition(row.key)
        revisions, reports, record = tx.revisions(row.key), tx.progress(row.key), tx.events(row.key)
    names = ("id", "created", "order_version", "frontier", "step", "limits", "claim", "parent")
    head = {name: getattr(row, name) for name in names}
    yield json.dumps({"format": FORMAT, "version": VERSION, **head, "definition": definition})
    for event in record:
        yield json.dumps({"event": {name: event[name] for name in EventOut.model_fields}})
    for item in revisions:
        del item["run_key"]
        for name in ("corpora", "global_batch_size"):
            if not item[name]:
                del item[name]
        yield json.dumps({"revision": item})
    for item in reports:
        del item["run_key"]
        yield json.dumps({"progress": item})
    counts = {"events": len(record), "revisions": len(revisions), "progress": len(reports)}
    yield json.dumps({"end": {**counts, "head": row.head}})


def import_ledger(store: Store, lines: Sequence[str]) -> RunRow:
    """Add the run that `lines` hold; `LedgerFileError` when they are not a whole and sound ledger.

    Also when the store has a run of that id or name already.
    """
    items = [_parse(number, line) for number, line in enumerate(lines, start=1)]
    version = items[0].get("version") if items else None
    if len(items) < 2 or items[0].get("format") != FORMAT or version not in (1, VERSION):
        raise LedgerFileError(1, f"this is not a {FORMAT} of version 1 or {VERSION}")
    head = cast(_Head, _model(_Head, 1, items[0]))
    if head.order_version != ORDER_VERSION:
        raise OrderVersionError(head.order_version, ORDER_VERSION)
    body = _body(items, version)
    definition = head.definition.definition()
    try:
        history = [Revision(**item.model_dump(exclude={"superseded_time"})) for item in body.revisions]
        definition["schedule"] = rebuild(definition, history).ledger.base.to_dict()
    except MixerError as error:
        raise LedgerFileError(0, f"the ledger is not sound: {error}") from error
    rows = [revision.model_dump() for revision in body.revisions]
    limits = {corpus: limit.model_dump(exclude_none=True) for corpus, limit in head.limits.items()}
    claim, parent = (None if part is None else part.model_dump() for part in (head.claim, head.parent))
    if version == 1:
        record = reconstruct(
            head.id, definition=definition, revisions=rows,
            created=head.created, frontier=head.frontier, step=head.step,
        )  # fmt: skip
    else:
        record = [event.model_dump() for event in body.events]
        found = {"definition": digest(definition), "limits": limits, "claim": claim, "frontier": head.frontier}
        _check_record(head, record, rows, found)
    with store.write() as tx:
        if tx.has_run(head.id) or tx.run_named(head.definition.name) is not None:
            raise LedgerFileError(1, f"the database has a run {head.id} or one named {head.definition.name!r} already")
        kept = head.model_dump(include={"id", "created", "order_version", "frontier", "step"})
        named = {"name": head.definition.name, "num_steps": head.definition.num_steps, "definition": definition}
        tx.add_run({**kept, **named, "limits": limits, "claim": claim, "parent": parent})
        key = tx.run(head.id).key
        for revision in rows:
            tx.add_revision(key, revision)
        for report in body.reports:
            tx.put_progress(key, report.model_dump())
        for event in record:
            tx.add_event(key, event)
        return tx.run(head.id)


def _check_record(
    head: _Head, record: Sequence[Mapping[str, Any]], revisions: Sequence[Mapping[str, Any]], found: Mapping[str, Any]
) -> None:
    """Raise LedgerFileError unless the record is unbroken, and adds up to what the file says of the run."""
    try:
        replayed = replay(head.id, record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # a body that was made by nobody of us
        raise LedgerFileError(0, f"the record is broken: {error}") from error
    said = {
        **found,
        "step": head.step,
        "superseded": {item["number"]: item["superseded"] for item in revisions if item["superseded"] is not None},
        "revisions": {
            item["number"]: {name: value for name, value in item.items() if not name.startswith("superseded")}
            for item in revisions
        },
    }
    for name, value in said.items():
        if canonical(getattr(replayed, name)) != canonical(value):
            raise LedgerFileError(0, f"the record does not add up to what the file says of the run: {name} differs")


class _Body(NamedTuple):
    events: list[EventOut]
    revisions: list[RevisionOut]
    reports: list[ReportOut]


def _body(items: Sequence[Mapping[str, Any]], version: int) -> _Body:
    body = _Body([], [], [])
    for number, item in enumerate(items[1:-1], start=2):
        if set(item) == {"revision"}:
            body.revisions.append(_revision(number, item["revision"]))
        elif set(item) == {"progress"}:
            body.reports.append(cast(ReportOut, _model(ReportOut, number, item["progress"])))
        elif set(item) == {"event"} and version > 1:
            body.events.append(cast(EventOut, _model(EventOut, number, item["event"])))
        else:
            raise LedgerFileError(number, "this is neither an event, a revision nor progress")
    end: dict[str, Any] = {"revisions": len(body.revisions), "progress": len(body.reports)}
    if version > 1:
        end |= {"events": len(body.events), "head": body.events[-1].hash if body.events else ""}
    if items[-1] != {"end": end}:
        raise LedgerFileError(len(items), "the file is not whole: it must end with the counts of what it holds")
    numbers = [revision.number for revision in body.revisions]
    if numbers != sorted(set(numbers)):
        raise LedgerFileError(0, "the numbers of the revisions must rise")
    return body


def _revision(number: int, item: Any) -> RevisionOut:
    revision = cast(RevisionOut, _model(RevisionOut, number, item))
    problems: list[str] = []
    if revision.corpora:
        revision.corpora = parse_changes(revision.corpora, "$.revision.corpora", problems)
    if problems:
        raise LedgerFileError(number, "; ".join(problems))
    return revision


def _parse(number: int, line: str) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except ValueError as error:
        raise LedgerFileError(number, f"this is not JSON: {error}") from error
    if not isinstance(item, dict):
        raise LedgerFileError(number, "this is not a JSON object")
    return item


def _model(kind: type[BaseModel], number: int, item: Any) -> BaseModel:
    try:
        return kind.model_validate(item)
    except ValidationError as error:
        texts = [f"{problem['msg']} @ {place(problem['loc'])}" for problem in error.errors()]
        raise LedgerFileError(number, "; ".join(texts)) from error
