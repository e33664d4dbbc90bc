"""The REST API as a typed Python client: one method an operation, named after its id (`createRun` → `create_run`).

    with Client("http://127.0.0.1:8321", token=...) as service:
        run = service.get_run("3f9a1c0b7d52")
        edit = {"parent": run.revision, "effective_step": run.frontier, "mixture": {"c4": 1.0}}
        edit |= {"author": "ada", "reason": "the code loss has stopped falling"}
        print(service.create_revision(run.id, edit, dry_run=True).after)
        for event in service.stream_events(run.id):
            print(event.kind, event.actor)

Bodies go as models of `service.schemas` or as plain mappings, which the service then checks; answers are those models.
Whatever goes wrong is a `ProblemError`. What is safe to repeat is repeated: GET, an edit with an Idempotency-Key, and
what changes nothing the second time (createRun, claimRun, reportProgress); everything else is sent once.

A client that is older than its service passes over fields that it does not know, but for those of a revision: what an
edit does must be understood as a whole. Imports httpx and pydantic, neither FastAPI nor SQLAlchemy.
"""

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, TypeVar, overload
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

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

__all__ = ["Client", "ProblemError", "backoff_s"]

URN = "urn:switchpoint:problem:"
TRANSIENT = (429, 502, 503, 504)  # the service is busy, or something before it has lost it: it may answer soon
FIRST_WAIT_S = 0.25  # the longest wait before the second attempt; twice as long before each further one
LONGEST_WAIT_S = 30.0  # of one wait, also where the service asks for a longer one: then the problem is raised at once
SILENCE_S = 60.0  # a stream of events that says nothing for so long, not even that it is alive, is broken
TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # what RFC 6750 lets a bearer token hold

Json = Mapping[str, Any]
M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class ProblemError(Exception):
    """The service refused, or could not be asked.

    Attributes:
        type: the URI of the kind of problem, `urn:switchpoint:problem:frozen-step`; `name` is what stands after it.
            `no-answer` where none came, `unreadable` where it was not one of this API.
        status: of HTTP; 0 where no answer came.
        detail: one sentence for people.
        fields: what a program can act on, by kind: `earliest_step`, `current_revision`, `problems`, …
    """

    def __init__(self, type: str, status: int, detail: str, fields: Json | None = None) -> None:
        super().__init__(type, status, detail, fields)
        self.type = type
        self.status = status
        self.detail = detail
        self.fields: dict[str, Any] = dict(fields or {})

    def __str__(self) -> str:
        return f"HTTP {self.status}: {self.detail}" if self.status else self.detail

    @property
    def name(self) -> str:
        """The kind, without what all have in common: `frozen-step`."""
        return self.type.removeprefix(URN)

    @property
    def is_away(self) -> bool:
        """Whether the service could not take the request now: it did not answer, failed, or was too busy."""
        return self.status == 0 or self.status == 429 or self.status >= 500


class Client:
    """A service at `url`, for many threads. Close it, or use it as a context.

    Args:
        url: scheme, host, port, and a path where a proxy puts the service below one.
        token: goes into the header of each request and into no message.
        timeout_s: to connect, and between two parts of an answer.
        attempts: how often a request that may be repeated is sent before its problem is raised. Between two it waits
            for `backoff_s`, and as long as Retry-After says at least.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 10.0, attempts: int = 5) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname or "@" in url:
            raise ValueError("a service has an address like http://127.0.0.1:8321; a token does not belong into it")
        if token is not None and not TOKEN.fullmatch(token):
            raise ValueError("the token holds characters that a bearer token cannot have")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        self._attempts = attempts
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    # -- runs

    def create_run(self, run: RunIn | Json) -> RunOut:
        """Make a run, or find the one that was made so before. `name-taken` when that name has another definition."""
        return self._send(RunOut, "POST", "/v1/runs", body=run, repeat=True)

    def list_runs(self) -> Iterator[RunSummaryOut]:
        """All runs in the order they were made."""
        return self._pages(RunsOut, "/v1/runs", lambda page: (page.runs, page.next), "after")

    def get_run(self, run_id: str) -> RunOut:
        """A run: what it was made with, where it stands, who trains it."""
        return self._get(RunOut, _run(run_id))

    def fork_run(self, run_id: str, fork: ForkIn | Json) -> RunOut:
        """Make a run that shares the past of another up to a step."""
        return self._send(RunOut, "POST", _run(run_id, "fork"), body=fork)

    def set_limits(self, run_id: str, limits: NewLimitsIn | Json) -> RunOut:
        """Set the limits that edits are held to, in place of those there are."""
        return self._send(RunOut, "PUT", _run(run_id, "limits"), body=limits)

    # -- what the plan says

    def get_schedule(self, run_id: str) -> ScheduleOut:
        """The schedule in force."""
        return self._get(ScheduleOut, _run(run_id, "schedule"))

    @overload
    def get_weights(self, run_id: str, *, step: int) -> StepWeightsOut: ...

    @overload
    def get_weights(
        self, run_id: str, *, start: int | None = None, end: int | None = None, points: int | None = None
    ) -> WeightsOut: ...

    def get_weights(self, run_id: str, *, step: int | None = None, **spread: int | None) -> StepWeightsOut | WeightsOut:
        """The weights of `step`; or of at most `points` steps spread evenly over [start, end)."""
        if step is not None:
            return self._get(StepWeightsOut, _run(run_id, "weights"), step=step)
        return self._get(WeightsOut, _run(run_id, "weights"), **spread)

    def get_forecast(self, run_id: str, *, step: int | None = None, points: int | None = None) -> ForecastOut:
        """Samples, tokens and epochs of each corpus in all steps below `step`, by default of the whole run.

        With `points`, also the course of the whole run at about so many steps.
        """
        return self._get(ForecastOut, _run(run_id, "forecast"), step=step, points=points)

    def get_batch(self, run_id: str, step: int, *, start: int = 0, limit: int | None = None) -> BatchOut:
        """Which sample stands in each slot of a step, from slot `start` on; `next` is where the rest begins."""
        return self._get(BatchOut, _run(run_id, "batches", step), start=start, limit=limit)

    def get_reads(
        self,
        run_id: str,
        corpus: str,
        sample_id: int,
        *,
        start: int | None = None,
        end: int | None = None,
        limit: int | None = None,
    ) -> ReadsOut:
        """The steps and slots of [start, end) that read a sample; `next` is the step where the rest begins."""
        place = _run(run_id, "samples", corpus, sample_id)
        return self._get(ReadsOut, place, start=start, end=end, limit=limit)

    # -- the ledger

    def get_ledger(self, run_id: str) -> LedgerOut:
        """The definition of a run and every revision, of one moment: enough to make the plan elsewhere."""
        return self._get(LedgerOut, _run(run_id, "ledger"))

    def list_revisions(self, run_id: str, *, after: int = 0) -> Iterator[RevisionOut]:
        """The history of the schedule above number `after`, superseded ones too."""
        place = _run(run_id, "revisions")
        return self._pages(RevisionsOut, place, lambda page: (page.revisions, page.next), "after", after)

    @overload
    def create_revision(
        self, run_id: str, edit: RevisionIn | Json, *, idempotency_key: str | None = None
    ) -> RevisionOut: ...

    @overload
    def create_revision(
        self, run_id: str, edit: RevisionIn | Json, *, dry_run: Literal[True], points: int | None = None
    ) -> PreviewOut: ...

    def create_revision(
        self,
        run_id: str,
        edit: RevisionIn | Json,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        points: int | None = None,
    ) -> RevisionOut | PreviewOut:
        """Edit the schedule; with `dry_run` only say what that would do. `stale-parent`, `frozen-step`, `limits`, …

        With an `idempotency_key`, one for each edit that is meant, it is repeated until an answer comes. A dry run with
        `points` also gives the course of the run as it would be.
        """
        place = _run(run_id, "revisions")
        if dry_run:
            query = {"dry_run": "true", **({} if points is None else {"points": points})}
            return self._send(PreviewOut, "POST", place, body=edit, query=query, repeat=True)
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key is not None else {}
        return self._send(RevisionOut, "POST", place, body=edit, headers=headers, repeat=bool(headers))

    # -- the trainer

    def claim_run(self, run_id: str, claim: ClaimIn | Json) -> ClaimedOut:
        """Take a run, to train it. `claimed` while another trainer has it."""
        return self._send(ClaimedOut, "POST", _run(run_id, "claim"), body=claim, repeat=True)

    def report_progress(self, run_id: str, report: ProgressIn | Json) -> AnswerOut:
        """The trainer's report and its answer. `claim-lost`, `revision-not-in-force`, …"""
        return self._send(AnswerOut, "POST", _run(run_id, "progress"), body=report, repeat=True)

    def list_progress(self, run_id: str, *, start: int = 0, points: int | None = None) -> Iterator[ReportOut]:
        """What the trainer reported from step `start` on, by step; with `points` about so many of them."""
        place = _run(run_id, "progress")
        return self._pages(ReportsOut, place, lambda page: (page.reports, page.next), "start", start, points=points)

    # -- the record

    def list_events(self, run_id: str, *, after: int = 0) -> Iterator[EventOut]:
        """The record of a run above number `after`: every call that changed it."""
        return self._pages(EventsOut, _run(run_id, "audit"), lambda page: (page.events, page.next), "after", after)

    def list_all_events(self, *, after: int = 0) -> Iterator[AuditedOut]:
        """The records of all runs with keys above `after`, and what belongs to no run."""
        return self._pages(AuditOut, "/v1/audit", lambda page: (page.events, page.next), "after", after)

    def stream_events(self, run_id: str, *, after: int | None = None) -> Iterator[EventOut]:
        """The record of a run as it grows, above number `after`, by default from now on; it ends with the iteration.

        A connection that breaks is made again and goes on after the last event, or after `after`: none is missed, none
        comes twice. Without `after`, until the first event has come, it goes on with what comes next.
        Raises what the service refuses, and, like all that is repeated, when nobody answers `attempts` times in a row.
        """
        last, failures = after, 0
        while True:
            try:
                for number, event in self._events(run_id, last):
                    last, failures = number, 0
                    if event is not None:
                        yield event
                raise ProblemError(URN + "no-answer", 0, "the service ended the stream")
            except (httpx.RequestError, ProblemError) as error:
                failures = self._wait(_problem_of(error), failures)

    def _events(self, run_id: str, last: int | None) -> Iterator[tuple[int | None, EventOut | None]]:
        """One connection: (number of the last event, an event or None: the service is there)."""
        headers = {"Accept": "text/event-stream", **({} if last is None else {"Last-Event-ID": str(last)})}
        timeout = httpx.Timeout(self._http.timeout.connect, read=SILENCE_S)
        with self._http.stream("GET", _run(run_id, "events"), headers=headers, timeout=timeout) as response:
            if not response.is_success:
                response.read()
                raise _refusal(response)
            yield last, None
            data: list[str] = []
            for line in _lines(response):
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if name == "id" and value.isdigit():
                    last = int(value)
                elif name == "data":
                    data.append(value)
                elif not line:
                    yield last, _parse(EventOut, _json("\n".join(data)), response.status_code) if data else None
                    data = []

    # -- those who run it

    def get_health(self) -> None:
        """Whether the process answers."""
        self._request("GET", "/healthz", repeat=False)

    def get_readiness(self) -> None:
        """Whether it can do its work; asked once."""
        self._request("GET", "/readyz", repeat=False)

    def get_metrics(self) -> str:
        """Counters and gauges in Prometheus' text format."""
        return self._request("GET", "/metrics", repeat=True).text

    # -- how it is said

    def _get(self, model: type[M], place: str, **query: int | None) -> M:
        given = {name: value for name, value in query.items() if value is not None}
        return self._send(model, "GET", place, query=given, repeat=True)

    def _pages(
        self,
        model: type[M],
        place: str,
        parts: Callable[[M], tuple[list[T], int | None]],
        query: str,
        start: int = 0,
        **more: int | None,
    ) -> Iterator[T]:
        """Page by page; `parts` says what a page holds, and what `query` is of the next one."""
        following: int | None = start
        while following is not None:
            items, following = parts(self._get(model, place, **{query: following}, **more))
            yield from items

    def _send(
        self,
        model: type[M],
        method: str,
        place: str,
        *,
        body: BaseModel | Json | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeat: bool = False,
    ) -> M:
        if isinstance(body, BaseModel):
            body = body.model_dump(mode="json", exclude_unset=True)
        response = self._request(method, place, repeat=repeat, json=body, params=query, headers=headers)
        return _parse(model, _json(response.text), response.status_code)

    def _request(self, method: str, place: str, *, repeat: bool, **arguments: Any) -> httpx.Response:
        failures = 0
        while True:
            try:
                response = self._http.request(method, place, **arguments)
                if response.is_success:
                    return response
                raise _refusal(response)
            except (httpx.RequestError, ProblemError) as error:
                problem = _problem_of(error)
                if not repeat:
                    raise problem from None
                failures = self._wait(problem, failures)

    def _wait(self, problem: ProblemError, failures: int) -> int:
        """Wait before the next attempt; one failure more. Raises `problem` where another one is no use."""
        asked = problem.fields.get("retry_after", 0.0)
        if problem.status not in (0, *TRANSIENT) or failures + 1 >= self._attempts or asked > LONGEST_WAIT_S:
            raise problem from None
        time.sleep(max(asked, backoff_s(failures)))
        return failures + 1


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures before this one: drawn evenly from a range that doubles each time.

    Full jitter: of many clients that lost a service at once, few come back at once.
    """
    return random.uniform(0, min(FIRST_WAIT_S * 2.0 ** min(failures, 30), LONGEST_WAIT_S))


def _run(run_id: str, *parts: str | int) -> str:
    """The address of a run, or of a part of it."""
    return "/".join(["/v1/runs", *(quote(str(part), safe="") for part in (run_id, *parts))])


def _problem_of(error: httpx.RequestError | ProblemError) -> ProblemError:
    if isinstance(error, ProblemError):
        return error
    return ProblemError(URN + "no-answer", 0, str(error) or type(error).__name__)


def _refusal(response: httpx.Response) -> ProblemError:
    """The problem in an answer that is no success. What is between us and the service may answer without one."""
    status, retry_after = response.status_code, response.headers.get("Retry-After", "")
    wait = {"retry_after": float(retry_after)} if retry_after.isdigit() else {}
    try:
        found = response.json()
        kind, detail = str(found.pop("type")), str(found.pop("detail"))
    except (ValueError, AttributeError, KeyError):
        where = f", which sends on to {response.headers['Location']}" if response.is_redirect else ""
        return ProblemError("about:blank", status, f"{response.reason_phrase or 'no problem'}{where}", wait)
    kept = {name: value for name, value in found.items() if name not in ("title", "status", "instance")}
    return ProblemError(kind, status, detail, {**wait, **kept})


def _lines(response: httpx.Response) -> Iterator[str]:
    """The lines of a stream as it comes. Not httpx's: JSON may hold characters that end a line for Python alone."""
    rest = ""
    for text in response.iter_text():
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield line.removesuffix("\r")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _parse(model: type[M], found: Any, status: int) -> M:
    """The answer as `model`, without what this version does not know; `unreadable` where that does not do."""
    for _ in range(2):
        try:
            return model.model_validate(found)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
        unknown = [fault["loc"] for fault in faults if fault["type"] == "extra_forbidden"]
        of_revisions = issubclass(model, RevisionOut) or any("revisions" in place for place in unknown)
        if of_revisions or len(unknown) < len(faults):
            break
        for *path, name in unknown:
            part = found
            for key in path:
                part = part[key]
            del part[name]
    place = "".join(f".{part}" for part in faults[0]["loc"])
    detail = f"the answer is none that this version of the client knows: {faults[0]['msg']} @ ${place}"
    raise ProblemError(URN + "unreadable", status, detail)
