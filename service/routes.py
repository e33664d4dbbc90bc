"""The REST API: what each address takes and answers. No decision is made here (see `service.runs`).

Every operation has a stable id; every error is a problem (see `service.problems`). GET changes nothing.
The functions are plain `def`: FastAPI runs them in threads, since they wait for the disk. Reports, of which there are
many, wait for it together (`service.batches`).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent

from service import views
from service.access import ADMINS, ANYONE, CREATORS, EDITORS, TRAINERS, AllRuns, CurrentState, Limits, RunId
from service.batches import Batches
from service.errors import InvalidRequestError
from service.schemas import (
    AnswerOut,
    AuditedOut,
    AuditOut,
    BatchOut,
    ClaimedOut,
    ClaimIn,
    EventOut,
    EventsOut,
    ForecastOut,
    ForkIn,
    LedgerOut,
    NewLimitsIn,
    PreviewOut,
    ProgressIn,
    ReadsOut,
    ReportOut,
    ReportsOut,
    RevisionIn,
    RevisionOut,
    RevisionsOut,
    RunIn,
    RunOut,
    RunsOut,
    RunSummaryOut,
    ScheduleOut,
    StepWeightsOut,
    WeightsOut,
)
from service.settings import Settings
from service.strict import PROBLEM, Route

__all__ = ["v1"]

v1 = APIRouter(prefix="/v1", route_class=Route, responses={"5XX": PROBLEM})

Number = Annotated[int, Query(ge=0, le=2**63 - 1)]
Step = Annotated[int | None, Query(ge=0, le=10**12)]
Limit = Annotated[int, Query(ge=1, description="entries of one answer; the service may give fewer")]
Points = Annotated[int | None, Query(ge=2)]
DEFAULT_PAGE = 1000
POLL_S = 0.5  # how often a stream of events looks for new ones: other processes may write them


async def _actor(request: Request) -> str:
    """The name of the token of a request, as the record has it."""
    return getattr(request.state, "actor", "anonymous")


Actor = Annotated[str, Depends(_actor)]


# -- the trainer's report, first: it is asked for most, and addresses are tried in this order


@v1.post("/runs/{run_id}/progress", operation_id="reportProgress", dependencies=TRAINERS)
async def report_progress(run_id: RunId, body: ProgressIn, request: Request) -> AnswerOut:
    """The trainer's report: freezes every step below `freeze_through`, hands out the revisions it lacks."""
    reports: Batches[tuple[str, ProgressIn, str], dict[str, Any]] = request.app.state.reports
    return AnswerOut(**await reports((run_id, body, await _actor(request))))


# -- runs


@v1.post(
    "/runs",
    operation_id="createRun",
    status_code=201,
    dependencies=CREATORS,
    responses={200: {"model": RunOut, "description": "that run exists already, with this definition"}},
)
def create_run(body: RunIn, runs: AllRuns, actor: Actor, response: Response) -> RunOut:
    """Make a run. The same definition again answers 200 with the run as it stands; another one is 409."""
    state, made = runs.create(body, actor=actor)
    response.status_code = 201 if made else 200
    response.headers["Location"] = f"/v1/runs/{state.row.id}"
    return views.run(state)


@v1.post("/runs/{run_id}/fork", operation_id="forkRun", status_code=201, dependencies=CREATORS)
def fork_run(run_id: RunId, body: ForkIn, runs: AllRuns, actor: Actor, response: Response) -> RunOut:
    """Make a run that shares this one's past up to a step, and what is planned from there on until it is edited."""
    state = runs.fork(run_id, body, actor=actor)
    response.headers["Location"] = f"/v1/runs/{state.row.id}"
    return views.run(state)


@v1.put("/runs/{run_id}/limits", operation_id="setLimits", dependencies=ADMINS)
def set_limits(run_id: RunId, body: NewLimitsIn, runs: AllRuns, actor: Actor) -> RunOut:
    """Set the limits that edits are held to, in place of those there are. What is planned already stays."""
    return views.run(runs.limit(run_id, body, actor=actor))


@v1.get("/runs", operation_id="listRuns", dependencies=ANYONE)
def list_runs(runs: AllRuns, limits: Limits, after: Number = 0, limit: Limit = DEFAULT_PAGE) -> RunsOut:
    """Runs in the order they were made."""
    limit = min(limit, limits.max_page)
    rows = runs.rows(after=after, limit=limit + 1)
    return RunsOut(
        runs=[
            RunSummaryOut(**{name: getattr(row, name) for name in RunSummaryOut.model_fields}) for row in rows[:limit]
        ],
        next=rows[limit - 1].key if len(rows) > limit else None,
    )


@v1.get("/runs/{run_id}", operation_id="getRun", dependencies=ANYONE)
def get_run(state: CurrentState) -> RunOut:
    """A run: its definition, frontier and revision."""
    return views.run(state)


@v1.get(
    "/runs/{run_id}/schedule",
    operation_id="getSchedule",
    dependencies=ANYONE,
    response_model=ScheduleOut,
    responses={304: {"description": "If-None-Match names the revision in force"}},
)
def get_schedule(
    run_id: RunId,
    state: CurrentState,
    response: Response,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Any:
    """The schedule in force. Its ETag is the revision, which If-Match of an edit can name as parent."""
    tag = f'"{state.row.revision}"'
    if _matches(if_none_match, tag):
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return views.schedule(state)


# -- what the plan says


@v1.get("/runs/{run_id}/weights", operation_id="getWeights", dependencies=ANYONE)
def get_weights(
    state: CurrentState,
    limits: Limits,
    step: Step = None,
    start: Step = None,
    end: Step = None,
    points: Annotated[int, Query(ge=2)] = 200,
) -> StepWeightsOut | WeightsOut:
    """The weights of `step`; or of at most `points` steps spread evenly over [start, end)."""
    if step is not None:
        if start is not None or end is not None:
            raise InvalidRequestError(["give either step, or start and end @ $.step"])
        return views.step_weights(state, step)
    _check_points(points, limits)
    return views.weights(state, start, end, points)


@v1.get("/runs/{run_id}/forecast", operation_id="getForecast", dependencies=ANYONE)
def get_forecast(state: CurrentState, limits: Limits, step: Step = None, points: Points = None) -> ForecastOut:
    """Samples, tokens and epochs of each corpus in all steps below `step` (default: of the whole run).

    With `points`, also the course of the whole run at about so many steps.
    """
    _check_points(points, limits)
    return views.forecast(state, step, points)


@v1.get("/runs/{run_id}/batches/{step}", operation_id="getBatch", dependencies=ANYONE)
def get_batch(
    state: CurrentState,
    limits: Limits,
    step: Annotated[int, Path(ge=0, le=10**12)],
    start: Number = 0,
    limit: Limit = DEFAULT_PAGE,
) -> BatchOut:
    """Which sample stands in each slot of a step, from slot `start` on."""
    return views.batch(state, step, start, min(limit, limits.max_page))


@v1.get("/runs/{run_id}/samples/{corpus}/{sample_id}", operation_id="getReads", dependencies=ANYONE)
def get_reads(
    state: CurrentState,
    limits: Limits,
    corpus: str,
    sample_id: Annotated[int, Path(ge=0, le=2**63 - 1)],
    start: Step = None,
    end: Step = None,
    limit: Limit = DEFAULT_PAGE,
) -> ReadsOut:
    """The steps and slots of [start, end) that read a sample."""
    limit = min(limit, limits.max_page)
    return views.reads(state, corpus, sample_id, start=start, end=end, limit=limit)


# -- the ledger


@v1.get(
    "/runs/{run_id}/ledger",
    operation_id="getLedger",
    dependencies=ANYONE,
    response_model=LedgerOut,
    responses={304: {"description": "If-None-Match names the ledger as it stands"}},
)
def get_ledger(
    state: CurrentState,
    response: Response,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Any:
    """The definition of a run and every revision, of one moment: enough to make the plan elsewhere."""
    row = state.row  # a revision that is superseded leaves the one before it in force: its number alone would not do
    tag = f'"{row.revision}.{row.newest}.{row.frontier}.{row.step}"'
    if _matches(if_none_match, tag):
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return views.ledger(state)


@v1.get("/runs/{run_id}/revisions", operation_id="listRevisions", dependencies=ANYONE)
def list_revisions(
    run_id: RunId, runs: AllRuns, limits: Limits, after: Number = 0, limit: Limit = DEFAULT_PAGE
) -> RevisionsOut:
    """The history of the schedule, numbered above `after`."""
    limit = min(limit, limits.max_page)
    current, found = runs.revisions(run_id, after=after, limit=limit + 1)
    return RevisionsOut(
        current=current,
        revisions=[RevisionOut(**item) for item in found[:limit]],
        next=found[limit - 1]["number"] if len(found) > limit else None,
    )


@v1.post(
    "/runs/{run_id}/revisions",
    operation_id="createRevision",
    status_code=201,
    dependencies=EDITORS,
    responses={200: {"model": PreviewOut, "description": "dry run: nothing was stored"}},
)
def create_revision(
    run_id: RunId,
    body: RevisionIn,
    runs: AllRuns,
    actor: Actor,
    limits: Limits,
    response: Response,
    dry_run: bool = False,
    points: Points = None,
    if_match: Annotated[str | None, Header()] = None,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200, pattern=r"^[\x20-\x7e]+$")] = None,
) -> RevisionOut | PreviewOut:
    """Edit the schedule from `effective_step` on. 409 for a stale parent or a frozen step.

    `parent`, or If-Match with the ETag of the schedule, names the revision the edit was made against.
    With an Idempotency-Key the same request again gets the same answer and stores nothing. A dry run with `points`
    answers with the course of the run as it would be, too.
    """
    parent = _parent(body, if_match)
    if dry_run:
        _check_points(points, limits)
        response.status_code = 200
        return views.preview(*runs.preview(run_id, body, parent=parent), body, parent=parent, points=points)
    revision, replayed = runs.revise(run_id, body, parent=parent, actor=actor, idempotency_key=idempotency_key)
    response.headers["ETag"] = f'"{revision["number"]}"'
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return RevisionOut(**revision)


@v1.post("/runs/{run_id}/claim", operation_id="claimRun", dependencies=TRAINERS)
def claim_run(run_id: RunId, body: ClaimIn, runs: AllRuns, actor: Actor) -> ClaimedOut:
    """Take the run, to train it. 409 while another trainer has it, unless this one says that it takes it over.

    The same trainer again gets the next number: reports under the number before are refused from then on.
    """
    row = runs.claim(run_id, body, actor=actor)
    return ClaimedOut(frontier=row.frontier, revision=row.revision, **(row.claim or {}))


@v1.get("/runs/{run_id}/progress", operation_id="listProgress", dependencies=ANYONE)
def list_progress(
    run_id: RunId,
    runs: AllRuns,
    limits: Limits,
    start: Number = 0,
    limit: Limit = DEFAULT_PAGE,
    points: Points = None,
) -> ReportsOut:
    """What the trainer reported from step `start` on, one report a step (the latest), by step.

    With `points`, about so many of all of them, spread evenly, the last among them, instead of a page.
    """
    _check_points(points, limits)
    limit = min(limit, limits.max_page) if points is None else limits.max_page
    found = runs.reports(run_id, start=start, limit=limit + 1, points=points)
    return ReportsOut(
        reports=[ReportOut(**{name: item[name] for name in ReportOut.model_fields}) for item in found[:limit]],
        next=found[limit]["step"] if len(found) > limit else None,
    )


# -- the record


@v1.get("/runs/{run_id}/audit", operation_id="listEvents", dependencies=ANYONE)
def list_events(
    run_id: RunId, runs: AllRuns, limits: Limits, after: Number = 0, limit: Limit = DEFAULT_PAGE
) -> EventsOut:
    """The record of a run: every call that changed it, by whom, chained by hashes; numbered above `after`."""
    limit = min(limit, limits.max_page)
    found = runs.events(run_id, after=after, limit=limit + 1)
    return EventsOut(
        events=[_event(item) for item in found[:limit]],
        next=found[limit - 1]["seq"] if len(found) > limit else None,
    )


@v1.get("/audit", operation_id="listAllEvents", dependencies=ADMINS)
def list_all_events(runs: AllRuns, limits: Limits, after: Number = 0, limit: Limit = DEFAULT_PAGE) -> AuditOut:
    """The records of all runs in one list, and what belongs to none, with keys above `after`."""
    limit = min(limit, limits.max_page)
    found = runs.all_events(after=after, limit=limit + 1)
    return AuditOut(
        events=[AuditedOut(**{name: item[name] for name in AuditedOut.model_fields}) for item in found[:limit]],
        next=found[limit - 1]["key"] if len(found) > limit else None,
    )


@v1.get("/runs/{run_id}/events", operation_id="streamEvents", dependencies=ANYONE, response_class=EventSourceResponse)
async def stream_events(
    state: CurrentState,
    runs: AllRuns,
    after: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
    last_event_id: Annotated[str | None, Header(pattern=r"^[0-9]{1,18}$")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: the record of a run as it grows. `id` is the number, `event` the kind, `data` the event.

    Goes on after Last-Event-ID or `after`; without either, with what comes next.
    """
    run_id, newest = state.row.id, state.row.seq
    if last_event_id is not None:
        newest = int(last_event_id)
    elif after is not None:
        newest = after
    while True:
        for item in await run_in_threadpool(runs.events, run_id, after=newest, limit=DEFAULT_PAGE):
            newest = item["seq"]
            yield ServerSentEvent(data=_event(item), event=item["kind"], id=str(newest))
        await asyncio.sleep(POLL_S)


def _event(item: Mapping[str, Any]) -> EventOut:
    return EventOut(**{name: item[name] for name in EventOut.model_fields})


def _check_points(points: int | None, limits: Settings) -> None:
    if points is not None and points > limits.max_points:
        raise InvalidRequestError([f"at most {limits.max_points}, found {points} @ $.points"])


def _matches(header: str | None, tag: str) -> bool:
    """Whether If-None-Match names `tag`."""
    if header is None:
        return False
    return header.strip() == "*" or tag in [part.strip().removeprefix("W/") for part in header.split(",")]


def _parent(body: RevisionIn, if_match: str | None) -> int:
    """The parent an edit names, in its body or as If-Match; both must agree."""
    if if_match is None:
        if body.parent is None:
            problem = "name the revision this was made against, here or as If-Match @ $.parent"
            raise InvalidRequestError([problem])
        return body.parent
    tag = re.fullmatch(r'"(0|[1-9][0-9]{0,17})"', if_match.strip())
    if tag is None:
        problem = f'If-Match must be one ETag of the schedule, like "3", found {if_match} @ $.parent'
        raise InvalidRequestError([problem])
    parent = int(tag[1])
    if body.parent not in (None, parent):
        raise InvalidRequestError([f"If-Match says {parent}, the body says {body.parent} @ $.parent"])
    return parent
