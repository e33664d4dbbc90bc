"""The short way of a report: trainers send many, and FastAPI takes longer to hand one on than the service to store it.

It takes what is plainly right and answers as `reportProgress` does, byte for byte (a test compares them). Whatever is
not plain (another form of the address or the headers, a body with any problem, a caller who may not) it leaves to that
operation, which says what is wrong.
"""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import DatabaseError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mixer import MixerError
from service.batches import Batches
from service.errors import ServiceError
from service.problems import problem_response
from service.schemas import AnswerOut, ProgressIn
from service.strict import read_json

__all__ = ["FastReports"]

ADDRESS = re.compile(r"/v1/runs/([0-9a-f]{1,32})/progress")
KIND = (b"content-type", b"application/json")


class FastReports:
    """ASGI around `app`; `route` is the operation that it stands in for, as those who count and log requests see it."""

    def __init__(
        self, app: ASGIApp, *, reports: Batches[tuple[str, ProgressIn, str], dict[str, Any]], route: Any
    ) -> None:
        self._app = app
        self._reports = reports
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        run_id = _plain(scope)
        if run_id is None:
            await self._app(scope, receive, send)
            return
        try:
            messages = await _all_of(receive)
            report = _read(b"".join(message.get("body", b"") for message in messages))
            if report is None:
                await self._app(scope, _again(messages, receive), send)
                return
            scope["route"], scope["path_params"] = self._route, {"run_id": run_id}
            answer = await self._reports((run_id, report, scope["state"].get("actor", "anonymous")))
        except (ServiceError, MixerError, DatabaseError) as error:
            await problem_response(scope["path"], error)(scope, receive, send)
            return
        body = AnswerOut(**answer).model_dump_json().encode()
        headers = [(b"content-length", b"%d" % len(body)), KIND]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _plain(scope: Scope) -> str | None:
    """The run that a request plainly reports on; None for anything else."""
    if scope["type"] != "http" or scope["method"] != "POST" or scope["query_string"]:
        return None
    match = ADDRESS.fullmatch(scope["path"])
    if match is None or scope.get("raw_path") != scope["path"].encode():
        return None
    caller, headers = scope["state"].get("caller"), scope["headers"]
    names = {name for name, _ in headers}
    if len(names) < len(headers) or b"transfer-encoding" in names or KIND not in headers:
        return None
    return match[1] if caller is not None and "trainer" in caller.scopes else None


async def _all_of(receive: Receive) -> list[Message]:
    messages = [await receive()]
    while messages[-1]["type"] == "http.request" and messages[-1].get("more_body", False):
        messages.append(await receive())
    return messages


def _again(messages: Sequence[Message], receive: Receive) -> Receive:
    """What was received, to be received once more, and then what comes."""
    left = iter(messages)

    async def received() -> Message:
        for message in left:
            return message
        return await receive()

    return received


def _read(body: bytes) -> ProgressIn | None:
    try:
        return ProgressIn.model_validate(read_json(body))
    except (ServiceError, ValidationError, HTTPException):
        return None
