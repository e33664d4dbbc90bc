"""What one application counts, in Prometheus' text format; every application has a registry of its own.

Requests are labelled by method, route template and status, so that neither ids nor what a stranger types becomes a
label. What the database knows (runs, frontiers) is read when it is asked for.
"""

import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Literal

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from mixer import ORDER_VERSION
from service.store import RunRow, Store

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
DATABASE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# Of these calls every outcome is counted: how they end by status, otherwise the name of the problem.
EDIT = ("POST", "/v1/runs/{run_id}/revisions", {201: "accepted", 200: "previewed"})
REPORT = ("POST", "/v1/runs/{run_id}/progress", {200: "accepted"})
CLAIM = ("POST", "/v1/runs/{run_id}/claim", {200: "accepted"})


class Metrics:
    """The counters of one application. Safe for many threads."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the answer, and help nobody here
        self._registry = registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("switchpoint_requests", "Requests answered.", labels, registry=registry)
        self._seconds = Histogram(
            "switchpoint_request_seconds",
            "Seconds until a request was answered whole; streams of events are left out.",
            ("method", "route"),
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self._outcomes = [
            (call, Counter(f"switchpoint_{name}", text, ("outcome",), registry=registry))
            for call, name, text in (
                (EDIT, "edits", "Edits asked for: accepted, previewed, or the problem they were refused with."),
                (REPORT, "reports", "Reports of trainers: accepted, or the problem they were refused with."),
                (CLAIM, "claims", "Claims of trainers: accepted, or the problem they were refused with."),
            )
        ]
        self._refused = Counter(
            "switchpoint_limited_requests", "Requests refused for coming too often.", ("limit",), registry=registry
        )
        self._transactions = Histogram(
            "switchpoint_transaction_seconds",
            "Seconds of a transaction of the database, waiting for its lock and committing included.",
            ("kind",),
            buckets=DATABASE_SECONDS,
            registry=registry,
        )
        self._in_progress = Gauge(
            "switchpoint_requests_in_progress", "Requests that have begun and are not answered.", registry=registry
        )
        self._streams = Gauge("switchpoint_event_streams", "Streams of events that are open.", registry=registry)
        build = Gauge("switchpoint_build_info", "Which program this is; always 1.", _BUILD, registry=registry)
        build.labels(version("switchpoint"), platform.python_version(), str(ORDER_VERSION)).set(1)
        ProcessCollector(registry=registry)

    def watch(self, store: Store, *, max_runs: int) -> None:
        """From now on show what `store` knows too, of at most `max_runs` runs."""
        self._registry.register(_Runs(store, max_runs))

    def begun(self) -> None:
        """A request has come; `answered` must follow."""
        self._in_progress.inc()

    def answered(
        self, *, method: str, route: str, status: int, seconds: float | None, problem: str | None = None
    ) -> None:
        """Count one answered request, by its route template.

        `seconds` is None for a stream, whose length says nothing; `problem` names the one it was answered with.
        """
        self._in_progress.dec()
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        if seconds is not None:
            self._seconds.labels(method, route).observe(seconds)
        for (call_method, call_route, names), counter in self._outcomes:
            if (method, route) == (call_method, call_route):
                counter.labels(problem or names.get(status, "other")).inc()

    def limited(self, limit: Literal["rate", "failures"]) -> None:
        """Count a request that was refused because its sender asks too often, or fails too often."""
        self._refused.labels(limit).inc()

    def transaction(self, kind: str, seconds: float) -> None:
        """Count one transaction, `read` or `write`."""
        self._transactions.labels(kind).observe(seconds)

    def stream(self, change: Literal[1, -1]) -> None:
        """A stream of events has begun (1) or ended (-1)."""
        self._streams.inc(change)

    def render(self) -> bytes:
        """Everything, as text."""
        return generate_latest(self._registry)


_BUILD = ("version", "python", "order_version")
_TOTALS: Sequence[tuple[str, str, str]] = (
    ("runs", "switchpoint_runs", "Runs known."),
    ("revisions", "switchpoint_revisions", "Revisions ever accepted."),
    ("superseded", "switchpoint_revisions_superseded", "Of those, superseded."),
)
_OF_A_RUN: Sequence[tuple[str, str, Callable[[RunRow], int | None]]] = (
    ("switchpoint_run_frontier", "First step that may still change.", lambda row: row.frontier),
    ("switchpoint_run_step", "Highest step reported.", lambda row: row.step),
    ("switchpoint_run_num_steps", "Steps of the whole run.", lambda row: row.num_steps),
    ("switchpoint_run_revision", "Revision in force.", lambda row: row.revision),
)


class _Runs(Collector):
    """What the database knows, as it stands when it is collected; where it cannot be asked, only that."""

    def __init__(self, store: Store, max_runs: int) -> None:
        self._store = store
        self._max_runs = max_runs

    def describe(self) -> Iterator[Metric]:
        """Nothing: else registering would ask the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The families of metrics."""
        try:
            with self._store.read() as tx:
                totals, rows = tx.totals(), tx.list_runs(after=0, limit=self._max_runs)
        except SQLAlchemyError:
            yield _gauge("switchpoint_database_up", "Whether the database answers.", [((), 0)])
            return
        yield _gauge("switchpoint_database_up", "Whether the database answers.", [((), 1)])
        for key, name, text in _TOTALS:
            yield _gauge(name, text, [((), totals[key])])
        for name, text, value in _OF_A_RUN:
            yield _gauge(name, text, [((row.id, row.name), value(row) or 0) for row in rows], ("run", "name"))


def _gauge(
    name: str, text: str, samples: Sequence[tuple[Sequence[str], float]], labels: Sequence[str] = ()
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
