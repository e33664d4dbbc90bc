"""SIGKILL at any moment: whatever the service acknowledged is there when it starts again."""

import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from tests.service.conftest import edit_body, report_body, run_body
from tests.service.processes import ServerProcess


class Writer:
    """Makes edits and reports in turn until the server is gone, and keeps what was acknowledged."""

    def __init__(self, url: str, run: str, state: dict[str, int]) -> None:
        self.run = run
        self.url = url
        self.revision = state["revision"]
        self.frontier = state["frontier"]
        self.acknowledged: dict[int, dict[str, Any]] = {}
        self.reported: dict[int, float] = {}
        self.begun = threading.Event()

    def work(self) -> None:
        try:
            with httpx.Client(base_url=self.url, timeout=30) as client:
                while True:
                    self.edit(client)
                    self.freeze(client)
                    self.begun.set()
        except httpx.TransportError:
            self.begun.set()

    def edit(self, client: httpx.Client) -> None:
        body = edit_body(self.revision, min(self.frontier + 5, 999_999))
        answer = client.post(f"{self.run}/revisions", json=body)
        assert answer.status_code == 201, answer.text
        self.revision = answer.json()["number"]
        self.acknowledged[self.revision] = answer.json()

    def freeze(self, client: httpx.Client) -> None:
        body = report_body(self.frontier, self.frontier + 1, self.revision, metrics={"loss": float(self.frontier)})
        answer = client.post(f"{self.run}/progress", json=body)
        assert answer.status_code == 200, answer.text
        self.reported[self.frontier] = float(self.frontier)
        self.frontier = answer.json()["frontier"]


def campaign(database: Path, num_kills: int) -> int:
    """Kill the server `num_kills` times while it is written to; how many revisions were acknowledged."""
    random, server = Random(7), ServerProcess(database)
    acknowledged: dict[int, dict[str, Any]] = {}
    try:
        with server.client() as client:
            run = f"/v1/runs/{client.post('/v1/runs', json=run_body(num_steps=1_000_000)).json()['id']}"
            state = client.get(run).json()
        for _ in range(num_kills):
            writer = Writer(server.url, run, state)
            thread = threading.Thread(target=writer.work)
            thread.start()
            assert writer.begun.wait(60)
            time.sleep(random.random() * 0.15)  # not to wait for anything: the moment of the kill is random
            server.kill()
            thread.join(60)
            server.start()
            acknowledged |= writer.acknowledged
            with server.client() as client:
                state = client.get(run).json()
                check(client, run, state, writer, acknowledged)
    finally:
        server.kill()
    return len(acknowledged)


def check(client: httpx.Client, run: str, state: dict[str, Any], writer: Writer, acknowledged: dict[int, Any]) -> None:
    """All that was acknowledged is there; of what was asked last, the answer may have been lost."""
    assert state["frontier"] in (writer.frontier, writer.frontier + 1)
    assert state["revision"] in (writer.revision, writer.revision + 1)
    history, after = {}, 0
    while after is not None:
        page = client.get(f"{run}/revisions", params={"after": after}).json()
        history |= {item["number"]: item for item in page["revisions"]}
        after = page["next"]
    assert list(history) == list(range(1, state["revision"] + 1))
    assert {number: history[number] for number in acknowledged} == acknowledged
    start = min(writer.reported, default=0)
    reports = client.get(f"{run}/progress", params={"start": start, "limit": 10_000}).json()["reports"]
    found = {item["step"]: item["metrics"]["loss"] for item in reports}
    assert {step: found.get(step) for step in writer.reported} == writer.reported


def test_ten_kills(tmp_path: Path) -> None:
    assert campaign(tmp_path / "a.db", 10) >= 10


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_hundred_kills(tmp_path: Path) -> None:
    assert campaign(tmp_path / "a.db", 200) >= 200


def test_what_was_stored_is_whole_after_a_kill(tmp_path: Path) -> None:
    """The plan is rebuilt from the file alone, and is the same."""
    server = ServerProcess(tmp_path / "a.db")
    try:
        with server.client() as client:
            run = f"/v1/runs/{client.post('/v1/runs', json=run_body()).json()['id']}"
            client.post(f"{run}/revisions", json=edit_body(), headers={"Idempotency-Key": "k"})
            client.post(f"{run}/progress", json=report_body(600, 620))  # the edit at 500 was passed unheard
            client.post(f"{run}/revisions", json=edit_body(0, 700))
            paths = ("", "/schedule", "/revisions", "/batches/710", "/forecast", "/progress")
            before = [client.get(f"{run}{path}").json() for path in paths]
        server.kill()
        server.start()
        with server.client() as client:
            assert [client.get(f"{run}{path}").json() for path in paths] == before
            again = client.post(f"{run}/revisions", json=edit_body(), headers={"Idempotency-Key": "k"})
            assert (again.status_code, again.json()["number"]) == (201, 1)
    finally:
        server.kill()
