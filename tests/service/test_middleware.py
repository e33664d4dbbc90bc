"""service.middleware, over real HTTP: what every answer has, and what is refused before any route is asked."""

import contextlib
import json
import logging
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from service import keyring, middleware
from service.settings import Settings
from service.tokens import parse_tokens
from tests.service.conftest import edit_body, run_body
from tests.service.processes import serve_in_thread

SECRET = "0123456789abcdef"
TOKENS = parse_tokens(f"write:ada:{SECRET}\nread:bob:{SECRET[::-1]}")
ADA = {"Authorization": f"Bearer {SECRET}"}
BOB = {"Authorization": f"Bearer {SECRET[::-1]}"}
WRONG = {"Authorization": "Bearer not-one-of-theirs"}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service without tokens, which one other site may use."""
    settings = Settings(
        database=tmp_path_factory.mktemp("middleware") / "a.db",
        cors_origins=("https://plots.example",),
        max_body_bytes=2048,
        request_timeout_s=0.5,
    )
    with serve_in_thread(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service with tokens."""
    settings = Settings(database=tmp_path_factory.mktemp("guarded") / "a.db", tokens=TOKENS)
    with serve_in_thread(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def kind(answer: httpx.Response) -> tuple[int, str]:
    """(status, name of the problem)"""
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].removeprefix("urn:switchpoint:problem:")


def request_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The fields of what was logged of requests."""
    return [record.fields for record in caplog.records if record.name == "service.requests"]  # type: ignore[attr-defined]


# -- every answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/runs", 200),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/no/such/page", 404),
        ("DELETE", "/v1/runs", 405),
        ("POST", "/v1/runs", 415),
    ],
)
def test_every_answer_is_secured(opened: httpx.Client, method: str, path: str, status: int) -> None:
    answer = opened.request(method, path)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in middleware.SECURE} == middleware.SECURE
    assert "server" not in answer.headers


def test_a_fault_of_ours_is_secured_named_and_told_without_detail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from service import views

    def fail(state: object) -> None:
        raise RuntimeError("a detail")

    monkeypatch.setattr(views, "run", fail)
    with caplog.at_level(logging.INFO, "service"), serve_in_thread(Settings(database=tmp_path / "a.db")) as url:
        answer = httpx.post(f"{url}/v1/runs", json=run_body(), headers={"X-Request-Id": "abc"})
    assert kind(answer) == (500, "internal")
    assert "a detail" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"] == "abc"
    (line,) = request_lines(caplog)
    assert (line["status"], line["problem"], line["request_id"]) == (500, "internal", "abc")


def test_requests_have_names(opened: httpx.Client) -> None:
    given = opened.get("/healthz", headers={"X-Request-Id": "Trainer-1.42_x"})
    assert given.headers["x-request-id"] == "Trainer-1.42_x"
    made = [
        opened.get("/healthz", headers={"X-Request-Id": name}).headers["x-request-id"] for name in ("a b", "x" * 65)
    ]
    made.append(opened.get("/healthz").headers["x-request-id"])
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in made)
    assert len(set(made)) == 3


def test_a_line_of_log_says_who_did_what_and_never_a_secret(
    guarded: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "service"):
        run = guarded.post("/v1/runs", json=run_body(), headers=ADA).json()["id"]
        guarded.get(f"/v1/runs/{run}?secret={SECRET}", headers=BOB)
        guarded.get(f"/v1/{SECRET}", headers=WRONG)
        guarded.get("/healthz")
        until = time.monotonic() + 20
        while len(lines := request_lines(caplog)) < 3:  # written after the answer has gone
            assert time.monotonic() < until
            time.sleep(0.01)
    assert [(line["method"], line["route"], line["status"], line["actor"], line["run"]) for line in lines] == [
        ("POST", "/v1/runs", 201, "ada", None),
        ("GET", "/v1/runs/{run_id}", 422, "bob", run),
        ("GET", "none", 404, None, None),
    ]
    assert all(line["ms"] > 0 and line["client"] == "127.0.0.1" for line in lines)
    ours = [record for record in caplog.records if record.name.startswith("service")]  # the client's log has its own
    said = json.dumps(lines) + "\n".join(caplog.handler.format(record) for record in ours)
    assert SECRET not in said
    assert "not-one-of-theirs" not in said


# -- browsers led astray


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8321", "192.0.2.1", "localhost.evil.example", ""])
def test_a_service_without_tokens_answers_under_names_of_this_machine_alone(opened: httpx.Client, host: str) -> None:
    for method in ("GET", "POST"):
        assert kind(opened.request(method, "/v1/runs", headers={"Host": host})) == (421, "host")
    assert opened.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8321", "LocalHost"])
def test_those_are_names_of_this_machine(opened: httpx.Client, host: str) -> None:
    assert opened.get("/v1/runs", headers={"Host": host}).status_code == 200


def test_with_tokens_any_name_will_do(guarded: httpx.Client) -> None:
    assert guarded.get("/v1/runs", headers={**ADA, "Host": "schedule.example"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9"},  # another service of this machine
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Origin": "https://plots.example.evil.example"},
    ],
)
def test_pages_of_other_sites_may_change_nothing(opened: httpx.Client, headers: dict[str, str]) -> None:
    assert kind(opened.post("/v1/runs", json=run_body(), headers=headers)) == (403, "cross-site")
    assert opened.get("/v1/runs", headers=headers).status_code == 200  # reading is up to CORS


def test_own_pages_and_programs_may(opened: httpx.Client) -> None:
    here = str(opened.base_url)
    for headers in (
        {},
        {"Origin": here},
        {"Origin": here, "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://behind.a.proxy", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://plots.example", "Sec-Fetch-Site": "cross-site"},
    ):
        assert opened.post("/v1/runs", json=run_body(), headers=headers).status_code == 201, headers


def test_cors_opens_single_origins_alone(opened: httpx.Client, guarded: httpx.Client) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,if-match"}
    allowed, other = {"Origin": "https://plots.example"}, {"Origin": "https://evil.example"}
    preflight = opened.options("/v1/runs", headers={**allowed, **asked})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://plots.example"
    assert "access-control-allow-credentials" not in preflight.headers
    assert "ETag" in opened.get("/v1/runs", headers=allowed).headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in opened.options("/v1/runs", headers={**other, **asked}).headers
    assert "access-control-allow-origin" not in opened.get("/v1/runs", headers=other).headers
    for headers in (allowed, other):  # closed by default
        assert "access-control-allow-origin" not in guarded.get("/v1/runs", headers={**headers, **ADA}).headers


# -- bodies


def test_a_large_body_is_refused_with_and_without_its_length(opened: httpx.Client) -> None:
    body, headers = json.dumps({"x": "y" * 3000}).encode(), {"Content-Type": "application/json"}
    assert kind(opened.post("/v1/runs", content=body, headers=headers)) == (413, "body-too-large")
    chunks = (body[at : at + 500] for at in range(0, len(body), 500))
    assert kind(opened.post("/v1/runs", content=chunks, headers=headers)) == (413, "body-too-large")


def connection(client: httpx.Client) -> socket.socket:
    at = urlsplit(str(client.base_url))
    return socket.create_connection((at.hostname, at.port), timeout=20)


def test_a_body_that_does_not_come_is_not_waited_for(opened: httpx.Client) -> None:
    with connection(opened) as link:
        link.sendall(b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        link.sendall(b"Content-Length: 100\r\nConnection: close\r\n\r\n{")
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:switchpoint:problem:slow-body" in answer


@pytest.mark.parametrize("drip", [False, True])
def test_a_head_that_does_not_come_is_not_waited_for(opened: httpx.Client, drip: bool) -> None:
    """Neither nothing at all, nor a header now and then, keeps a connection."""
    with connection(opened) as link:
        link.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert link.recv(65536).startswith(b"HTTP/1.1 200")
        link.settimeout(0.1)
        until, closed = time.monotonic() + 20, False
        if drip:
            link.sendall(b"GET /healthz HTTP/1.1\r\n")
        while not closed and time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                try:
                    if drip:
                        link.sendall(b"X-A: b\r\n")
                    closed = link.recv(65536) == b""
                except ConnectionError:
                    closed = True
    assert closed


# -- how often


def test_each_token_has_its_own_rate(tmp_path: Path) -> None:
    settings = Settings(database=tmp_path / "a.db", tokens=TOKENS, rate_limit=0.5)
    with serve_in_thread(settings) as url, httpx.Client(base_url=url) as client:
        assert client.get("/v1/runs", headers=ADA).status_code == 200
        refused = client.get("/v1/runs", headers=ADA)
        assert kind(refused) == (429, "rate-limit")
        assert 1 <= int(refused.headers["retry-after"]) <= 2
        assert client.get("/v1/runs", headers=BOB).status_code == 200
        assert [client.get("/v1/runs").status_code for _ in range(2)] == [401, 429]  # nobody's: by address
        assert [client.get("/healthz").status_code for _ in range(3)] == [200] * 3


def test_wrong_tokens_are_few(tmp_path: Path) -> None:
    settings = Settings(database=tmp_path / "a.db", tokens=TOKENS, rate_limit=0)
    with serve_in_thread(settings) as url, httpx.Client(base_url=url) as client:
        found = [client.get("/v1/runs", headers=WRONG).status_code for _ in range(25)]
        refused = client.get("/v1/runs", headers=WRONG)
        assert client.get("/v1/runs", headers=ADA).status_code == 200
        text = client.get("/metrics", headers=ADA).text
    assert found[:20] == [401] * 20
    assert found[-1] == 429
    assert kind(refused) == (429, "rate-limit")
    assert 1 <= int(refused.headers["retry-after"]) <= 6
    assert re.search(r'switchpoint_limited_requests_total{limit="failures"} [56]\.0', text)


def test_a_proxy_is_believed_when_it_is_named(tmp_path: Path) -> None:
    """By whom an address without a token is counted."""
    for proxies, statuses in ((("127.0.0.1",), [401, 401, 401]), ((), [401, 429, 429])):
        settings = Settings(database=tmp_path / "a.db", tokens=TOKENS, rate_limit=0.01, trusted_proxies=proxies)
        with serve_in_thread(settings) as url:
            found = [httpx.get(f"{url}/v1/runs", headers={"X-Forwarded-For": f"192.0.2.{n}"}) for n in range(3)]
        assert [answer.status_code for answer in found] == statuses


# -- streams


def test_a_stream_ends_when_its_token_is_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import closing
    from datetime import UTC, datetime

    from service.keyring import issue, revoke
    from service.store import Store

    monkeypatch.setattr(keyring, "TTL_S", 0.05)
    monkeypatch.setattr(middleware, "RECHECK_S", 0.05)
    now = datetime.now(UTC)
    with closing(Store(tmp_path / "a.db")) as store:
        secret = issue(store, name="ada", scopes=["write"], expires=None, now=now)
        settings = Settings(database=tmp_path / "a.db")
        headers = {"Authorization": f"Bearer {secret}"}
        with serve_in_thread(settings) as url, httpx.Client(base_url=url, headers=headers, timeout=30) as client:
            run = client.post("/v1/runs", json=run_body()).json()["id"]
            with client.stream("GET", f"/v1/runs/{run}/events") as stream:
                lines = stream.iter_lines()
                assert stream.status_code == 200
                assert stream.headers["x-accel-buffering"] == "no"
                assert "switchpoint_event_streams 1.0" in client.get("/metrics").text
                client.post(f"/v1/runs/{run}/revisions", json=edit_body())
                assert next(line for line in lines if line.startswith("event")) == "event: revised"
                revoke(store, name="ada", now=now)
                list(lines)  # to its end, which a server sends that does not break off


def test_an_answer_that_is_not_a_stream_is_not_cut(opened: httpx.Client) -> None:
    run = opened.post("/v1/runs", json=run_body()).json()["id"]
    with opened.stream("GET", f"/v1/runs/{run}/batches/3") as stream:
        assert len(json.loads(stream.read())["corpus"]) == 16
