"""The trainers: an open-loop load of reports on one service, from one process with one connection a trainer.

    python load.py URL RATE SECONDS SEED < trainers.json      # [[run id, its claim or null, its first step], ...]

Reports come at random moments (a Poisson process of RATE a second), by the trainers in turn, whether or not earlier
ones have been answered: a service that falls behind does not slow its load. A time runs from the moment a report was
due to the last byte of its answer, so waiting for a connection counts. Prints one JSON object. HTTP is written and
read by hand: a client library would take more of the processor than the service.
"""

import asyncio
import json
import sys
import time
from collections import deque
from random import Random
from urllib.parse import urlsplit

METRICS = {
    "loss/train/ce": 2.71828,
    "lr": 0.0003,
    "throughput/tokens_per_sec": 812345.5,
    "loss/c4": 2.9,
    "loss/code": 1.4,
}
GRACE_S = 10  # after the last report, for answers still to come


class Trainer(asyncio.Protocol):
    """One trainer on its connection: reports wait here while an earlier one is unanswered."""

    def __init__(self, host: str, run: str, claim: int | None, step: int, done: "Tally") -> None:
        self._head = f"POST /v1/runs/{run}/progress HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        self._claim = {} if claim is None else {"claim": claim}
        self.step = step
        self._done = done
        self._due: deque[float] = deque()
        self._is_waiting = False
        self._received = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def report(self, due: float) -> None:
        self._due.append(due)
        if not self._is_waiting:
            self._send()

    def _send(self) -> None:
        self._is_waiting = True
        self._done.lag.append(time.perf_counter() - self._due[0])
        counts = {"c4": self.step * 12, "code": self.step * 4}
        body = {"step": self.step, "freeze_through": self.step + 20, "known_revision": 0, "superseded": []}
        data = json.dumps({**body, "decided_through": self.step, "metrics": METRICS, "counts": counts, **self._claim})
        self._transport.write(f"{self._head}Content-Length: {len(data)}\r\n\r\n{data}".encode())
        self.step += 10

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, mark, body = self._received.partition(b"\r\n\r\n")
        if not mark:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._received = b""
        self._is_waiting = False
        status = int(head[9:12])
        if status != 200:
            self._done.errors.append(f"{status} {body[:300].decode()}")
        self._done.seconds.append(time.perf_counter() - self._due.popleft())
        if self._due:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if self._due:
            self._done.errors.append(f"the connection was lost: {error}")


class Tally:
    """What came of the reports: times of the answered ones, and how late the generator itself was."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.lag: list[float] = []
        self.errors: list[str] = []


async def load(url: str, rate: float, seconds: float, seed: int, trainers: list[list]) -> dict:
    """Send for `seconds`; what came of it, times in milliseconds."""
    address = urlsplit(url)
    loop, random, tally = asyncio.get_running_loop(), Random(seed), Tally()
    connected = []
    for run, claim, step in trainers:
        _, trainer = await loop.create_connection(
            lambda run=run, claim=claim, step=step: Trainer(address.netloc, run, claim, step, tally),
            address.hostname,
            address.port,
        )
        connected.append(trainer)
    order = list(connected)
    random.shuffle(order)
    begin = due = time.perf_counter() + 0.2
    num_sent = 0
    while due < begin + seconds:
        delay = due - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        elif num_sent % 100 == 0:
            await asyncio.sleep(0)  # late: answers are still read
        order[num_sent % len(order)].report(due)
        num_sent += 1
        due += random.expovariate(rate)
    answered_in_time = len(tally.seconds)
    deadline = time.perf_counter() + GRACE_S
    while len(tally.seconds) + len(tally.errors) < num_sent and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    for trainer in connected:
        trainer._transport.close()
    return {
        "sent": num_sent,
        "answered": len(tally.seconds),
        "rate": answered_in_time / seconds,
        "unanswered": num_sent - len(tally.seconds),
        "num_errors": len(tally.errors),
        "errors": sorted(set(tally.errors))[:5],
        **{
            name: _quantile(tally.seconds, q) * 1e3
            for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1))
        },
        "lag_p99": _quantile(tally.lag, 0.99) * 1e3,
        "steps": [trainer.step for trainer in connected],
    }


def _quantile(values: list[float], q: float) -> float:
    ordered = sorted(values) or [float("nan")]
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


if __name__ == "__main__":
    url, rate, seconds, seed = sys.argv[1:]
    print(json.dumps(asyncio.run(load(url, float(rate), float(seconds), int(seed), json.load(sys.stdin)))))
