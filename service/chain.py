"""The record of a run: one event for every call that changed it, chained by hashes, and what its events add up to.

    created, forked   the run as it was made: the hash of its definition, its limits, the revisions it shares
    revised           a revision, as it was accepted
    reported          a report of the trainer: what it froze, and what it took out of force
    claimed           a trainer took the run, see `service.claims`
    limited           other limits, and why

The hash of an event covers the one before it, so whoever keeps the last hash can tell whether anything that came before
was changed, left out or put in. Tables hold the same for speed; `replay` says whether they agree with the record.
Pure functions on plain values.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["GENESIS", "Record", "canonical", "digest", "link", "reconstruct", "replay"]

GENESIS = ""  # what stands before the first event of a run
BEFORE = "before the record"  # the actor of what a run had gone through before there were records
HASHED = ("seq", "time", "kind", "actor", "body")


@dataclass(kw_only=True)
class Record:
    """What a run's events add up to. `head` is the hash of the last, `seq` its number."""

    seq: int = 0
    head: str = GENESIS
    definition: str = ""
    frontier: int = 0
    step: int | None = None
    revisions: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    superseded: dict[int, str] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    claim: Mapping[str, Any] | None = None


def canonical(value: object) -> bytes:
    """JSON of one spelling: keys sorted, no spaces, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def link(previous: str, run_id: str, event: Mapping[str, Any]) -> str:
    """The hash of `event` (seq, time, kind, actor, body) of a run, after the event whose hash is `previous`."""
    return digest([previous, run_id, *(event[name] for name in HASHED)])


def replay(run_id: str, events: Iterable[Mapping[str, Any]]) -> Record:
    """What `events`, all of a run in order, add up to.

    Raises ValueError, which names the event, where one is missing, was changed, or contradicts those before it: a
    frontier that goes back, a number used twice, a revision of a step that was frozen.
    """
    record = Record()
    for event in events:
        seq, kind, body = event["seq"], event["kind"], event["body"]
        if seq != record.seq + 1:
            raise ValueError(f"event {record.seq + 1} is missing")
        if event["hash"] != link(record.head, run_id, event):
            raise ValueError(f"event {seq} does not have the hash that follows from it and the one before it")
        if (kind in ("created", "forked")) != (seq == 1):
            raise ValueError(f"event {seq} is of kind {kind}: the first of a run, and no other, makes it")
        record.seq, record.head = seq, event["hash"]
        problem = _take(record, kind, body)
        if problem:
            raise ValueError(f"event {seq} ({kind}): {problem}")
    return record


def reconstruct(
    run_id: str,
    *,
    created: str,
    definition: Mapping[str, Any],
    revisions: Sequence[Mapping[str, Any]],
    frontier: int,
    step: int | None,
) -> list[dict[str, Any]]:
    """A record of a run that had none: how it was made, its revisions, and one report that says what is left of them.

    revisions: {number, …, superseded, superseded_time}, by number.
    """
    made = {"definition": digest(definition), "limits": {}, "frontier": 0, "revisions": []}
    happened: list[tuple[str, str, dict[str, Any]]] = [("created", created, made)]
    for revision in revisions:
        body = {name: value for name, value in revision.items() if not name.startswith("superseded")}
        happened.append(("revised", revision["time"], body))
    superseded = {str(item["number"]): item["superseded"] for item in revisions if item["superseded"] is not None}
    if step is not None or frontier or superseded:
        body = {"step": step or 0, "frontier": frontier, "decided_through": step or 0}
        known = max((item["number"] for item in revisions if item["superseded"] is None), default=0)
        last = max((item["superseded_time"] or item["time"] for item in revisions), default=created)
        happened.append(("reported", last, {**body, "known_revision": known, "superseded": superseded}))
    found, head = [], GENESIS
    for seq, (kind, time, body) in enumerate(happened, start=1):
        event = {"seq": seq, "time": time, "kind": kind, "actor": BEFORE, "body": body}
        head = link(head, run_id, event)
        found.append({**event, "hash": head})
    return found


def _take(record: Record, kind: str, body: Mapping[str, Any]) -> str | None:
    """Add an event to `record`; what contradicts it."""
    if kind in ("created", "forked"):
        record.definition, record.limits, record.frontier = body["definition"], body["limits"], body["frontier"]
        for revision in body["revisions"]:
            _add(record, revision)
    elif kind == "revised":
        problem = _check(record, body)
        if problem:
            return problem
        _add(record, body)
    elif kind == "reported":
        if body["frontier"] < record.frontier:
            return f"the frontier goes back from {record.frontier} to {body['frontier']}"
        for number, reason in body["superseded"].items():
            if int(number) not in record.revisions or int(number) in record.superseded:
                return f"there is no revision {number} in force to be superseded"
            record.superseded[int(number)] = reason
        record.frontier = body["frontier"]
        record.step = body["step"] if record.step is None else max(record.step, body["step"])
    elif kind == "limited":
        record.limits = body["limits"]
    elif kind == "claimed":
        record.claim = body
    else:
        return "nobody knows this kind"
    return None


def _check(record: Record, revision: Mapping[str, Any]) -> str | None:
    if revision["number"] <= max(record.revisions, default=0):
        return f"revision {revision['number']} is there already"
    if revision["effective_step"] < record.frontier:
        return f"step {revision['effective_step']} was frozen: the frontier is {record.frontier}"
    return None


def _add(record: Record, revision: Mapping[str, Any]) -> None:
    number = revision["number"]
    record.revisions[number] = {name: value for name, value in revision.items() if name != "superseded"}
    if revision.get("superseded") is not None:
        record.superseded[number] = revision["superseded"]
