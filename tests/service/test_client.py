"""service.client: the whole REST surface over real HTTP, what is repeated and what is not, and what is never told."""

import json
import logging
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.client import Client, ProblemError
from service.schemas import ClaimIn, ProgressIn, RevisionIn, RunIn
from service.settings import Settings
from tests.service.conftest import edit_body, report_body, run_body
from tests.service.processes import ServerProcess, serve_in_thread

Answer = tuple[int, Mapping[str, str], Any]
PROBLEM = {
    "type": "urn:switchpoint:problem:storage",
    "title": "t",
    "status": 503,
    "detail": "try again",
    "instance": "/",
}
BUSY: Answer = (503, {"Retry-After": "0"}, PROBLEM)
REVISION = {
    "number": 1, "parent": 0, "effective_step": 5, "schedule": None, "corpora": {}, "global_batch_size": 8,
    "author": "a", "reason": "r", "time": "t", "superseded": None, "superseded_time": None,
}  # fmt: skip
ANSWER = {"frontier": 5, "revision": 0, "revisions": [], "superseded": []}


@pytest.fixture
def client(server: str) -> Iterator[Client]:
    with Client(server) as client:
        yield client


@contextmanager
def scripted(*answers: Answer) -> Iterator[tuple[str, list[tuple[str, str, dict[str, str]]]]]:
    """A server that gives these answers in order, the last of them for ever: (address, what it was asked)."""
    asked: list[tuple[str, str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = answers[min(len(asked), len(answers) - 1)]
            asked.append((self.command, self.path, dict(self.headers)))
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(text)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_importing_needs_neither_fastapi_nor_sqlalchemy() -> None:
    program = "import json, sys, service.client; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "torch", "composer", "numpy"}
    assert set(json.loads(done.stdout)) & heavy == set()


def test_every_operation_is_a_method(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    names = [re.sub(r"(?=[A-Z])", "_", name).lower() for name in ids]
    assert [name for name in names if not callable(getattr(Client, name, None))] == []


def test_a_run_from_its_making_to_its_fork(client: Client) -> None:
    body = run_body()
    run = client.create_run(RunIn.model_validate(body))
    assert client.create_run(body) == run
    assert run.id in [each.id for each in client.list_runs()]
    preview = client.create_revision(run.id, RevisionIn.model_validate(edit_body(0, 500)), dry_run=True, points=10)
    assert preview.course
    assert preview.after["code"]["samples"] > preview.before["code"]["samples"]
    revision = client.create_revision(run.id, edit_body(0, 500), idempotency_key="one")
    assert client.create_revision(run.id, edit_body(0, 500), idempotency_key="one") == revision
    assert [each.number for each in client.list_revisions(run.id)] == [1]
    assert list(client.list_revisions(run.id, after=1)) == []
    claim = client.claim_run(run.id, ClaimIn(trainer="me", step=0))
    report = ProgressIn.model_validate({**report_body(20, 40, 0), "claim": claim.claim, "metrics": {"loss": 2.5}})
    answer = client.report_progress(run.id, report)
    assert (answer.frontier, [each.number for each in answer.revisions]) == (40, [1])
    assert [each.metrics for each in client.list_progress(run.id)] == [{"loss": 2.5}]
    stands = client.get_run(run.id)
    assert (stands.frontier, stands.step, stands.revision) == (40, 20, 1)
    assert stands.claim
    assert stands.claim.trainer == "me"
    assert client.get_ledger(run.id).revisions[0].reason == "more code"
    names = {"name": body["name"] + "-fork", "author": "ada", "reason": "to compare"}
    fork = client.fork_run(run.id, {**names, "step": 30})
    assert fork.parent
    assert (fork.parent.run, fork.parent.step) == (run.id, 30)
    limited = client.set_limits(run.id, {"limits": {"code": {"max": 0.6}}, "reason": "so agreed"})
    assert limited.limits == {"code": {"max": 0.6}}
    kinds = [event.kind for event in client.list_events(run.id)]
    assert kinds == ["created", "revised", "claimed", "reported", "limited"]
    assert {run.id, fork.id} <= {event.run for event in client.list_all_events()}


def test_what_the_plan_says(client: Client) -> None:
    run = client.create_run(run_body())
    assert client.get_schedule(run.id).phases[0]["mixture"] == {"c4": 1.0}
    assert client.get_weights(run.id, step=3).weights == {"c4": 1.0}
    spread = client.get_weights(run.id, start=0, end=1000, points=5)
    assert (len(spread.steps), spread.switchpoints) == (5, [600])
    assert client.get_forecast(run.id, step=10).corpora["c4"]["samples"] == 160
    course = client.get_forecast(run.id, points=10).course
    assert course
    batch = client.get_batch(run.id, 0, limit=4)
    assert (len(batch.sample_id), batch.next) == (4, 4)
    reads = client.get_reads(run.id, "c4", batch.sample_id[0], end=1)
    assert [(read.step, read.slot) for read in reads.reads] == [(0, 0)]
    client.get_health()
    client.get_readiness()
    assert "switchpoint_runs" in client.get_metrics()


def test_lists_go_over_all_pages(tmp_path: Path) -> None:
    with serve_in_thread(Settings(database=tmp_path / "runs.db", max_page=2)) as url, Client(url) as client:
        runs = [client.create_run(run_body()) for _ in range(5)]
        assert [run.id for run in client.list_runs()] == [run.id for run in runs]
        for step in range(5):
            client.create_revision(runs[0].id, edit_body(step, 500 + step))
            client.report_progress(runs[0].id, report_body(step, 10 + step, step))
        assert [revision.number for revision in client.list_revisions(runs[0].id)] == [1, 2, 3, 4, 5]
        assert [report.step for report in client.list_progress(runs[0].id, start=1)] == [1, 2, 3, 4]
        assert [report.step for report in client.list_progress(runs[0].id, points=2)][1:] == [4]
        assert [event.seq for event in client.list_events(runs[0].id)] == list(range(1, 12))


def test_a_refusal_says_what_to_do(client: Client) -> None:
    run = client.create_run(run_body())
    client.create_revision(run.id, edit_body(0, 500))
    with pytest.raises(ProblemError, match="HTTP 409: the revision was made against 0") as caught:
        client.create_revision(run.id, edit_body(0, 600))
    problem = caught.value
    assert (problem.name, problem.status, problem.fields) == ("stale-parent", 409, {"current_revision": 1})
    assert problem.type == "urn:switchpoint:problem:stale-parent"
    assert not problem.is_away
    again = pickle.loads(pickle.dumps(problem))
    assert (str(again), again.fields) == (str(problem), problem.fields)


def test_a_name_with_a_slash_is_one_part_of_the_address(client: Client) -> None:
    with pytest.raises(ProblemError) as caught:
        client.get_run("../runs?limit=1")
    assert caught.value.status == 404


def test_nobody_there() -> None:
    with Client("http://127.0.0.1:9", attempts=2) as client, pytest.raises(ProblemError) as caught:
        client.get_run("a")
    assert (caught.value.status, caught.value.name, caught.value.is_away) == (0, "no-answer", True)


# -- what is repeated

REPEATED = {
    "get": lambda client: client.get_forecast("a"),
    "create": lambda client: client.create_run({}),
    "claim": lambda client: client.claim_run("a", {}),
    "report": lambda client: client.report_progress("a", {}),
    "edit with a key": lambda client: client.create_revision("a", {}, idempotency_key="k"),
    "dry run": lambda client: client.create_revision("a", {}, dry_run=True),
}
SENT_ONCE = {
    "edit": lambda client: client.create_revision("a", {}),
    "fork": lambda client: client.fork_run("a", {}),
    "limits": lambda client: client.set_limits("a", {}),
}


@pytest.mark.parametrize("name", REPEATED)
def test_what_is_safe_to_repeat_is_repeated(name: str) -> None:
    with scripted(BUSY, (502, {}, b"bad gateway"), (418, {}, b"")) as (url, asked), Client(url) as client:
        with pytest.raises(ProblemError) as caught:
            REPEATED[name](client)
        assert (caught.value.status, caught.value.type) == (418, "about:blank")
        assert len(asked) == 3
        assert len({(method, path, headers.get("Idempotency-Key")) for method, path, headers in asked}) == 1


@pytest.mark.parametrize("name", SENT_ONCE)
def test_what_is_not_is_sent_once(name: str) -> None:
    with scripted(BUSY) as (url, asked), Client(url) as client:
        with pytest.raises(ProblemError, match="try again"):
            SENT_ONCE[name](client)
        assert len(asked) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422, 500])
def test_what_would_be_answered_the_same_is_not_repeated(status: int) -> None:
    with scripted((status, {}, PROBLEM)) as (url, asked), Client(url) as client:
        with pytest.raises(ProblemError):
            client.get_run("a")
        assert len(asked) == 1


def test_it_gives_up_after_its_attempts() -> None:
    with scripted(BUSY) as (url, asked), Client(url, attempts=3) as client:
        with pytest.raises(ProblemError, match="try again"):
            client.get_run("a")
        assert len(asked) == 3


def test_it_waits_as_long_as_it_is_told() -> None:
    told = (429, {"Retry-After": "1"}, PROBLEM)
    with scripted(told, (200, {}, ANSWER)) as (url, asked), Client(url) as client:
        begin = time.monotonic()
        client.report_progress("a", {})
        assert time.monotonic() - begin >= 1
        assert len(asked) == 2


def test_it_does_not_wait_for_an_hour() -> None:
    with scripted((503, {"Retry-After": "3600"}, PROBLEM)) as (url, asked), Client(url) as client:
        with pytest.raises(ProblemError) as caught:
            client.get_run("a")
        assert (len(asked), caught.value.fields["retry_after"]) == (1, 3600)


# -- what is read of an answer


def test_what_a_newer_service_adds_is_passed_over() -> None:
    with scripted((200, {}, {**ANSWER, "weather": "fine"})) as (url, _), Client(url) as client:
        assert client.report_progress("a", {}).frontier == 5


def test_but_not_in_a_revision() -> None:
    """What it does not understand of an edit would be another schedule than the one on record."""
    newer = {**ANSWER, "revisions": [{**REVISION, "seq_len": 64}]}
    del newer["revisions"][0]["superseded_time"]
    with scripted((200, {}, newer)) as (url, _), Client(url) as client:
        with pytest.raises(ProblemError, match=r"\$\.revisions\.0\.seq_len") as caught:
            client.report_progress("a", {})
        assert caught.value.name == "unreadable"
        assert not caught.value.is_away


@pytest.mark.parametrize("body", [b"", b"<html>", [1], {"frontier": "x"}])
def test_what_is_no_answer_of_this_api(body: Any) -> None:
    error = pytest.raises(ProblemError, match="none that this version of the client knows")
    with scripted((200, {}, body)) as (url, _), Client(url) as client, error:
        client.report_progress("a", {})


def test_a_redirect_is_not_followed() -> None:
    with scripted((307, {"Location": "http://elsewhere"}, b"")) as (url, asked), Client(url) as client:
        with pytest.raises(ProblemError, match="sends on to http://elsewhere"):
            client.get_run("a")
        assert len(asked) == 1


# -- the token

SECRET = "do-not-tell-0123456789"


def test_the_token_is_sent_and_never_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with scripted((401, {}, PROBLEM)) as (url, asked), Client(url, token=SECRET) as client:
        with pytest.raises(ProblemError) as caught:
            client.get_run("a")
        assert asked[0][2]["Authorization"] == f"Bearer {SECRET}"
        assert SECRET not in "".join([repr(client), repr(vars(client)), repr(caught.value), caplog.text])
        assert caplog.records


def test_a_token_that_cannot_be_one_is_refused_without_telling_it() -> None:
    with pytest.raises(ValueError, match="bearer token") as caught:
        Client("http://127.0.0.1:1", token=SECRET + "\n")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:1", "ftp://a", "http://", f"http://me:{SECRET}@a"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="an address like") as caught:
        Client(url)
    assert SECRET not in str(caught.value)


# -- events


def test_events_go_on_after_the_service_was_killed(tmp_path: Path) -> None:
    """None is missed and none comes twice, whatever people write into them."""
    server = ServerProcess(tmp_path / "runs.db")
    server.arguments = ("--port", str(httpx.URL(server.url).port))  # the same when it starts again
    reasons = ["one", "two\u2028lines\x85\n", "", "four"]
    with Client(server.url) as client:
        run = client.create_run(run_body())
        with closing(client.stream_events(run.id, after=1)) as stream:
            for number, reason in enumerate(reasons):
                if not reason:
                    server.kill()
                    server.start()
                    continue
                parent = client.get_run(run.id).revision
                client.create_revision(run.id, edit_body(parent, 500 + number, reason=reason))
                event = next(stream)
                assert (event.kind, event.body["reason"], event.seq) == ("revised", reason, parent + 2)
        recorded = list(client.list_events(run.id))
        assert [event.body.get("reason") for event in recorded[1:]] == [reason for reason in reasons if reason]
    server.stop()


def test_a_stream_ends_where_the_run_is_unknown(client: Client) -> None:
    with pytest.raises(ProblemError) as caught:
        next(client.stream_events("nothing"))
    assert caught.value.name == "unknown-run"
