"""Sixteen clients at once over real HTTP: exactly one edit wins, nothing acknowledged is lost, nothing frozen moves."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import httpx

from tests.service.conftest import edit_body, report_body, run_body

MakeRun = Callable[..., str]
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


class Client:
    """An editor and a trainer in one, doing one of both at random; keeps what the service acknowledged."""

    def __init__(self, server: str, run: str, seed: int, turns: "threading.Semaphore") -> None:
        self.http = httpx.Client(base_url=server, timeout=60)
        self.run = run
        self.random = Random(seed)
        self.turns = turns
        self.accepted: dict[int, dict[str, Any]] = {}
        self.frozen: dict[int, dict[str, float]] = {}  # step → weights, as seen once it was frozen
        self.frontiers: list[int] = []
        self.refused = 0

    def work(self) -> None:
        while self.turns.acquire(blocking=False):
            if self.random.random() < 0.6:
                self.edit()
            else:
                self.freeze()
        self.http.close()

    def edit(self) -> None:
        state = self.http.get(self.run).json()
        share = self.random.randint(0, 100) / 100
        body = edit_body(
            state["revision"],
            min(999, state["frontier"] + self.random.randint(-2, 30)),
            mixture={"c4": 1 - share, "code": share},
        )
        answer = self.http.post(f"{self.run}/revisions", json=body)
        if answer.status_code == 201:
            self.accepted[answer.json()["number"]] = answer.json()
        else:
            assert answer.status_code == 409, answer.text
            self.refused += 1

    def freeze(self) -> None:
        state = self.http.get(self.run).json()
        body = report_body(0, state["frontier"] + self.random.randint(0, 12), state["revision"])
        answer = self.http.post(f"{self.run}/progress", json=body)
        assert answer.status_code == 200, answer.text
        frontier = answer.json()["frontier"]
        self.frontiers.append(frontier)
        for step in range(max(0, frontier - 3), frontier):
            weights = self.http.get(f"{self.run}/weights", params={"step": step}).json()["weights"]
            assert self.frozen.setdefault(step, weights) == weights


def test_edits_and_freezes_of_sixteen_clients(server: str, make_run: MakeRun) -> None:
    run = make_run()
    turns = threading.Semaphore(NUM_REQUESTS)
    clients = [Client(server, run, seed, turns) for seed in range(NUM_CLIENTS)]
    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        for future in [pool.submit(client.work) for client in clients]:
            future.result()
    history = httpx.get(f"{server}{run}/revisions").json()["revisions"]
    accepted = {number: item for client in clients for number, item in client.accepted.items()}
    assert sum(len(client.accepted) for client in clients) == len(accepted) > 10, "a number was given twice"
    assert {item["number"]: item for item in history} == accepted
    assert [item["number"] for item in history] == list(range(1, len(history) + 1))
    assert [item["parent"] for item in history] == list(range(len(history)))
    for client in clients:
        assert client.frontiers == sorted(client.frontiers)
        for step, weights in client.frozen.items():
            answer = httpx.get(f"{server}{run}/weights", params={"step": step}).json()
            assert (answer["weights"], answer["frozen"]) == (weights, True)
