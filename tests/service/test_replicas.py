"""Two processes of the service on one PostgreSQL: every guarantee holds across them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from service.chain import replay
from tests.postgres import Postgres
from tests.service.conftest import edit_body, migrated, report_body, run_body
from tests.service.processes import ServerProcess
from tests.service.swarm import Swarm, verify

NUM_CLIENTS = 8


@pytest.fixture(scope="module")
def replicas(cluster: Postgres) -> Iterator[list[str]]:
    """The addresses of both."""
    database = cluster.make(migrated)
    servers = [ServerProcess(database) for _ in range(2)]
    yield [server.url for server in servers]
    for server in servers:
        server.stop()
    cluster.drop(database)


@pytest.fixture
def run(replicas: list[str]) -> str:
    """The path of a fresh run, which both know."""
    return f"/v1/runs/{httpx.post(f'{replicas[0]}/v1/runs', json=run_body()).json()['id']}"


def at_once(replicas: list[str], path: str, bodies: list[dict[str, Any]], **headers: str) -> list[httpx.Response]:
    """Send every body at the same moment, by turns to one and the other."""
    ready = threading.Barrier(len(bodies))

    def send(index: int) -> httpx.Response:
        with httpx.Client(base_url=replicas[index % 2], timeout=60, headers=headers) as client:
            client.get("/healthz")  # connected
            ready.wait()
            return client.post(path, json=bodies[index])

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(send, range(len(bodies))))


def test_of_edits_made_against_one_parent_exactly_one_wins(replicas: list[str], run: str) -> None:
    for parent in range(5):
        bodies = [edit_body(parent, 500 + parent, author=f"client {index}") for index in range(NUM_CLIENTS)]
        statuses = [answer.status_code for answer in at_once(replicas, f"{run}/revisions", bodies)]
        assert (statuses.count(201), statuses.count(409)) == (1, NUM_CLIENTS - 1)
    history = [httpx.get(f"{url}{run}/revisions").json()["revisions"] for url in replicas]
    assert history[0] == history[1]
    assert [item["number"] for item in history[0]] == [1, 2, 3, 4, 5]


def test_an_idempotency_key_is_honoured_by_both(replicas: list[str], run: str) -> None:
    answers = at_once(replicas, f"{run}/revisions", [edit_body()] * NUM_CLIENTS, **{"Idempotency-Key": "k"})
    assert {answer.status_code for answer in answers} == {201}
    assert [answer.json() for answer in answers] == [answers[0].json()] * NUM_CLIENTS
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    other = at_once(replicas, f"{run}/revisions", [edit_body(reason="another")] * 2, **{"Idempotency-Key": "k"})
    assert [answer.json()["type"] for answer in other] == ["urn:switchpoint:problem:idempotency-key-reused"] * 2


def test_one_definition_at_once_makes_one_run(replicas: list[str]) -> None:
    answers = at_once(replicas, "/v1/runs", [run_body()] * NUM_CLIENTS)
    assert len({answer.json()["name"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * (NUM_CLIENTS - 1) + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_of_trainers_that_claim_at_once_exactly_one_has_the_run(replicas: list[str], run: str) -> None:
    claims = [{"trainer": f"host {index}", "step": 0} for index in range(NUM_CLIENTS)]
    answers = at_once(replicas, f"{run}/claim", claims)
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * (NUM_CLIENTS - 1)
    (winner,) = (answer.json() for answer in answers if answer.status_code == 200)
    again = at_once(replicas, f"{run}/claim", [{"trainer": winner["trainer"], "step": 0}] * NUM_CLIENTS)
    numbers = [answer.json()["claim"] for answer in again]
    assert sorted(numbers) == list(range(2, NUM_CLIENTS + 2))
    reports = [report_body(1, 2, claim=number) for number in numbers]
    accepted = [answer.status_code == 200 for answer in at_once(replicas, f"{run}/progress", reports)]
    assert accepted == [number == max(numbers) for number in numbers]


def test_an_edit_and_a_freeze_at_once(replicas: list[str], run: str) -> None:
    """An edit at a step is refused, or in the answer of the report that freezes the step."""
    for turn in range(10):
        step = 20 * turn + 15
        known = httpx.get(f"{replicas[0]}{run}").json()["revision"]
        ready = threading.Barrier(2)

        def send(url: str, path: str, body: dict[str, Any], ready: threading.Barrier = ready) -> httpx.Response:
            with httpx.Client(base_url=url, timeout=60) as client:
                client.get("/healthz")
                ready.wait()
                return client.post(path, json=body)

        with ThreadPoolExecutor(2) as pool:
            edit = pool.submit(send, replicas[turn % 2], f"{run}/revisions", edit_body(known, step))
            report = report_body(20 * turn, 20 * turn + 20, known)
            freeze = pool.submit(send, replicas[1 - turn % 2], f"{run}/progress", report)
        told = [item["number"] for item in freeze.result().json()["revisions"]]
        assert (edit.result().status_code, told) in ((201, [known + 1]), (409, []))


def test_edits_and_freezes_of_sixteen_clients(replicas: list[str]) -> None:
    swarm = Swarm(lambda random: random.choice(replicas))
    with swarm.at_work(250):
        pass
    for url in replicas:
        with httpx.Client(base_url=url, timeout=60) as client:
            verify(swarm, client)
    assert swarm.num_lost == 0


def test_the_records_of_all_runs_hold_together(replicas: list[str]) -> None:
    """Whatever the tests above did at once."""
    with httpx.Client(base_url=replicas[1], timeout=60) as client:
        events: dict[str, list[dict[str, Any]]] = {}
        after = 0
        while after is not None:
            page = client.get("/v1/audit", params={"after": after}).json()
            for event in page["events"]:
                events.setdefault(event["run"], []).append(event)
            after = page["next"]
        rows = {row["id"]: row for row in client.get("/v1/runs").json()["runs"]}
    assert set(events) - {None} == set(rows)
    for run_id, row in rows.items():
        assert replay(run_id, events[run_id]).frontier == row["frontier"]
