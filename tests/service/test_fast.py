"""service.fast: the short way of a report answers what the operation answers, byte for byte; and it is taken."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.batches import Batches
from service.fast import FastReports
from service.tokens import Caller
from tests.service.conftest import edit_body, report_body

PLAIN = {"Content-Type": "application/json"}
OTHER = {"Content-Type": "application/json; charset=utf-8"}  # not plain: the long way
BODIES: dict[str, Any] = {
    "a report": report_body(5, 15),
    "with all": report_body(
        5, 15, decided_through=7, superseded=[], metrics={"loss": 2.5, "é": None}, counts={"c4": 3}
    ),
    "what it lacks": report_body(5, 15, known_revision=1),
    "not finite": b'{"step": 5, "freeze_through": 6, "known_revision": 2, "metrics": {"loss": NaN}}',
    "another ledger": report_body(5, 15, known_revision=2, superseded=[1]),
    "a revision that never was": report_body(5, 15, known_revision=9),
    "a corpus that is none": report_body(5, 15, counts={"c5": 1}),
    "beyond the end": report_body(1001, 1001),
    "a claim of nobody": report_body(5, 15, claim=3),
    "unknown fields": report_body(5, 15, more=1),
    "another type": report_body(5, "15"),  # type: ignore[arg-type]
    "nothing": b"",
    "not JSON": b"{",
    "a key twice": b'{"step": 1, "step": 1, "freeze_through": 6, "known_revision": 2}',
    "not UTF-8": b"\xff",
}


@pytest.mark.parametrize("name", BODIES)
def test_both_ways_answer_the_same(api: httpx.Client, run: str, name: str) -> None:
    for number in range(2):
        assert api.post(f"{run}/revisions", json=edit_body(number, 500 + number)).status_code == 201
    body = BODIES[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    api.post(f"{run}/progress", content=content, headers=OTHER)  # what it changes is changed before they are compared
    answers = [api.post(f"{run}/progress", content=content, headers=headers) for headers in (PLAIN, OTHER)]
    short, long = [(answer.status_code, answer.content, _headers(answer)) for answer in answers]
    assert short == long


def test_a_run_that_is_none(api: httpx.Client) -> None:
    for run_id in ("abc", "nope", "a" * 33):
        answers = [api.post(f"/v1/runs/{run_id}/progress", json=report_body(1, 2), headers=h) for h in (PLAIN, OTHER)]
        assert answers[0].content == answers[1].content
        assert answers[0].status_code in (404, 422)


def _headers(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}


# -- which way is taken


async def ask(scope: dict[str, Any], *pieces: bytes) -> tuple[bool, bytes]:
    """(whether the short way was taken, the body that the other one was given)."""
    taken: list[bool] = []
    seen: list[bytes] = []

    async def operation(scope: Any, receive: Any, send: Any) -> None:
        taken.append(False)
        while True:
            message = await receive()
            seen.append(message["body"])
            if not message["more_body"]:
                return

    def work(items: Any) -> list[dict[str, Any]]:
        taken.append(True)
        return [{"frontier": 1, "revision": 0, "revisions": [], "superseded": []}] * len(items)

    messages: Iterator[bytes] = iter(pieces)
    left = len(pieces)

    async def receive() -> dict[str, Any]:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": next(messages), "more_body": left > 0}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    reports: Any = Batches(work, key=lambda item: item[0], max_size=4)
    await FastReports(operation, reports=reports, route=None)(scope, receive, send)
    reports.close()
    return taken[0], b"".join(seen)


def scope(**changes: Any) -> dict[str, Any]:
    path = changes.pop("path", "/v1/runs/3f9a1c0b7d52/progress")
    caller = Caller(name="t", scopes=frozenset({"trainer"}))
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"here"), (b"content-type", b"application/json")],
        "state": {"caller": caller, "actor": "t"},
        **changes,
    }


def test_a_plain_report_goes_the_short_way() -> None:
    body = json.dumps(report_body(1, 2)).encode()
    assert asyncio.run(ask(scope(), body)) == (True, b"")
    assert asyncio.run(ask(scope(), body[:9], body[9:])) == (True, b"")


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "GET"},
        {"query_string": b"a=b"},
        {"path": "/v1/runs/3f9a1c0b7d52/claim"},
        {"path": "/v1/runs/../progress"},
        {"raw_path": b"/v1/runs/3f9a1c0b7d52%2fprogress"},
        {"headers": []},
        {"headers": [(b"content-type", b"application/json")] * 2},
        {"headers": [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]},
        {"headers": [(b"content-type", b"text/plain")]},
        {"state": {"caller": None}},
        {"state": {"caller": Caller(name="r", scopes=frozenset({"read", "write", "admin"}))}},
    ],
)
def test_what_is_not_plain_goes_the_long_way_whole(changes: dict[str, Any]) -> None:
    body = json.dumps(report_body(1, 2)).encode()
    assert asyncio.run(ask(scope(**changes), body[:9], body[9:])) == (False, body)
    assert asyncio.run(ask(scope(), b"{", b'"step": 1}')) == (False, b'{"step": 1}')
