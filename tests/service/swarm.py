"""Many clients that edit and freeze one run at once, through whatever fails meanwhile; and what must hold afterwards.

Each asks until it is answered: a request whose answer was lost is sent again, an edit with the same Idempotency-Key. So
what the clients were told and what the service holds must be equal in the end, number by number.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from random import Random
from typing import Any

import httpx

from service.chain import replay
from tests.service.conftest import edit_body, report_body, run_body

__all__ = ["Swarm", "verify"]

Json = dict[str, Any]
NUM_STEPS = 100_000
RETRY_S = 0.1
PAGE = 5000


class Member:
    """An editor and a trainer in one, doing one of both at random; keeps what it was told."""

    def __init__(self, where: Callable[[Random], str], run: str, seed: int) -> None:
        self.run = run
        self.random = Random(seed)
        self.name = f"member {seed}"
        self.accepted: dict[int, Json] = {}
        self.frozen: dict[int, Json] = {}  # step → weights, as seen once it was frozen
        self.frontiers: list[int] = []
        self.num_done = 0  # edits and freezes that were answered, refused edits too
        self.num_lost = 0  # requests that had to be sent again
        self._where = where
        self._clients: dict[str, httpx.Client] = {}

    def work(self, goes_on: Callable[[], bool]) -> None:
        try:
            while goes_on():
                (self._edit if self.random.random() < 0.6 else self._freeze)()
                self.num_done += 1
        finally:
            for client in self._clients.values():
                client.close()

    def _edit(self) -> None:
        state = self._ask("GET", self.run).json()
        share = self.random.randint(0, 100) / 100
        step = min(NUM_STEPS - 1, max(0, state["frontier"] + self.random.randint(-2, 30)))
        body = edit_body(state["revision"], step, mixture={"c4": 1 - share, "code": share}, author=self.name)
        request = {"json": body, "headers": {"Idempotency-Key": f"{self.name}, {self.num_done}"}}
        answer = self._ask("POST", f"{self.run}/revisions", **request)
        if answer.status_code == 409:
            return
        assert answer.status_code == 201, answer.text
        self.accepted[answer.json()["number"]] = answer.json()
        if self.random.random() < 0.2:  # the same again, wherever it is answered, is the same
            again = self._ask("POST", f"{self.run}/revisions", **request)
            assert (again.status_code, again.json()) == (201, answer.json())
            assert again.headers["idempotent-replayed"] == "true"

    def _freeze(self) -> None:
        state = self._ask("GET", self.run).json()
        body = report_body(0, min(NUM_STEPS, state["frontier"] + self.random.randint(0, 12)), state["revision"])
        answer = self._ask("POST", f"{self.run}/progress", json=body)
        assert answer.status_code == 200, answer.text
        frontier = answer.json()["frontier"]
        self.frontiers.append(frontier)
        for step in range(max(0, frontier - 3), frontier):
            weights = self._ask("GET", f"{self.run}/weights", params={"step": step}).json()["weights"]
            assert self.frozen.setdefault(step, weights) == weights

    def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """The answer, however often the service or its database goes away before it comes."""
        while True:
            url = self._where(self.random)
            if url not in self._clients:
                self._clients[url] = httpx.Client(
                    base_url=url, timeout=60, verify=False
                )  # a context for TLS costs 20 ms
            with suppress(httpx.TransportError):
                answer = self._clients[url].request(method, path, **arguments)
                if answer.status_code != 503:
                    return answer
            self.num_lost += 1
            time.sleep(RETRY_S)


class Swarm:
    """Members at work on a fresh run; `where` says whom to ask."""

    def __init__(self, where: Callable[[Random], str], num_members: int = 16) -> None:
        with httpx.Client(base_url=where(Random(0)), timeout=60) as client:
            made = client.post("/v1/runs", json=run_body(num_steps=NUM_STEPS))
        self.run = f"/v1/runs/{made.json()['id']}"
        self.members = [Member(where, self.run, seed) for seed in range(num_members)]

    @property
    def num_done(self) -> int:
        """Edits and freezes that were answered by now."""
        return sum(member.num_done for member in self.members)

    @property
    def num_lost(self) -> int:
        """Requests that had to be sent again."""
        return sum(member.num_lost for member in self.members)

    @contextmanager
    def at_work(self, num_operations: int) -> Iterator[None]:
        """Everybody works while the block runs, and until `num_operations` are done; raises what a member raised."""
        left = threading.Event()
        with ThreadPoolExecutor(len(self.members)) as pool:
            works = [
                pool.submit(member.work, lambda: not left.is_set() or self.num_done < num_operations)
                for member in self.members
            ]
            try:
                yield
            finally:
                left.set()
        for work in works:
            work.result()


def verify(swarm: Swarm, client: httpx.Client) -> None:
    """What every member was told is what there is, and the record of the run holds together."""
    run, members = swarm.run, swarm.members
    state = client.get(run).json()
    history = {item["number"]: item for item in _pages(client, f"{run}/revisions", "revisions")}
    accepted = {number: item for member in members for number, item in member.accepted.items()}
    assert sum(len(member.accepted) for member in members) == len(accepted), "a number was given twice"
    assert history == accepted
    assert list(history) == list(range(1, len(history) + 1))
    assert [item["parent"] for item in history.values()] == list(range(len(history)))
    assert state["revision"] == len(history)

    events = _pages(client, f"{run}/audit", "events")
    record = replay(state["id"], events)  # an edit below the frontier of its moment, a frontier that goes back: refused
    assert (record.frontier, list(record.revisions)) == (state["frontier"], list(history))
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    told = [member.frontiers for member in members]
    assert all(frontiers == sorted(frontiers) for frontiers in told)
    assert max(max(frontiers, default=0) for frontiers in told) == state["frontier"]

    for start in range(0, state["frontier"], PAGE):
        end = min(start + PAGE, state["frontier"])
        page = client.get(f"{run}/weights", params={"start": start, "end": end, "points": max(2, end - start)}).json()
        found = {
            step: {name: page["weights"][name][i] for name in page["weights"]} for i, step in enumerate(page["steps"])
        }
        for member in members:
            for step, weights in member.frozen.items():
                if start <= step < end:
                    assert {name: found[step][name] for name in weights} == weights, step


def _pages(client: httpx.Client, path: str, name: str) -> list[Json]:
    found: list[Json] = []
    after: int | None = 0
    while after is not None:
        page = client.get(path, params={"after": after}).json()
        found += page[name]
        after = page["next"]
    return found
