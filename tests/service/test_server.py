"""service.server, in a process of its own: how it stops, and what it says of itself meanwhile."""

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import run_body
from tests.service.processes import ServerProcess


@contextmanager
def serving(tmp_path: Path, *arguments: str) -> Iterator[tuple[ServerProcess, httpx.Client]]:
    server = ServerProcess(tmp_path / "a.db", *arguments)
    try:
        with server.client() as client:
            yield server, client
    finally:
        server.kill()


@contextmanager
def locked(database: Path) -> Iterator[Callable[[], None]]:
    """Nobody else writes to the database inside, until what is given is called."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection.rollback


def eventually_status(client: httpx.Client, path: str, status: int) -> httpx.Response:
    until = time.monotonic() + 20
    while (answer := client.get(path)).status_code != status:
        assert time.monotonic() < until, f"{path} still answers {answer.status_code}"
        time.sleep(0.02)
    return answer


def test_stopping_it_is_not_ready_answers_on_ends_streams_and_goes(tmp_path: Path) -> None:
    with serving(tmp_path, "--shutdown-delay", "2") as (server, client):
        run = client.post("/v1/runs", json=run_body()).json()["id"]
        assert client.get("/readyz").json() == {"status": "ready"}
        with client.stream("GET", f"/v1/runs/{run}/events") as stream:
            server.process.send_signal(signal.SIGTERM)
            problem = eventually_status(client, "/readyz", 503).json()
            assert problem["detail"] == "the service is stopping"
            assert client.get("/healthz").status_code == 200
            assert client.post("/v1/runs", json=run_body()).status_code == 201
            list(stream.iter_lines())  # ends as a stream ends that is whole
        assert server.process.wait(20) == -signal.SIGTERM


def test_requests_that_have_begun_are_finished(tmp_path: Path) -> None:
    with serving(tmp_path) as (server, client), locked(tmp_path / "a.db") as unlock:
        answers, thread = _post_a_run(client)
        _wait_for_requests(server, 1)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):  # long enough to be dropped, if it were
            server.process.wait(1)
        unlock()
        thread.join(20)
        assert answers == [201]
        assert server.process.wait(20) == -signal.SIGTERM


def test_but_only_for_so_long(tmp_path: Path) -> None:
    """A request that waits for a lock, which may take half a minute, does not keep the process."""
    with serving(tmp_path, "--shutdown-grace", "0.5") as (server, client), locked(tmp_path / "a.db"):
        _, thread = _post_a_run(client)
        _wait_for_requests(server, 1)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == -signal.SIGTERM
        thread.join(20)


def test_it_is_not_ready_with_the_tables_of_another_release(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, client), closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        assert client.get("/readyz").status_code == 200
        with connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        problem = client.get("/readyz")
        assert problem.status_code == 503
        assert "the database is at migration 9999, this program at" in problem.json()["detail"]
        with connection:
            connection.execute("DROP TABLE alembic_version")
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200


def test_logs_are_lines_of_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--db", str(tmp_path / "a.db")]
    with subprocess.Popen(
        [*command, "--log-format", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        httpx.get(f"{url}/v1/runs", headers={"X-Request-Id": "mine"})
        httpx.get(f"{url}/healthz")
        process.terminate()
        _, logged = process.communicate(timeout=20)
    lines = [json.loads(line) for line in logged.splitlines()]
    assert [line["message"] for line in lines] == ["request", "stopping", "stopped"]
    expected = {"level": "info", "logger": "service.requests", "request_id": "mine", "method": "GET"}
    expected |= {"route": "/v1/runs", "status": 200, "actor": "anonymous"}
    assert {key: lines[0][key] for key in expected} == expected


def _post_a_run(client: httpx.Client) -> tuple[list[int], threading.Thread]:
    """What is answered, in time, and the thread that waits for it."""
    answers: list[int] = []

    def post() -> None:
        with contextlib.suppress(httpx.HTTPError):
            answers.append(client.post("/v1/runs", json=run_body()).status_code)

    thread = threading.Thread(target=post)
    thread.start()
    return answers, thread


def _wait_for_requests(server: ServerProcess, number: int) -> None:
    """Until so many requests are in progress beside the one that asks."""
    with server.client() as client:
        until = time.monotonic() + 20
        while f"switchpoint_requests_in_progress {number + 1}.0" not in client.get("/metrics").text:
            assert time.monotonic() < until, "the request has not begun"
            time.sleep(0.02)
