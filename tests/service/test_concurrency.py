"""Sixteen clients at once over real HTTP: exactly one edit wins, nothing acknowledged is lost, nothing frozen moves."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.service.conftest import edit_body, run_body
from tests.service.swarm import Swarm, verify

BOTH_DATABASES = True
NUM_CLIENTS = 16
NUM_REQUESTS = 200


def test_of_edits_made_against_one_parent_exactly_one_wins(server: str, run: str) -> None:
    ready = threading.Barrier(NUM_CLIENTS)

    def edit(index: int) -> list[int]:
        with httpx.Client(base_url=server, timeout=60) as client:
            statuses = []
            for parent in range(5):
                ready.wait()
                body = edit_body(parent, 500 + parent, author=f"client {index}")
                statuses.append(client.post(f"{run}/revisions", json=body).status_code)
                ready.wait()
            return statuses

    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        results = list(pool.map(edit, range(NUM_CLIENTS)))
    for attempt in range(5):
        statuses = [statuses[attempt] for statuses in results]
        assert (statuses.count(201), statuses.count(409)) == (1, NUM_CLIENTS - 1)


def test_one_idempotency_key_at_once_makes_one_revision(server: str, run: str) -> None:
    def edit(_: int) -> dict[str, Any]:
        answer = httpx.post(f"{server}{run}/revisions", json=edit_body(), headers={"Idempotency-Key": "k"}, timeout=60)
        assert answer.status_code == 201
        found: dict[str, Any] = answer.json()
        return found

    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        answers = list(pool.map(edit, range(NUM_CLIENTS)))
    assert answers == [answers[0]] * NUM_CLIENTS
    assert len(httpx.get(f"{server}{run}/revisions").json()["revisions"]) == 1


def test_one_definition_at_once_makes_one_run(server: str) -> None:
    body = run_body()

    def create(_: int) -> tuple[int, str]:
        answer = httpx.post(f"{server}/v1/runs", json=body, timeout=60)
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        answers = list(pool.map(create, range(NUM_CLIENTS)))
    assert sorted(status for status, _ in answers) == [200] * (NUM_CLIENTS - 1) + [201]
    assert len({run_id for _, run_id in answers}) == 1


def test_edits_and_freezes_of_sixteen_clients(server: str) -> None:
    swarm = Swarm(lambda _: server, NUM_CLIENTS)
    with swarm.at_work(NUM_REQUESTS):
        pass
    with httpx.Client(base_url=server, timeout=60) as client:
        verify(swarm, client)
    assert sum(len(member.accepted) for member in swarm.members) > 10
    assert swarm.num_lost == 0
