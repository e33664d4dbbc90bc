"""A run as JSON lines: for backup, for another database, for reading with any tool.

    {"format": "switchpoint-ledger", "version": 1, "id": ..., "frontier": ..., "definition": {...}}
    {"revision": {"number": 1, ..., ...}}          in order of number
    {"progress": {"step": 100, ...}}                            in order of step
    {"end": {"revisions": 1, "progress": 1}}                    so that a truncated file is seen

A revision that changes no corpora, or no batch size, is written without that field, as it was before there was one.
Export is one snapshot. Import checks everything as if it were new, then stores all of it or nothing,
under the same id. Answers kept for Idempotency-Keys stay behind.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from mixer import ORDER_VERSION, MixerError, Revision
from mixer.changes import parse_changes
from service.errors import LedgerFileError, OrderVersionError
from service.problems import place
from service.runs import rebuild
from service.schemas import Count, ReportOut, RevisionOut, RunIn
from service.store import RunRow, Store

__all__ = ["FORMAT", "VERSION", "export_ledger", "import_ledger"]

FORMAT, VERSION = "switchpoint-ledger", 1


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


def export_ledger(store: Store, run_id: str) -> Iterator[str]:
    """The lines of a run, without line ends; `UnknownRunError` when there is none."""
    with store.read() as tx:
        row = tx.run(run_id)
        definition = tx.definition(row.key)
        revisions, reports = tx.revisions(row.key), tx.progress(row.key)
    head = {name: getattr(row, name) for name in ("id", "created", "order_version", "frontier", "step")}
    yield json.dumps({"format": FORMAT, "version": VERSION, **head, "definition": definition})
    for item in revisions:
        del item["run_key"]
        for name in ("corpora", "global_batch_size"):
            if not item[name]:
                del item[name]
        yield json.dumps({"revision": item})
    for item in reports:
        del item["run_key"]
        yield json.dumps({"progress": item})
    yield json.dumps({"end": {"revisions": len(revisions), "progress": len(reports)}})


def import_ledger(store: Store, lines: Sequence[str]) -> RunRow:
    """Add the run that `lines` hold; `LedgerFileError` when they are not a whole and sound ledger.

    Also when the store has a run of that id or name already.
    """
    items = [_parse(number, line) for number, line in enumerate(lines, start=1)]
    if len(items) < 2 or items[0].get("format") != FORMAT or items[0].get("version") != VERSION:
        raise LedgerFileError(1, f"this is not a {FORMAT} of version {VERSION}")
    head = cast(_Head, _model(_Head, 1, items[0]))
    if head.order_version != ORDER_VERSION:
        raise OrderVersionError(head.order_version, ORDER_VERSION)
    revisions, reports = _body(items)
    definition = head.definition.definition()
    try:
        history = [Revision(**item.model_dump(exclude={"superseded_time"})) for item in revisions]
        definition["schedule"] = rebuild(definition, history).ledger.base.to_dict()
    except MixerError as error:
        raise LedgerFileError(0, f"the ledger is not sound: {error}") from error
    with store.write() as tx:
        if tx.has_run(head.id) or tx.run_named(head.definition.name) is not None:
            raise LedgerFileError(1, f"the database has a run {head.id} or one named {head.definition.name!r} already")
        kept = head.model_dump(include={"id", "created", "order_version", "frontier", "step"})
        tx.add_run(
            {
                **kept,
                "name": head.definition.name,
                "definition": definition,
                "num_steps": head.definition.num_steps,
            }
        )
        key = tx.run(head.id).key
        for revision in revisions:
            tx.add_revision(key, revision.model_dump())
        for report in reports:
            tx.put_progress(key, report.model_dump())
        return tx.run(head.id)


def _body(items: Sequence[Mapping[str, Any]]) -> tuple[list[RevisionOut], list[ReportOut]]:
    revisions: list[RevisionOut] = []
    reports: list[ReportOut] = []
    for number, item in enumerate(items[1:-1], start=2):
        if set(item) == {"revision"}:
            revisions.append(_revision(number, item["revision"]))
        elif set(item) == {"progress"}:
            reports.append(cast(ReportOut, _model(ReportOut, number, item["progress"])))
        else:
            raise LedgerFileError(number, "this is neither a revision nor progress")
    if items[-1] != {"end": {"revisions": len(revisions), "progress": len(reports)}}:
        raise LedgerFileError(len(items), "the file is not whole: it must end with the counts of what it holds")
    numbers = [revision.number for revision in revisions]
    if numbers != sorted(set(numbers)):
        raise LedgerFileError(0, "the numbers of the revisions must rise")
    return revisions, reports


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
