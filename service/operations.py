"""What those who run the service ask: is it alive, is it ready, how is it doing."""

from fastapi import APIRouter, Request, Response

from service.access import ANYONE
from service.errors import NotReadyError
from service.metrics import CONTENT_TYPE
from service.strict import PROBLEM, Route

__all__ = ["operations"]

operations = APIRouter(route_class=Route)


@operations.get("/healthz", operation_id="getHealth")
async def get_health() -> dict[str, str]:
    """The process answers; it says so in the middle of stopping, and while the database is away."""
    return {"status": "ok"}


@operations.get("/readyz", operation_id="getReadiness", responses={503: PROBLEM})
def get_readiness(request: Request) -> dict[str, str]:
    """The database answers, has the tables of this program, and nobody has asked the service to stop."""
    if request.app.state.stopping.asked:
        raise NotReadyError("the service is stopping")
    request.app.state.store.check()
    return {"status": "ready"}


@operations.get(
    "/metrics", operation_id="getMetrics", dependencies=ANYONE, responses={503: PROBLEM}, response_class=Response
)
def get_metrics(request: Request) -> Response:
    """Counters and gauges in Prometheus' text format."""
    return Response(request.app.state.metrics.render(), media_type=CONTENT_TYPE)
