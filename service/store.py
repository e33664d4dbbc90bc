"""What the service knows, in one database: a SQLite file, or PostgreSQL by its URL.

A `Store` gives transactions. `store.read()` is a snapshot. `store.write()` is for changes: what it reads of a run still
holds when it writes, in every process that uses the database, and it commits on leaving, or rolls back when an error
leaves it. What was committed survives `kill -9` and a power cut.

    SQLite        WAL, synchronous=FULL; a writer takes the only write lock of the file at its start (BEGIN IMMEDIATE)
    PostgreSQL    a writer locks the row of the run that it asks for, or the name of one that is to be made; others wait

A `Transaction` speaks in rows and plain values; what they mean is the business of `service.runs`.
Imports SQLAlchemy (half a second), so nothing imports this module before a store is wanted.
"""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.errors import DatabaseFileError, NotReadyError, UnknownRunError
from service.tables import answers, events, progress, revisions, runs, tokens

__all__ = ["ReportRow", "RunRow", "Store", "Transaction"]

BUSY_TIMEOUT_S = 30  # how long a writer waits for a writer in another process
MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0004"  # the newest migration; a file that has had it is opened without Alembic, which takes 0.4 s to import
MIGRATION_LOCK = 0x5357_4954_4348  # of PostgreSQL's advisory locks: one replica migrates, the others wait
Observer = Callable[[str, float], None]  # told of each transaction, "read" or "write", and the seconds it took


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
    seq: int  # the number of its newest event
    head: str  # the hash of that event
    limits: Mapping[str, Any]
    claim: Mapping[str, Any] | None
    parent: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """What a trainer's report leaves of it: an event of the record, a row of progress, and where its run stands."""

    key: int
    event: Mapping[str, Any]  # seq, time, kind, actor, body and hash
    progress: Mapping[str, Any]  # the columns of `tables.progress` without the run's key
    frontier: int
    step: int

    def head(self) -> dict[str, Any]:
        """The parameters of `_ADVANCE`."""
        at = {"at_frontier": self.frontier, "at_step": self.step}
        return {"at_key": self.key, "at_seq": self.event["seq"], "at_head": self.event["hash"], **at}


_HEAD = tuple(runs.c[name] for name in RunRow.__dataclass_fields__)

# The statements of a report are made once: making them takes longer than running them.
_RUNS = sa.select(*_HEAD).where(runs.c.id.in_(sa.bindparam("run_ids", expanding=True))).order_by(runs.c.key)
_ADD_EVENT = events.insert()
_ADVANCE = (
    runs.update()
    .where(runs.c.key == sa.bindparam("at_key"))
    .values(
        seq=sa.bindparam("at_seq"),
        head=sa.bindparam("at_head"),
        frontier=sa.case(
            (runs.c.frontier < sa.bindparam("at_frontier"), sa.bindparam("at_frontier")), else_=runs.c.frontier
        ),
        step=sa.case(
            (sa.func.coalesce(runs.c.step, -1) < sa.bindparam("at_step"), sa.bindparam("at_step")), else_=runs.c.step
        ),
    )
)


def _put_progress(insert: Any) -> Any:
    made = insert(progress)
    kept = {column.name: made.excluded[column.name] for column in progress.c if not column.primary_key}
    return made.on_conflict_do_update(index_elements=[progress.c.run_key, progress.c.step], set_=kept)


_PUT_PROGRESS = {"sqlite": _put_progress(sqlite.insert), "postgresql": _put_progress(postgresql.insert)}


class Transaction:
    """The questions and changes of one transaction; lives as long as the `with` that gave it."""

    def __init__(self, connection: sa.Connection, *, locking: bool = False) -> None:
        self._connection = connection
        self._locking = locking  # lock the rows of runs that are asked for: on PostgreSQL, to write

    # -- runs

    def add_run(self, values: Mapping[str, Any]) -> None:
        """Insert a run; `values` are the columns of `tables.runs` without its key."""
        self._connection.execute(runs.insert().values(**values))

    def run(self, run_id: str) -> RunRow:
        """The head of a run; `UnknownRunError` when there is none."""
        row = self._connection.execute(self._select(runs.c.id == run_id)).one_or_none()
        if row is None:
            raise UnknownRunError(run_id)
        return RunRow(**row._mapping)

    def runs(self, run_ids: Iterable[str]) -> dict[str, RunRow]:
        """The heads of those runs that there are, by id; locked in one order, so that two writers never wait for each
        other."""
        query = _RUNS.with_for_update() if self._locking else _RUNS
        found = self._connection.execute(query, {"run_ids": list(run_ids)})
        return {row.id: RunRow(**row._mapping) for row in found}

    def run_named(self, name: str) -> RunRow | None:
        """The head of the run of that name, if there is one; to write, nobody else makes one meanwhile."""
        if self._locking:
            self._connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))
        row = self._connection.execute(self._select(runs.c.name == name)).one_or_none()
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

    def update(self, key: int, **values: Any) -> None:
        """Set columns of a run."""
        self._connection.execute(runs.update().where(runs.c.key == key).values(**values))

    def _select(self, condition: Any) -> sa.Select[Any]:
        query = sa.select(*_HEAD).where(condition)
        return query.with_for_update() if self._locking else query

    # -- events

    def add_event(self, key: int | None, values: Mapping[str, Any]) -> None:
        """Append an event; `values` are seq, time, kind, actor, body and hash. It becomes the head of its run."""
        self._connection.execute(events.insert().values(run_key=key, **values))
        if key is not None:
            self.update(key, seq=values["seq"], head=values["hash"])

    def events(self, key: int, *, after: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """Events of a run numbered above `after`, in order."""
        query = sa.select(events).where(events.c.run_key == key, events.c.seq > after)
        return [{**row._mapping} for row in self._connection.execute(query.order_by(events.c.seq).limit(limit))]

    def all_events(self, *, after: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """Events of all runs, and of none, with keys above `after`, in order; `run` is the id of the run, or None."""
        query = sa.select(events, runs.c.id.label("run")).join_from(events, runs, isouter=True)
        query = query.where(events.c.key > after).order_by(events.c.key).limit(limit)
        return [{**row._mapping} for row in self._connection.execute(query)]

    # -- revisions

    def revisions(self, key: int, *, after: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """Rows of revisions numbered above `after`, by number, superseded ones too."""
        query = sa.select(revisions).where(revisions.c.run_key == key, revisions.c.number > after)
        rows = self._connection.execute(query.order_by(revisions.c.number).limit(limit))
        return [{**row._mapping} for row in rows]

    def add_revision(self, key: int, values: Mapping[str, Any]) -> None:
        """Insert a revision; `values` are the columns of `tables.revisions` without the run's key."""
        self._connection.execute(revisions.insert().values(run_key=key, **values))
        number = values["number"]
        in_force = {} if values.get("superseded") is not None else {"revision": number}
        self.update(key, newest=number, **in_force)

    def supersede(self, key: int, reasons: Mapping[int, str], *, time: str) -> None:
        """Take revisions (number → reason) out of force, for ever."""
        for number, reason in reasons.items():
            self._connection.execute(
                revisions.update()
                .where(revisions.c.run_key == key, revisions.c.number == number)
                .values(superseded=reason, superseded_time=time)
            )
        if reasons:
            in_force = sa.select(sa.func.coalesce(sa.func.max(revisions.c.number), 0)).where(
                revisions.c.run_key == key, revisions.c.superseded.is_(None)
            )
            self.update(key, revision=in_force.scalar_subquery())

    # -- reports of the trainer

    def add_reports(self, reports: Sequence[ReportRow]) -> None:
        """Keep reports, each of another run, with their events; a later report of the same step takes its place.

        Neither the frontier of a run nor its step ever goes back, whatever is asked.
        """
        if not reports:
            return
        execute, dialect = self._connection.execute, self._connection.dialect.name
        execute(_ADD_EVENT, [{"run_key": report.key, **report.event} for report in reports])
        execute(_ADVANCE, [report.head() for report in reports])
        execute(_PUT_PROGRESS[dialect], [{"run_key": report.key, **report.progress} for report in reports])

    def put_progress(self, key: int, values: Mapping[str, Any]) -> None:
        """Keep a report without an event; a later one of the same step takes its place."""
        self._connection.execute(_PUT_PROGRESS[self._connection.dialect.name], {"run_key": key, **values})

    def progress(self, key: int, *, start: int = 0, limit: int | None = None, stride: int = 1) -> list[dict[str, Any]]:
        """Rows of reports from step `start` on, by step; every `stride`-th, counted back from the last."""
        wanted = sa.and_(progress.c.run_key == key, progress.c.step >= start)
        query = sa.select(progress).where(wanted)
        if stride > 1:
            place = sa.func.row_number().over(order_by=progress.c.step.desc())
            places = sa.select(progress.c.step, place.label("place")).where(wanted).subquery()
            kept = sa.select(places.c.step).where((places.c.place - 1) % stride == 0)
            query = query.where(progress.c.step.in_(kept))
        return [{**row._mapping} for row in self._connection.execute(query.order_by(progress.c.step).limit(limit))]

    def num_reports(self, key: int, *, start: int = 0) -> int:
        """How many steps from `start` on were reported."""
        query = sa.select(sa.func.count()).where(progress.c.run_key == key, progress.c.step >= start)
        return self._connection.scalar(query) or 0

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

    # -- tokens

    def tokens(self) -> list[dict[str, Any]]:
        """Every token ever issued, in order."""
        return [{**row._mapping} for row in self._connection.execute(sa.select(tokens).order_by(tokens.c.key))]

    def add_token(self, values: Mapping[str, Any]) -> None:
        """Insert a token; `values` are the columns of `tables.tokens` without its key."""
        self._connection.execute(tokens.insert().values(**values))

    def revoke_token(self, name: str, *, time: str) -> bool:
        """Take a token out of use, for ever; whether one of that name was in use."""
        in_use = (tokens.c.name == name) & tokens.c.revoked.is_(None)
        return self._connection.execute(tokens.update().where(in_use).values(revoked=time)).rowcount > 0


class Store:
    """One database: the path of a SQLite file, or a URL, `postgresql://user@host/name`.

    Opening makes the tables when there are none and migrates them to the newest form. Raises `DatabaseFileError` when
    the database cannot be opened or migrated, OSError when the disk cannot take it. Safe for many threads.
    `observe` is told of each transaction and the seconds it took, waiting for its lock and committing included.
    """

    def __init__(self, database: Path | str, *, observe: Observer | None = None) -> None:
        self.database = database
        self._observe = observe
        self._is_file = isinstance(database, Path) or "://" not in database
        # In a file writers queue here, in order, rather than poll for SQLite's lock.
        self._write_lock: Any = threading.Lock() if self._is_file else nullcontext()
        self._engine = _file_engine(Path(database)) if self._is_file else _server_engine(str(database))
        try:
            with self._alone():
                self._open()
        except BaseException:
            self._engine.dispose()
            raise

    def __str__(self) -> str:
        return str(self.database) if self._is_file else self._engine.url.render_as_string(hide_password=True)

    def check(self) -> None:
        """Nothing when the database answers and its tables are those of this program; else `NotReadyError`."""
        with self._engine.begin() as connection:
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        if found != HEAD:
            raise NotReadyError(f"the database is at migration {found}, this program at {HEAD}")

    def close(self) -> None:
        """Give back every connection; the store cannot be used afterwards."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A snapshot: everything read inside is of one moment."""
        with self._timed("read"), self._engine.begin() as connection:
            yield Transaction(connection)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """What is read of a run inside holds to the end of the block; on disk once the block has been left."""
        with self._timed("write"), self._write_lock, self._writer() as connection:
            yield Transaction(connection, locking=not self._is_file)

    @contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            if self._observe is not None:
                self._observe(kind, time.perf_counter() - begun)

    @contextmanager
    def _writer(self) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection:
            if self._is_file:
                connection = connection.execution_options(switchpoint_write=True)
            else:  # a lock waited for, then what is read is what was committed last
                connection = connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                yield connection

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Of all that open files in this folder, one at a time.

        SQLite does not wait its turn to switch a new file to WAL, and an opener that fails takes an empty file away:
        nobody else may have it open by then. A server has its own way, see `_migrate`.
        """
        if not self._is_file:
            yield
            return
        folder = os.open(Path(self.database).resolve().parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _open(self) -> None:
        try:
            self._migrate()
        except sa.exc.DatabaseError as error:
            raise self._not_opened(error) from error

    def _migrate(self) -> None:
        with self._engine.begin() as connection:
            if _version(connection) == HEAD:
                return
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self._write_lock, self._writer() as connection:
            if not self._is_file:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _not_opened(self, error: sa.exc.DatabaseError) -> Exception:
        if not self._is_file:
            return DatabaseFileError(str(self), " ".join(str(error.orig).split()))
        path = Path(self.database)
        if path.is_file() and path.stat().st_size == 0:
            path.unlink()  # made by this call, and never filled
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # the rest says what kind of input or output
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return OSError(f"cannot write the database {path}: {error.orig}; make room or give another --db")
        return DatabaseFileError(str(path), str(error.orig))


def _file_engine(path: Path) -> sa.Engine:
    if not path.resolve().parent.is_dir():
        raise DatabaseFileError(str(path), f"the folder {path.resolve().parent} does not exist")
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        poolclass=sa.QueuePool,
        pool_size=8,
        max_overflow=56,
    )
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _server_engine(text: str) -> sa.Engine:
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError:
        raise DatabaseFileError("given", "it is neither a path nor a URL like postgresql://user@host/name") from None
    if url.get_backend_name() not in ("postgresql", "postgres"):
        shown = url.render_as_string(hide_password=True)
        raise DatabaseFileError(shown, "give the path of a SQLite file, or postgresql://user@host/name")
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={"connect_timeout": 10},
        isolation_level="REPEATABLE READ",
        pool_size=8,
        max_overflow=24,
        pool_pre_ping=True,  # a database that was restarted is no reason to fail
    )


def _version(connection: sa.Connection) -> str | None:
    """The newest migration that the database has had; None for a new one."""
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
