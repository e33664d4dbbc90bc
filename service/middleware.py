"""What happens around every request, as plain ASGI: the limit on bodies, and counting.

Neither buffers a body: an answer that streams keeps streaming.
"""

import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLargeError
from service.metrics import RequestMetrics
from service.problems import problem_response

__all__ = ["CountRequests", "LimitBody"]


class LimitBody:
    """Answers 413 to a body over `limit_bytes`, told by its header or by its bytes as they come."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self._limit = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        too_large = BodyTooLargeError(self._limit)
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not length.isdigit() or int(length) > self._limit:
            await problem_response(scope["path"], too_large)(scope, receive, send)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                raise too_large
            return message

        await self._app(scope, limited, send)


class CountRequests:
    """Counts every answered request under its route template in `metrics`."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            route: Any = scope.get("route")
            self._metrics.observe(
                method=scope["method"],
                route=getattr(route, "path", "none"),
                status=status,
                seconds=time.perf_counter() - begun,
            )
