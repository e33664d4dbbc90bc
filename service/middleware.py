"""What happens around every request, as plain ASGI. From the outside in:

    SecureAnswers  headers that tell browsers what this answer may not be used for
    Observe        a name for the request, one line of log, the counters; what nobody caught is answered here
    SameSite       no change for pages of other sites, no answer under a stranger's host name
    Identify       who asks, and whether it asks too often
    EndStreams     a stream of events ends when the service does, or when its token is revoked
    LimitBody      bodies that are too large or too slow

None holds a body back: an answer that streams keeps streaming.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.addresses import host_name, is_loopback, network_of
from service.errors import (
    BodyTooLargeError,
    CrossSiteError,
    HostError,
    RateLimitError,
    ServiceError,
    SlowBodyError,
)
from service.keyring import Keyring
from service.metrics import Metrics
from service.problems import problem_response
from service.rates import Buckets
from service.settings import Settings
from service.stopping import Stopping
from service.tokens import ANONYMOUS, Caller

__all__ = ["EndStreams", "Identify", "LimitBody", "Observe", "SameSite", "SecureAnswers", "install"]

logger = logging.getLogger("service.requests")
SAFE = ("GET", "HEAD", "OPTIONS")
PROBES = ("/healthz", "/readyz", "/metrics")  # asked all day: logged at debug only
OPEN_TO_ALL = ("/healthz", "/readyz")  # answered without asking who it is, also while the database is away
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SECURE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
ASKED_WITH = ("If-Match", "If-None-Match", "Idempotency-Key", "Last-Event-ID", "X-Request-Id")
ANSWERED_WITH = ("ETag", "Location", "Retry-After", "Idempotent-Replayed", "X-Request-Id")
EVENTS = "text/event-stream"
RECHECK_S = 2.0  # how often a stream asks whether its token still holds


class SecureAnswers:
    """Gives every answer the headers of `SECURE` that it has not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURE.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, secured)


class Observe:
    """Names, counts and logs each request, and answers 500 to what was raised and not handled further in.

    The name is the client's X-Request-Id where that is a short plain word, and goes back in that header.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, streaming = time.perf_counter(), 0, False
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        self._metrics.begun()

        async def observed(message: Message) -> None:
            nonlocal status, streaming
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                if _is_stream(headers):
                    streaming = True
                    self._metrics.stream(1)
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception as error:
            if status:  # too late for another answer
                raise
            await problem_response(scope["path"], error)(scope, receive, observed)
        finally:
            if streaming:
                self._metrics.stream(-1)
            self._record(scope, status or 500, time.perf_counter() - begun, streaming)

    def _record(self, scope: Scope, status: int, seconds: float, streaming: bool) -> None:
        state, route = scope["state"], getattr(scope.get("route"), "path", "none")
        problem = state.get("problem")
        known = {"method": scope["method"], "route": route, "status": status}
        self._metrics.answered(**known, seconds=None if streaming else seconds, problem=problem)
        level = logging.DEBUG if scope["path"] in PROBES else logging.INFO
        if not logger.isEnabledFor(level):
            return
        run = scope.get("path_params", {}).get("run_id")
        fields = {"request_id": state["request_id"], **known, "ms": round(seconds * 1000, 2), "problem": problem}
        fields |= {"actor": state.get("actor"), "run": run if run and REQUEST_ID.fullmatch(run) else None}
        fields["client"] = _address(scope)
        logger.log(level, "request", extra={"fields": fields})


class SameSite:
    """Refuses what only a browser led astray would send.

    A change asked for by a page of another site, other than the origins of `allowed` (Fetch metadata where the
    browser sends it, otherwise Origin against Host); and, where the service is open to all, a host name that is not of
    this machine, by which the page of a stranger could become "the same site" (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, allowed: Iterable[str], keyring: Keyring) -> None:
        self._app = app
        self._allowed = frozenset(allowed)
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := await self._problem(scope)) is not None:
            await problem_response(scope["path"], problem)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _problem(self, scope: Scope) -> ServiceError | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not is_loopback(host_name(host)) and scope["path"] not in OPEN_TO_ALL and await self._keyring.is_open():
            return HostError(host)
        if scope["method"] in SAFE:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin not in self._allowed and (
            site not in ("same-origin", "none") if site is not None else origin and urlsplit(origin).netloc != host
        ):
            return CrossSiteError(origin or f"another site ({site})")
        return None


class Identify:
    """Leaves in the state of a request who asks (`caller`: a Caller, or None for a stranger; `actor`: its name).

    `rate` requests a second are taken from each token, or from each address where there is no token, twice as many
    at once after a rest; 0 sets no limit. An address that presents more than `wrong_per_minute` wrong tokens gets 429
    for them. A right token passes all the same: it is too long to be guessed, and who shares the address of somebody
    with an old token must not be locked out.
    """

    def __init__(
        self, app: ASGIApp, *, keyring: Keyring, rate: float, wrong_per_minute: float, metrics: Metrics
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._metrics = metrics
        self._requests = Buckets(rate=rate, burst=max(1, round(2 * rate))) if rate else None
        self._failures = Buckets(rate=wrong_per_minute / 60, burst=max(1, round(2 * wrong_per_minute)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_TO_ALL:
            await self._app(scope, receive, send)
            return
        secret = _bearer(scope)
        caller = await self._keyring.caller(secret)
        scope["state"]["caller"] = caller
        if caller is not None:
            scope["state"]["actor"] = caller.name
        refusal = self._refusal(caller, secret, network_of(_address(scope)), time.monotonic())
        if refusal is not None:
            await problem_response(scope["path"], refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, caller: Caller | None, secret: str, address: str, now: float) -> RateLimitError | None:
        if caller is None and secret and (wait := self._failures.take(address, now=now)):
            self._metrics.limited("failures")
            return RateLimitError("too many wrong tokens have come from this address", wait)
        key = f"address {address}" if caller is None or caller is ANONYMOUS else f"token {caller.name}"
        if self._requests is not None and (wait := self._requests.take(key, now=now)):
            self._metrics.limited("rate")
            return RateLimitError("too many requests", wait)
        return None


class EndStreams:
    """Ends a stream of events, as its sender would, when the service stops or its token is no longer one.

    For what streams, reading the request is how it learns that the client has gone; so it is told the same here.
    """

    def __init__(self, app: ASGIApp, *, stopping: Stopping, keyring: Keyring) -> None:
        self._app = app
        self._stopping = stopping
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        streaming = ended = False

        async def watched(message: Message) -> None:
            nonlocal streaming
            if message["type"] == "http.response.start":
                streaming = _is_stream(Headers(raw=message["headers"]))
            elif not message.get("more_body", False):
                streaming = False
            await send(message)

        async def received() -> Message:
            nonlocal ended
            client = asyncio.ensure_future(receive())
            stopping = asyncio.ensure_future(self._stopping.now.wait())
            try:
                while not client.done():
                    await asyncio.wait({client, stopping}, timeout=RECHECK_S, return_when=asyncio.FIRST_COMPLETED)
                    if streaming and not client.done() and (stopping.done() or await self._is_revoked(scope)):
                        ended = True
                        return {"type": "http.disconnect"}
                    if stopping.done():
                        break
                return await client
            finally:
                client.cancel()
                stopping.cancel()

        await self._app(scope, received, watched)
        if streaming and ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _is_revoked(self, scope: Scope) -> bool:
        return await self._keyring.caller(_bearer(scope)) is None


class LimitBody:
    """Answers 413 to a body over `limit_bytes`, told by its header or by its bytes as they come; 408 to one that has
    not come whole within `limit_s` seconds.
    """

    def __init__(self, app: ASGIApp, *, limit_bytes: int, limit_s: float) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._limit_s = limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        too_large = BodyTooLargeError(self._limit_bytes)
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdigit() or int(length) > self._limit_bytes:
            await problem_response(scope["path"], too_large)(scope, receive, send)
            return
        seen, whole = 0, False
        until = asyncio.get_running_loop().time() + self._limit_s

        async def limited() -> Message:
            nonlocal seen, whole
            try:
                async with asyncio.timeout_at(None if whole else until):
                    message = await receive()
            except TimeoutError:
                raise SlowBodyError(self._limit_s) from None
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > self._limit_bytes:
                raise too_large
            return message

        await self._app(scope, limited, send)


def install(app: Starlette, settings: Settings, *, keyring: Keyring, metrics: Metrics, stopping: Stopping) -> None:
    """Put all of it around `app`; what is added last stands outermost."""
    app.add_middleware(LimitBody, limit_bytes=settings.max_body_bytes, limit_s=settings.request_timeout_s)
    app.add_middleware(EndStreams, stopping=stopping, keyring=keyring)
    app.add_middleware(
        Identify,
        keyring=keyring,
        rate=settings.rate_limit,
        wrong_per_minute=settings.wrong_tokens_per_minute,
        metrics=metrics,
    )
    app.add_middleware(SameSite, allowed=settings.cors_origins, keyring=keyring)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT"],
            allow_headers=["Authorization", "Content-Type", *ASKED_WITH],
            expose_headers=ANSWERED_WITH,
        )
    app.add_middleware(Observe, metrics=metrics)
    app.add_middleware(SecureAnswers)


def _bearer(scope: Scope) -> str:
    """The secret that a request presents; "" where there is none."""
    kind, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else ""


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _is_stream(headers: Headers) -> bool:
    return headers.get("content-type", "").startswith(EVENTS)
