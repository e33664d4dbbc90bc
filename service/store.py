"""What the service knows, in one SQLite file: WAL, every commit on disk before it is acknowledged.

A `Store` gives transactions. `store.read()` is a snapshot. `store.write()` takes the only write lock of
the file at its start (BEGIN IMMEDIATE), so that what it reads still holds when it writes, in every
process that has the file open; it commits on leaving, or rolls back when an error leaves it. A commit
is synced (synchronous=FULL): what was committed survives `kill -9` and a power cut.

A `Transaction` speaks in rows and plain values; what they mean is the business of `service.runs`.
Imports SQLAlchemy (half a second), so nothing imports this module before a store is wanted.
"""

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from service.errors import DatabaseFileError, UnknownRunError
from service.tables import answers, progress, revisions, runs

__all__ = ["RunRow", "Store", "Transaction"]

BUSY_TIMEOUT_S = 30  # how long a writer waits for a writer in another process
MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0003"  # the newest migration; a file that has had it is opened without Alembic, which takes 0.4 s to import


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """The head of a run: everything but its definition. `step` is None before the first report."""

    key: int
    id: str
    name: str
    created: str
    order_version: int
    num_steps: int
    frontier: int
    step: int | None
    revision: int  # the newest in force, 0 for the base
    newest: int  # the highest number ever given


_HEAD = (
    runs.c.key,
    runs.c.id,
    runs.c.name,
    runs.c.created,
    runs.c.order_version,
    runs.c.num_steps,
    runs.c.frontier,
    runs.c.step,
    sa.select(sa.func.coalesce(sa.func.max(revisions.c.number), 0))
    .where(revisions.c.run_key == runs.c.key, revisions.c.superseded.is_(None))
    .correlate(runs)
    .scalar_subquery()
    .label("revision"),
    sa.select(sa.func.coalesce(sa.func.max(revisions.c.number), 0))
    .where(revisions.c.run_key == runs.c.key)
    .correlate(runs)
    .scalar_subquery()
    .label("newest"),
)


class Transaction:
    """The questions and changes of one transaction; lives as long as the `with` that gave it."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    # -- runs

    def add_run(self, values: Mapping[str, Any]) -> None:
        """Insert a run; `values` are the columns of `tables.runs` without its key."""
        self._connection.execute(runs.insert().values(**values))

    def run(self, run_id: str) -> RunRow:
        """The head of a run; `UnknownRunError` when there is none."""
        row = self._connection.execute(sa.select(*_HEAD).where(runs.c.id == run_id)).one_or_none()
        if row is None:
            raise UnknownRunError(run_id)
        return RunRow(**row._mapping)

    def run_named(self, name: str) -> RunRow | None:
        """The head of the run of that name, if there is one."""
        row = self._connection.execute(sa.select(*_HEAD).where(runs.c.name == name)).one_or_none()
        return None if row is None else RunRow(**row._mapping)

    def has_run(self, run_id: str) -> bool:
        """Whether a run has this id."""
        return self._connection.scalar(sa.select(runs.c.key).where(runs.c.id == run_id)) is not None

    def list_runs(self, *, after: int, limit: int) -> list[RunRow]:
        """Heads in the order the runs were made, from the one after key `after`."""
        query = sa.select(*_HEAD).where(runs.c.key > after).order_by(runs.c.key).limit(limit)
        return [RunRow(**row._mapping) for row in self._connection.execute(query)]

    def definition(self, key: int) -> dict[str, Any]:
        """What a run was made with."""
        found: dict[str, Any] = self._connection.execute(
            sa.select(runs.c.definition).where(runs.c.key == key)
        ).scalar_one()
        return found

    def advance(self, key: int, *, frontier: int, step: int) -> None:
        """Move a run's frontier and highest step; neither ever goes back, whatever is asked."""
        self._connection.execute(
            runs.update()
            .where(runs.c.key == key)
            .values(
                frontier=sa.case((runs.c.frontier < frontier, frontier), else_=runs.c.frontier),
                step=sa.case((sa.func.coalesce(runs.c.step, -1) < step, step), else_=runs.c.step),
            )
        )

    # -- revisions

    def revisions(self, key: int, *, after: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """Rows of revisions numbered above `after`, by number, superseded ones too."""
        query = sa.select(revisions).where(revisions.c.run_key == key, revisions.c.number > after)
        rows = self._connection.execute(query.order_by(revisions.c.number).limit(limit))
        return [{**row._mapping} for row in rows]

    def add_revision(self, key: int, values: Mapping[str, Any]) -> None:
        """Insert a revision; `values` are the columns of `tables.revisions` without the run's key."""
        self._connection.execute(revisions.insert().values(run_key=key, **values))

    def supersede(self, key: int, reasons: Mapping[int, str], *, time: str) -> None:
        """Take revisions (number → reason) out of force, for ever."""
        for number, reason in reasons.items():
            self._connection.execute(
                revisions.update()
                .where(revisions.c.run_key == key, revisions.c.number == number)
                .values(superseded=reason, superseded_time=time)
            )

    # -- reports of the trainer

    def put_progress(self, key: int, values: Mapping[str, Any]) -> None:
        """Keep a report; a later one of the same step takes its place."""
        step = values["step"]
        self._connection.execute(progress.delete().where(progress.c.run_key == key, progress.c.step == step))
        self._connection.execute(progress.insert().values(run_key=key, **values))

    def progress(self, key: int, *, start: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """Rows of reports from step `start` on, by step."""
        query = sa.select(progress).where(progress.c.run_key == key, progress.c.step >= start)
        return [{**row._mapping} for row in self._connection.execute(query.order_by(progress.c.step).limit(limit))]

    # -- answers of idempotent requests

    def answer(self, key: int, idempotency_key: str) -> dict[str, Any] | None:
        """The digest, number and answer kept under an Idempotency-Key, if any."""
        query = sa.select(answers).where(answers.c.run_key == key, answers.c.idempotency_key == idempotency_key)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else {**row._mapping}

    def add_answer(self, key: int, values: Mapping[str, Any]) -> None:
        """Keep the answer given under an Idempotency-Key."""
        self._connection.execute(answers.insert().values(run_key=key, **values))

    def totals(self) -> dict[str, int]:
        """How many runs, revisions and superseded revisions there are."""
        revision = sa.func.count(revisions.c.number), sa.func.count(revisions.c.superseded)
        num_revisions, num_superseded = self._connection.execute(sa.select(*revision)).one()
        num_runs = self._connection.scalar(sa.select(sa.func.count(runs.c.key))) or 0
        return {"runs": num_runs, "revisions": num_revisions, "superseded": num_superseded}


class Store:
    """One database file. Opening makes it when absent and migrates it to the newest form.

    Raises `DatabaseFileError` when the file cannot be opened or migrated, OSError when the disk cannot take it.
    Safe for many threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._write_lock = threading.Lock()  # queue here, in order, rather than poll for SQLite's lock
        if not path.resolve().parent.is_dir():
            raise DatabaseFileError(str(path), f"the folder {path.resolve().parent} does not exist")
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
            poolclass=sa.QueuePool,
            pool_size=8,
            max_overflow=56,
        )
        sa.event.listen(self._engine, "connect", _prepare)
        sa.event.listen(self._engine, "begin", _begin)
        try:
            self._migrate()
        except sa.exc.DatabaseError as error:
            self._engine.dispose()
            if path.is_file() and path.stat().st_size == 0:
                path.unlink()  # made by this call, and never filled
            code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # the rest says what kind of input or output
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise OSError(
                    f"cannot write the database {path}: {error.orig}; make room or give another --db"
                ) from error
            raise DatabaseFileError(str(path), str(error.orig)) from error

    def close(self) -> None:
        """Give back every connection; the store cannot be used afterwards."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A snapshot: everything read inside is of one moment."""
        with self._engine.begin() as connection:
            yield Transaction(connection)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """The only writer from here to the end of the block; on disk once the block has been left."""
        with self._write_lock, self._writer() as connection:
            yield Transaction(connection)

    @contextmanager
    def _writer(self) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection:
            connection = connection.execution_options(switchpoint_write=True)
            with connection.begin():
                yield connection

    def _migrate(self) -> None:
        with self._engine.begin() as connection:
            if _version(connection) == HEAD:
                return
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self._write_lock, self._writer() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _version(connection: sa.Connection) -> str | None:
    """The newest migration that the database has had; None for a new file."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return version


def _prepare(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # sqlite3 must not open transactions of its own: _begin does
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("switchpoint_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
