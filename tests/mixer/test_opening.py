"""mixer.opening: one run from its YAML, from an exported ledger and from the service, and everything that is no run."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mixer import MixerError
from mixer.opening import is_loopback, open_run
from mixer.runfile import PlannedRun
from service.settings import Settings
from service.tokens import parse_tokens
from tests.mixer.served import EDIT, FACTS, PHASES, SIZES, id_of, make_run
from tests.service.processes import serve_in_thread

SECRET = "a-token-of-sixteen-or-more"


def same(one: PlannedRun, other: PlannedRun) -> bool:
    plans = one.plan(), other.plan()
    batches = [[plan.batch(step).sample_id.tolist() for step in (0, 59, 70, 85, 99)] for plan in plans]
    return batches[0] == batches[1] and one.schedule == other.schedule


# -- three ways to the same run


def test_a_yaml_a_ledger_and_a_service_give_the_same_run(server: str, ledger: Path, tmp_path: Path) -> None:
    path = tmp_path / "cfg.yaml"
    last = {"start": "80ba", "mixture": EDIT["mixture"]}
    config = {**FACTS, "max_duration": "100ba", "corpora": {name: {} for name in SIZES}}
    path.write_text(yaml.safe_dump({**config, "schedule": {"phases": [*PHASES, last]}}))
    written = open_run(str(path), sizes={name: str(size) for name, size in SIZES.items()})
    exported = open_run(str(ledger))
    served = open_run(f"{server}/v1/runs/{id_of(server, 'live')}")
    assert written.ledger is None
    assert (exported.name, exported.frontier, exported.step) == ("live", 50, 40)
    assert same(written, exported)
    assert exported.ledger is not None
    assert [revision.superseded is None for revision in exported.ledger.revisions] == [False, True]
    assert {**vars(served), "corpora": None} == {**vars(exported), "corpora": None}
    assert same(served, exported)


def test_a_run_by_its_name_and_the_only_run(server: str, tmp_path: Path) -> None:
    by_id = open_run(f"{server}/v1/runs/{id_of(server, 'live')}/")
    with serve_in_thread(Settings(database=tmp_path / "other.db")) as url:
        with pytest.raises(MixerError, match=f"say which run: {url}/v1/runs/ID, or its name; there are none"):
            open_run(url)
        make_run(url, "a/b c?ü")
        assert open_run(url).name == open_run(f"{url}/").name == "a/b c?ü"
        assert open_run(f"{url}/v1/runs/a%2Fb%20c%3F%C3%BC").name == "a/b c?ü"
        make_run(url, "second")
        with pytest.raises(MixerError, match=r"there are \w+ \(a/b c\?ü\), \w+ \(second\)"):
            open_run(url)
    assert same(open_run(f"{server}/v1/runs/live"), by_id)


def test_a_run_that_is_not_there(server: str) -> None:
    with pytest.raises(MixerError, match=rf"{server} has no run 'nope'; it has \w+ \(live\)"):
        open_run(f"{server}/v1/runs/nope")


def test_a_proxy_is_not_asked_for_this_machine(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert open_run(f"{server}/v1/runs/live").name == "live"


# -- tokens


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """A service that wants tokens, with one run."""
    tokens = parse_tokens(f"read:ada:{SECRET}\nwrite:bob:{SECRET[::-1]}")
    with serve_in_thread(Settings(database=tmp_path / "guarded.db", tokens=tokens)) as url:
        body = {"name": "kept", "num_steps": 10, **FACTS, "corpora": {"c4": {"shard_sizes": [9]}}}
        body["schedule"] = {"phases": PHASES[:1]}
        answer = httpx.post(f"{url}/v1/runs", json=body, headers={"Authorization": f"Bearer {SECRET[::-1]}"})
        answer.raise_for_status()
        yield url


def test_a_service_that_wants_a_token(guarded: str) -> None:
    assert open_run(guarded, token=SECRET).name == "kept"
    with pytest.raises(MixerError, match="wants a token: put it into SWITCHPOINT_TOKEN"):
        open_run(guarded)
    with pytest.raises(MixerError, match="does not know the token in SWITCHPOINT_TOKEN") as caught:
        open_run(guarded, token="another-token-that-is-wrong")
    assert "another" not in str(caught.value)


def test_a_token_leaves_this_machine_encrypted_or_when_told_to(guarded: str) -> None:
    elsewhere = guarded.replace("127.0.0.1", "0.0.0.0")  # not a loopback address, though it leads here
    with pytest.raises(
        MixerError, match=r"the token would go to 0\.0\.0\.0 unencrypted: use https, .*--token-over-http"
    ):
        open_run(elsewhere, token=SECRET)
    with pytest.raises(MixerError, match="wants a token"):  # without one there is nothing to keep
        open_run(elsewhere)
    assert open_run(elsewhere, token=SECRET, token_over_http=True).name == "kept"


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ümlaut"])
def test_a_token_that_cannot_be_sent_is_not_shown(guarded: str, token: str) -> None:
    with pytest.raises(MixerError, match="characters that a bearer token cannot have") as caught:
        open_run(guarded, token=token)
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "local"),
    [("localhost", True), ("127.0.0.1", True), ("127.8.0.3", True), ("::1", True), ("10.0.0.1", False),
     ("0.0.0.0", False), ("example.org", False), ("localhost.example.org", False)],
)  # fmt: skip
def test_what_this_machine_is(host: str, local: bool) -> None:
    assert is_loopback(host) is local


# -- what is no service


@contextmanager
def answering(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Iterator[tuple[str, list[Any]]]:
    """A server with one answer; its address, and the headers it was sent."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, b"<html>hello</html>", "does not answer as a switchpoint service of this version does"),
        (200, b"[1]", "does not answer as a switchpoint service"),
        (200, b"\xff\xfe", "does not answer as a switchpoint service"),
        (404, b"<html>", "does not answer as a switchpoint service"),
        (404, b'{"type": "urn:switchpoint:problem:not-found"}', "does not answer as a switchpoint service"),
        (200, b"{}", r"does not hold a run as this program knows it: Field required @ \$.order_version"),
        (409, b'{"type": "urn:switchpoint:problem:order-version", "detail": "made by another"}', "made by another"),
        (403, b'{"type": "urn:switchpoint:problem:scope", "detail": "may not"}', "may not"),
    ],
)
def test_answers_that_are_no_run(status: int, body: bytes, message: str) -> None:
    with answering(status, body) as (url, _), pytest.raises(MixerError, match=message):
        open_run(f"{url}/v1/runs/abc")


@pytest.mark.parametrize("body", [b"", b'{"type": "urn:switchpoint:problem:storage", "detail": "full"}'])
def test_a_service_in_trouble(body: bytes) -> None:
    with answering(503, body) as (url, _), pytest.raises(OSError, match=f"{url}.*: (Service Unavailable|full)"):
        open_run(f"{url}/v1/runs/x")


def test_a_redirect_is_not_followed() -> None:
    with answering(200, b"{}") as (target, seen):
        headers = {"Location": f"{target}/v1/runs/x/ledger"}
        with answering(307, b"", headers) as (url, _), pytest.raises(MixerError, match=f"{url} sends on to {target}"):
            open_run(f"{url}/v1/runs/x", token=SECRET)
        assert seen == []


def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match=f"cannot reach http://127.0.0.1:{port}: .*refused; is a service running there"):
        open_run(f"http://127.0.0.1:{port}/v1/runs/x")


def test_what_does_not_speak_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(b"220 mail\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OSError, match=r"cannot reach http://127\.0\.0\.1"):
            open_run(f"http://127.0.0.1:{listener.getsockname()[1]}/v1/runs/x")
        thread.join()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("ftp://127.0.0.1/v1/runs/x", "a service has an address like http://127.0.0.1:8321/v1/runs/ID"),
        ("file:///etc/passwd", "a service has an address like"),
        ("http://[::1/v1/runs/x", "a service has an address like"),
        ("http:///v1/runs/x", "a service has an address like"),
        ("http://127.0.0.1:port/v1/runs/x", "a service has an address like"),
        ("http://ada:secret@127.0.0.1/v1/runs/x", "a token goes into SWITCHPOINT_TOKEN"),
        ("http://127.0.0.1/v1/runs/x?token=secret", "host, port and path alone"),
    ],
)
def test_addresses_that_are_none(source: str, message: str) -> None:
    with pytest.raises(MixerError, match=message) as caught:
        open_run(source)
    assert "secret" not in str(caught.value)


# -- exported ledgers


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: lines[:-1], "is not a whole switchpoint-ledger, its last line must count what it holds"),
        (lambda lines: [lines[0], *lines[2:]], "is not a whole switchpoint-ledger"),
        (lambda lines: [*lines[:-1], lines[-1][:-3]], "is not a whole switchpoint-ledger"),
        (lambda lines: [lines[0], "[]", *lines[2:]], "is not a whole switchpoint-ledger"),
        (lambda lines: [*lines[:5], lines[5].replace("revision", "revisited"), *lines[6:]], "is not a whole"),
        (lambda lines: [lines[0].replace('"version": 2', '"version": 9'), *lines[1:]], "reads versions 1 and 2"),
        (lambda lines: [lines[0].replace('"order_version": ', '"order_version": 9'), *lines[1:]],
         "of the sample order, this program makes version"),
        (lambda lines: [lines[0].replace('"num_steps": 100', '"num_steps": "many"'), *lines[1:]],
         r"does not hold a run as this program knows it: .* @ \$.definition.num_steps"),
        (lambda lines: [lines[0].replace('"c4": 1.0', '"c4": 0.9'), *lines[1:]], "weights sum to 0.9"),
        (lambda lines: [lines[0].replace('"c4": 1.0', '"c5": 1.0'), *lines[1:]], "unknown corpus 'c5'"),
        (lambda lines: [*lines[:5], lines[5].replace('"number": 1', '"number": 7'), *lines[6:]], "is missing"),
    ],
)  # fmt: skip
def test_ledgers_that_are_damaged(ledger: Path, damage: Callable[[list[str]], list[str]], message: str) -> None:
    lines = ledger.read_text().splitlines()
    damaged = damage(lines)
    assert damaged != lines
    ledger.write_text("\n".join(damaged))
    with pytest.raises(MixerError, match=message):
        open_run(str(ledger)).plan()


def test_a_ledger_of_the_first_version(ledger: Path) -> None:
    """It had no events."""
    run, lines = open_run(str(ledger)), ledger.read_text().splitlines()
    kept = [line for line in lines[:-1] if not line.startswith('{"event"')]
    counts = {name: count for name, count in json.loads(lines[-1])["end"].items() if name in ("revisions", "progress")}
    first = [kept[0].replace('"version": 2', '"version": 1'), *kept[1:], json.dumps({"end": counts})]
    assert len(first) == len(lines) - 4
    ledger.write_text("\n".join(first))
    assert same(open_run(str(ledger)), run)


def test_what_a_later_version_adds_is_passed_over(ledger: Path) -> None:
    head, *rest = map(json.loads, ledger.read_text().splitlines())
    ledger.write_text("\n".join(map(json.dumps, [{**head, "colour": "blue"}, *rest])))
    assert open_run(str(ledger)).name == "live"
