"""Servers for tests: one in a thread of this process, and one of its own that can be killed."""

import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import httpx

from service.cli import main
from service.server import Server
from service.settings import Settings

READY = re.compile(r"^switchpoint-service ready: (http://\S+)$")


@contextmanager
def serve_in_thread(settings: Settings) -> Iterator[str]:
    """The address of a server over `settings`, on a port of its own, until the block is left."""
    ready = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = Server(settings, ready=ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert ready.wait(30), "the server did not start"
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


class ServerProcess:
    """`python -m service serve` on a database: started, asked, killed, started again."""

    def __init__(self, database: Path | str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.database = database
        self.arguments = arguments
        self.environment = {**os.environ, **(environment or {})}
        self.start()

    def start(self) -> None:
        """Start it and wait for the line that says where it answers."""
        command = [sys.executable, "-m", "service", "serve", "--port", "0", "--db", str(self.database)]
        self.process = subprocess.Popen(
            [*command, *self.arguments], stdout=subprocess.PIPE, text=True, env=self.environment
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        match = READY.match(line)
        assert match, f"the server said {line!r}"
        self.url = match[1]

    @property
    def is_alive(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    def client(self, **options: object) -> httpx.Client:
        """A client of the server as it is now."""
        return httpx.Client(base_url=self.url, timeout=30, **options)  # type: ignore[arg-type]

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, as a supervisor ends it; the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(30)


class ForkedServer(ServerProcess):
    """The same, forked from a process that has imported all of it: it starts in a moment, and is killed as any other.

    For campaigns, whose many starts would be little but imports. Its log goes nowhere.
    """

    def start(self) -> None:
        """Start it and wait for the line that says where it answers."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["service.app", "service.server", "service.routes", "service.page", "alembic.command"]
        )
        reader, writer = multiprocessing.Pipe(duplex=False)
        arguments = ["serve", "--port", "0", "--db", str(self.database), *self.arguments]
        self.forked = context.Process(target=_serve, args=(arguments, writer))
        self.forked.start()
        writer.close()
        assert reader.poll(60), "the server says nothing"
        with open(reader.fileno(), closefd=False) as output:
            line = output.readline().strip()
        reader.close()
        match = READY.match(line)
        assert match, f"the server said {line!r}"
        self.url = match[1]

    @property
    def is_alive(self) -> bool:
        """Whether the process is there."""
        return self.forked.is_alive()

    def _end(self, number: signal.Signals) -> int:
        if self.forked.pid is not None and self.forked.is_alive():
            os.kill(self.forked.pid, number)
        self.forked.join(30)
        return self.forked.exitcode or 0


def _serve(arguments: list[str], output: Connection) -> None:
    os.dup2(output.fileno(), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.exit(main(arguments))
