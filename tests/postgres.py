"""A real PostgreSQL on this machine, for tests: its own cluster in a temporary folder, synced to disk as in production.

It answers on a Unix socket in that folder, so no port is taken and nobody else reaches it. PostgreSQL refuses to run as
root: where the tests do, it runs as `postgres`, or as `nobody`. Needs the server's programs (Debian's package
`postgresql`), which may lie outside PATH.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import psutil
import psycopg
import pytest

__all__ = ["Postgres", "find_programs", "need_postgres", "postgres"]

START_TIMEOUT_S = 60
SETTINGS = (
    ("listen_addresses", ""),
    ("max_connections", "300"),
    ("shared_buffers", "64MB"),
    ("logging_collector", "off"),
    ("dynamic_shared_memory_type", "mmap"),  # in the folder, so that nothing is left elsewhere after a kill
)


def find_programs() -> Path | None:
    """The folder of `initdb` and `postgres`, the newest there is; None where there is none."""
    found = shutil.which("initdb")
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    folders = [Path(found).resolve()] if found else sorted(debian, key=lambda path: int(path.parts[-3]))
    return folders[-1].parent if folders else None


def need_postgres() -> None:
    """Skip the test that has no PostgreSQL; under CI that is a failure."""
    if find_programs() is None:
        missing = "no PostgreSQL server here: install Debian's package postgresql"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


class Postgres:
    """A cluster in `folder`, stopped at first: started, killed and started again, with any number of databases."""

    def __init__(self, folder: Path) -> None:
        programs = find_programs()
        assert programs is not None, "ask need_postgres() first"
        self._programs = programs
        self._folder = folder
        self._user = _unprivileged()
        self._templates: dict[str, str] = {}
        self._numbers = itertools.count(1)
        if self._user is not None:
            os.chown(folder, *self._user)
        arguments = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
        with (folder / "log").open("wb") as log:
            made = self._popen("initdb", f"-D{self._data}", *arguments, stderr=log)
            assert made.wait(60) == 0, self.log

    @property
    def log(self) -> str:
        """What the server has said."""
        return (self._folder / "log").read_text()

    def start(self) -> None:
        """Start it, and wait until it answers; after a kill it recovers first."""
        options = [f"-c{name}={value}" for name, value in SETTINGS]
        with (self._folder / "log").open("ab") as log:
            self._process = self._popen("postgres", f"-D{self._data}", f"-k{self._folder}", *options, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert self._process.poll() is None, f"it did not start:\n{self.log}"
            assert time.monotonic() < deadline, f"it does not answer:\n{self.log}"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it as a supervisor does (a fast shutdown): sessions are cut off, everything is written out."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            assert self._process.wait(60) == 0, self.log

    def kill(self) -> None:
        """SIGKILL of the server and all its processes: nothing is written out, nobody says goodbye."""
        children = psutil.Process(self._process.pid).children(recursive=True)
        for process in (self._process, *children):
            with contextlib.suppress(psutil.NoSuchProcess):  # ended by itself when the server did
                process.kill()
        self._process.wait()
        while any(_alive(process) for process in children):
            time.sleep(0.005)

    def url(self, name: str = "postgres") -> str:
        """The address of a database as the service takes it."""
        return f"postgresql://postgres@/{name}?host={self._folder}"

    def make(self, template: Callable[[str], Any] | None = None) -> str:
        """A fresh database, empty or as `template(url)` fills one; the filling is done once and copied after that."""
        source = "template0" if template is None else self._template(template)
        name = f"db{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {source}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database that `make` gave, whoever is still connected to it."""
        name = url.partition("?")[0].rpartition("/")[2]
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run one statement of the administrator."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _template(self, fill: Callable[[str], Any]) -> str:
        key = f"{fill.__module__}.{fill.__qualname__}"
        if key not in self._templates:
            name = f"template{len(self._templates) + 2}"
            self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
            fill(self.url(name))
            self._templates[key] = name
        return self._templates[key]

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _popen(self, program: str, *arguments: str, stderr: IO[bytes]) -> "subprocess.Popen[bytes]":
        user, group = self._user or (None, None)
        return subprocess.Popen(
            [str(self._programs / program), *arguments],
            cwd=self._folder,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that runs until the block is left, and of which nothing remains."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: the name of a socket has 107 bytes at most
    try:
        server = Postgres(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _unprivileged() -> tuple[int, int] | None:
    """(user, group) to run as where this process is root; None where it may run as who it is."""
    if os.geteuid() != 0:
        return None
    users = {user.pw_name: user for user in pwd.getpwall()}
    found = users.get("postgres") or users["nobody"]
    return found.pw_uid, found.pw_gid


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False
