"""Errors as answers: RFC 9457 problem+json, by one table from exception to status.

Every problem has type, title, status, detail and instance; some have fields a program can act on
(`earliest_step`, `current_revision`, `run_id`, `problems`: [{place, message}]). An exception that the
table does not know is a fault of ours: it is logged with its traceback and answered 500 without detail.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DatabaseError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError  # no connection became free
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from mixer import FrozenStepError, MixerError, RepetitionError, ScheduleError, StaleParentError
from service.errors import (
    BodyTooLargeError,
    ClaimedError,
    ClaimLostError,
    CrossSiteError,
    HostError,
    IdempotencyMismatchError,
    InvalidRequestError,
    KnownRevisionError,
    LimitsError,
    NameTakenError,
    NotAuthenticatedError,
    NotInRunError,
    NotReadyError,
    OrderVersionError,
    RateLimitError,
    ScopeError,
    ServiceError,
    SlowBodyError,
    UnknownRunError,
)

__all__ = ["MEDIA_TYPE", "install", "place", "problem_response"]

MEDIA_TYPE = "application/problem+json"
logger = logging.getLogger(__name__)
Fields = Callable[[Any], Mapping[str, Any]]


class Problem(JSONResponse):
    """The answer to one problem. Leaves its name in the state of the request, for who counts and logs."""

    media_type = MEDIA_TYPE
    name = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        scope.setdefault("state", {})["problem"] = self.name
        await super().__call__(scope, receive, send)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How one kind of exception is answered; `fields` are what a program can act on."""

    status: int
    name: str
    title: str
    fields: Fields = lambda error: {}
    headers: Mapping[str, str] | None = None
    detail: str | None = None


def _problems(error: Any) -> dict[str, Any]:
    return {"problems": [_split(text) for text in error.problems]}


def _split(text: str) -> dict[str, str]:
    message, mark, where = text.rpartition(" @ ")
    return {"place": where, "message": message} if mark else {"place": "$", "message": text}


# The first row whose exception fits decides, so an exception stands above its parents.
TABLE: Sequence[tuple[type[Exception] | tuple[type[Exception], ...], Answer]] = (
    (UnknownRunError, Answer(status=404, name="unknown-run", title="No such run")),
    (NotInRunError, Answer(status=404, name="not-in-run", title="The run has no such part")),
    (
        StaleParentError,
        Answer(
            status=409,
            name="stale-parent",
            title="Another revision came first",
            fields=lambda error: {"current_revision": error.current},
        ),
    ),
    (
        FrozenStepError,
        Answer(
            status=409,
            name="frozen-step",
            title="The step is frozen",
            fields=lambda error: {"earliest_step": error.earliest},
        ),
    ),
    (
        NameTakenError,
        Answer(
            status=409,
            name="name-taken",
            title="A run of that name exists with another definition",
            fields=lambda error: {"run_id": error.run_id, "fields": list(error.fields)},
        ),
    ),
    (
        KnownRevisionError,
        Answer(
            status=409,
            name="revision-not-in-force",
            title="The trainer follows a revision that is not in force",
            fields=lambda error: {
                "known_revision": error.known_revision,
                "current_revision": error.current_revision,
            },
        ),
    ),
    (
        ClaimedError,
        Answer(status=409, name="claimed", title="Another trainer has the run", fields=lambda error: error.claim),
    ),
    (
        ClaimLostError,
        Answer(
            status=409, name="claim-lost", title="Another trainer has the run now", fields=lambda error: error.claim
        ),
    ),
    (
        LimitsError,
        Answer(
            status=422,
            name="limits",
            title="The edit breaks limits of the run",
            fields=lambda error: {"limits": [breach._asdict() for breach in error.breaches]},
        ),
    ),
    (
        OrderVersionError,
        Answer(
            status=409,
            name="order-version",
            title="Another version of the sample order",
            fields=lambda error: {"found": error.found, "expected": error.expected},
        ),
    ),
    (
        ScheduleError,
        Answer(status=422, name="invalid-schedule", title="The schedule is wrong", fields=_problems),
    ),
    (InvalidRequestError, Answer(status=422, name="invalid-request", title="Not possible", fields=_problems)),
    (
        RepetitionError,
        Answer(
            status=422,
            name="repetition",
            title="A corpus would repeat more often than it may",
            fields=lambda error: {"corpus": error.corpus, "step": error.step},
        ),
    ),
    (
        MixerError,
        Answer(
            status=422,
            name="invalid-schedule",
            title="The schedule is wrong",
            fields=lambda error: {"problems": [_split(str(error))]},
        ),
    ),
    (
        IdempotencyMismatchError,
        Answer(status=422, name="idempotency-key-reused", title="The Idempotency-Key was used for another body"),
    ),
    (BodyTooLargeError, Answer(status=413, name="body-too-large", title="The body is too large")),
    (SlowBodyError, Answer(status=408, name="slow-body", title="The body came too slowly")),
    (HostError, Answer(status=421, name="host", title="The request is for another host")),
    (CrossSiteError, Answer(status=403, name="cross-site", title="A page of another site may not do this")),
    (RateLimitError, Answer(status=429, name="rate-limit", title="Too many requests")),
    (NotReadyError, Answer(status=503, name="not-ready", title="Not ready")),
    (
        NotAuthenticatedError,
        Answer(
            status=401,
            name="not-authenticated",
            title="A token is needed",
            headers={"WWW-Authenticate": "Bearer"},
        ),
    ),
    (
        ScopeError,
        Answer(
            status=403,
            name="scope",
            title="The token may not do this",
            fields=lambda error: {"allowed_scopes": list(error.allowed), "held_scopes": list(error.held)},
        ),
    ),
    (
        (DatabaseError, PoolTimeoutError),
        Answer(
            status=503,
            name="storage",
            title="The database cannot be used now",
            detail="nothing was stored, or only the answer was lost: send it again, an edit with the same "
            "Idempotency-Key. The log of the service says more",
            headers={"Retry-After": "1"},
        ),
    ),
)
UNEXPECTED = Answer(
    status=500,
    name="internal",
    title="A fault of the service",
    detail="the log of the service has the traceback",
)


def problem_response(path: str, error: Exception) -> Problem:
    """The answer to an exception, by the table; `path` is what was asked for."""
    answer = next((answer for kind, answer in TABLE if isinstance(error, kind)), UNEXPECTED)
    if answer.status >= 500 and not isinstance(error, NotReadyError):
        logger.error("%s: %s", path, error, exc_info=error if answer is UNEXPECTED else None)
    detail = answer.detail if answer.detail is not None else str(error)
    response = _response(path, answer, detail, answer.fields(error))
    if isinstance(error, RateLimitError):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return response


def place(location: Iterable[str | int]) -> str:
    """A JSON path: ("schedule", "phases", 1) → $.schedule.phases[1]."""
    keys = [key for key in location if key != "[key]"]  # pydantic's word for "the key itself, not its value"
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)


def install(app: FastAPI) -> None:
    """Answer every exception of `app` with a problem."""

    async def known(request: Request, error: Exception) -> Problem:
        return problem_response(request.url.path, error)

    for kind in (ServiceError, MixerError, DatabaseError, PoolTimeoutError, Exception):
        app.add_exception_handler(kind, known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _invalid(request: Request, error: Exception) -> Problem:
    assert isinstance(error, RequestValidationError)
    problems = [
        {"in": item["loc"][0], "place": place(item["loc"][1:]), "message": item["msg"]} for item in error.errors()
    ]
    answer = Answer(status=422, name="invalid-request", title="The request is malformed")
    detail = "; ".join(f"{item['message']} @ {item['place']} of the {item['in']}" for item in problems)
    return _response(request.url.path, answer, detail, {"problems": problems})


async def _http(request: Request, error: Exception) -> Problem:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ServiceError):  # raised while the body was read, wrapped by FastAPI
        return problem_response(request.url.path, error.__cause__)
    title = HTTPStatus(error.status_code).phrase
    answer = Answer(status=error.status_code, name=title.lower().replace(" ", "-"), title=title, headers=error.headers)
    return _response(request.url.path, answer, str(error.detail), {})


def _response(path: str, answer: Answer, detail: str, fields: Mapping[str, Any]) -> Problem:
    body = {
        "type": f"urn:switchpoint:problem:{answer.name}",
        "title": answer.title,
        "status": answer.status,
        "detail": detail,
        "instance": path,
    }
    headers = None if answer.headers is None else dict(answer.headers)
    problem = Problem({**body, **fields}, status_code=answer.status, headers=headers)
    problem.name = answer.name
    return problem
