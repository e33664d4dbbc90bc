"""What those who run the service ask: is it alive, is it ready, how is it doing."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from service import metrics
from service.access import ANYONE, AllRuns, Limits
from service.store import RunRow
from service.strict import PROBLEM, Route

__all__ = ["operations"]

operations = APIRouter(route_class=Route)


@operations.get("/healthz", operation_id="getHealth")
def get_health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@operations.get("/readyz", operation_id="getReadiness", responses={503: PROBLEM})
def get_readiness(request: Request) -> dict[str, str]:
    """The database answers too."""
    with request.app.state.store.read() as tx:
        tx.totals()
    return {"status": "ready"}


@operations.get("/metrics", operation_id="getMetrics", dependencies=ANYONE, response_class=Response)
def get_metrics(request: Request, runs: AllRuns, limits: Limits) -> Response:
    """Counters and gauges in Prometheus' text format."""
    with request.app.state.store.read() as tx:
        totals = tx.totals()
    rows = runs.rows(after=0, limit=limits.max_page)
    requests, seconds = request.app.state.metrics.samples()
    table: tuple[tuple[str, str, str, list[metrics.Sample]], ...] = (
        ("requests_total", "counter", "Requests answered.", requests),
        ("request_seconds_total", "counter", "Seconds spent answering.", seconds),
        ("runs", "gauge", "Runs known.", [({}, totals["runs"])]),
        ("revisions", "gauge", "Revisions ever accepted.", [({}, totals["revisions"])]),
        ("revisions_superseded", "gauge", "Of those, superseded.", [({}, totals["superseded"])]),
        ("run_frontier", "gauge", "First step that may still change.", _gauge(rows, "frontier")),
        ("run_step", "gauge", "Highest step reported.", _gauge(rows, "step")),
        ("run_revision", "gauge", "Revision in force.", _gauge(rows, "revision")),
    )
    lines = [metrics.render(f"switchpoint_{name}", kind, text, found) for name, kind, text, found in table]
    return Response("".join(lines), media_type=metrics.CONTENT_TYPE)


def _gauge(rows: Sequence[RunRow], field: str) -> list[metrics.Sample]:
    return [({"run": row.id, "name": row.name}, getattr(row, field) or 0) for row in rows]
