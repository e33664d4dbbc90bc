"""SIGKILL at any moment, of the service or of its database: whatever was acknowledged is there when it starts again."""

import time
from collections.abc import Callable
from random import Random

import pytest

from tests.postgres import Postgres
from tests.service.conftest import Database, edit_body, report_body, run_body
from tests.service.processes import ForkedServer, ServerProcess
from tests.service.swarm import Swarm, verify

BOTH_DATABASES = True


def campaign(server: ServerProcess, kill: Callable[[], None], *, num_kills: int, num_operations: int) -> Swarm:
    """`kill` at random moments, `num_kills` of them, while sixteen clients edit and freeze; then all is looked at."""
    random = Random(7)
    swarm = Swarm(lambda _: server.url)
    with swarm.at_work(num_operations):
        for number in range(1, num_kills + 1):
            before = swarm.num_done
            time.sleep(random.random() * 0.3)  # not to wait for anything: the moment of the kill is random
            kill()
            while swarm.num_done < before + num_operations * 0.8 / num_kills:  # some work, then the next kill
                time.sleep(0.005)
            if number % 20 == 0:
                print(f"{number} kills, {swarm.num_done} edits and freezes, {swarm.num_lost} requests sent again")
    with server.client() as client:
        verify(swarm, client)
    return swarm


def kill_and_start(server: ServerProcess) -> Callable[[], None]:
    def kill() -> None:
        server.kill()
        server.start()

    return kill


def test_kills_of_the_service(database: Database) -> None:
    server = ForkedServer(database)
    try:
        swarm = campaign(server, kill_and_start(server), num_kills=4, num_operations=150)
        assert swarm.num_lost > 0, "no request was cut off: the kills came at the wrong time"
    finally:
        server.kill()


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_two_hundred_kills_of_the_service(database: Database) -> None:
    server = ForkedServer(database)
    try:
        swarm = campaign(server, kill_and_start(server), num_kills=200, num_operations=2000)
        assert swarm.num_lost > 200
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("num_kills", "num_operations"),
    [(2, 100), pytest.param(40, 800, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_kills_of_postgresql(own_cluster: Postgres, num_kills: int, num_operations: int) -> None:
    """The service lives on: it answers 503 until its database is back, then goes on."""

    def kill() -> None:
        own_cluster.kill()
        own_cluster.start()

    server = ForkedServer(own_cluster.make())
    try:
        campaign(server, kill, num_kills=num_kills, num_operations=num_operations)
        assert server.is_alive
    finally:
        server.kill()


def test_what_was_stored_is_whole_after_a_kill(database: Database) -> None:
    """The plan is rebuilt from the database alone, and is the same."""
    server = ForkedServer(database)
    try:
        with server.client() as client:
            run = f"/v1/runs/{client.post('/v1/runs', json=run_body()).json()['id']}"
            client.post(f"{run}/revisions", json=edit_body(), headers={"Idempotency-Key": "k"})
            client.post(f"{run}/progress", json=report_body(600, 620))  # the edit at 500 was passed unheard
            client.post(f"{run}/revisions", json=edit_body(0, 700))
            paths = ("", "/schedule", "/revisions", "/batches/710", "/forecast", "/progress", "/audit")
            before = [client.get(f"{run}{path}").json() for path in paths]
        server.kill()
        server.start()
        with server.client() as client:
            assert [client.get(f"{run}{path}").json() for path in paths] == before
            again = client.post(f"{run}/revisions", json=edit_body(), headers={"Idempotency-Key": "k"})
            assert (again.status_code, again.json()["number"]) == (201, 1)
    finally:
        server.kill()
