"""The HTTP server of one process: uvicorn on a socket that is listening already."""

import socket
from collections.abc import Callable

import uvicorn

from service.app import create_app
from service.settings import Settings

__all__ = ["serve"]


class _Server(uvicorn.Server):
    """uvicorn, telling its caller once it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._ready()


def serve(settings: Settings, listener: socket.socket, *, announce: Callable[[str, int], None]) -> None:
    """Answer on `listener` until SIGINT or SIGTERM; calls `announce(host, port)` once it answers."""
    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(create_app(settings), log_level="warning", access_log=False, server_header=False)
    _Server(config, ready=lambda: announce(host, port)).run(sockets=[listener])
