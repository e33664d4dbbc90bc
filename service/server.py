"""The HTTP server of one process: uvicorn on a socket that is listening already."""

import asyncio
import gc
import logging
import socket
from collections.abc import Callable

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.app import create_app
from service.settings import Settings
from service.stopping import Stopping

__all__ = ["Server", "serve"]

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn over one application, which calls `ready` once it answers and stops without dropping anyone.

    Asked to stop (a signal, or `should_exit`) it is not ready from then on, answers for `shutdown_delay_s` more, then
    takes no more connections, ends the streams of events, and gives requests that have begun `shutdown_grace_s`.
    """

    def __init__(self, settings: Settings, *, ready: Callable[[], None] = lambda: None) -> None:
        app = create_app(settings)
        self._stopping: Stopping = app.state.stopping
        self._delay_s = settings.shutdown_delay_s
        self._ready = ready
        super().__init__(
            uvicorn.Config(
                app,
                http=_impatient(settings.request_timeout_s),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies),
                timeout_graceful_shutdown=settings.shutdown_grace_s,  # type: ignore[arg-type]  # whole seconds or not
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets=sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, in the order that the class says."""
        logger.info("stopping")
        self._stopping.asked = True
        loop = asyncio.get_running_loop()
        until = loop.time() + self._delay_s
        while loop.time() < until and not self.force_exit:
            await asyncio.sleep(0.05)
        self._stopping.now.set()
        await super().shutdown(sockets=sockets)
        logger.info("stopped")


def _impatient(timeout_s: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, closing a connection on which the head of a request does not come whole in time.

    uvicorn has a limit between two requests alone; with this one, nobody keeps connections by sending next to nothing.
    """

    class Protocol(H11Protocol):
        deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.deadline = self.loop.call_later(timeout_s, self.transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._disarm()
            elif self.deadline is None:
                self.deadline = self.loop.call_later(timeout_s, self.transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            super().connection_lost(exc)

        def _disarm(self) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None

    return Protocol


def serve(settings: Settings, listener: socket.socket, *, announce: Callable[[str, int], None]) -> None:
    """Answer on `listener` until SIGINT or SIGTERM; calls `announce(host, port)` once it answers."""
    host, port = listener.getsockname()[:2]
    gc.freeze()  # what was imported stays: to look through it for garbage again and again stops every request each time
    gc.set_threshold(50_000, 20, 100)
    Server(settings, ready=lambda: announce(host, port)).run(sockets=[listener])
