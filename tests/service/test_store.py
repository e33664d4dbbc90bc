"""service.store: one database, one writer of a run, on disk once committed; and its migrations. On both databases."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from service.chain import digest, replay
from service.errors import DatabaseFileError, UnknownRunError
from service.store import HEAD, MIGRATIONS, ReportRow, Store
from service.tables import metadata
from tests.postgres import Postgres
from tests.service.conftest import Database, migrated, open_engine

BOTH_DATABASES = True


def run_row(name: str = "a", **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "created": "2026-01-01T00:00:00+00:00",
        "definition": {"corpora": {}},
        "order_version": 1,
        "num_steps": 100,
        "frontier": 0,
        "step": None,
        **changes,
    }


def revision_row(number: int, **changes: Any) -> dict[str, Any]:
    texts = {"author": "ada", "reason": "why", "time": "now"}
    return {
        "number": number,
        "parent": number - 1,
        "effective_step": 10 * number,
        "schedule": {},
        **texts,
        **changes,
    }


def report_row(key: int, seq: int, frontier: int, step: int) -> ReportRow:
    event = {"seq": seq, "time": "now", "kind": "reported", "actor": "ada", "body": {}, "hash": str(seq)}
    kept = {"step": step, "time": "now", "known_revision": 0, "decided_through": step, "frontier": frontier}
    progress = {**kept, "metrics": {}, "counts": {}}
    return ReportRow(key=key, event=event, progress=progress, frontier=frontier, step=step)


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    store = Store(database)
    yield store
    store.close()


def test_migrations_make_the_tables(store: Store) -> None:
    with store._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_file_is_wal_and_synced(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db")
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    store.close()


def test_postgresql_is_synced(cluster: Postgres) -> None:
    store = Store(cluster.make(migrated))
    with store.write() as tx:
        shown = {
            name: tx._connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("fsync", "synchronous_commit")
        }
    assert shown == {"fsync": "on", "synchronous_commit": "on"}
    store.close()


def test_opens_again_with_what_it_held(store: Store) -> None:
    with store.write() as tx:
        tx.add_run(run_row())
    again = Store(store.database)
    with again.read() as tx:
        assert tx.run("a").name == "a"
    again.close()


def test_an_error_rolls_everything_back(store: Store) -> None:
    def fail_half_way() -> None:
        with store.write() as tx:
            tx.add_run(run_row())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    with store.read() as tx, pytest.raises(UnknownRunError):
        tx.run("a")


def test_frontier_and_step_never_go_back(store: Store) -> None:
    with store.write() as tx:
        tx.add_run(run_row())
        key = tx.run("a").key
        seen = []
        for seq, (frontier, step) in enumerate(((10, 5), (7, 9), (20, 3)), start=1):
            tx.add_reports([report_row(key, seq, frontier, step)])
            seen.append((tx.run("a").frontier, tx.run("a").step))
    assert seen == [(10, 5), (10, 9), (20, 9)]


def test_revision_in_force_and_numbers_given(store: Store) -> None:
    with store.write() as tx:
        tx.add_run(run_row())
        key = tx.run("a").key
        assert (tx.run("a").revision, tx.run("a").newest) == (0, 0)
        for number in (1, 2, 3):
            tx.add_revision(key, revision_row(number))
        tx.supersede(key, {2: "passed", 3: "made after 2"}, time="later")
        assert (tx.run("a").revision, tx.run("a").newest) == (1, 3)
        assert [row["number"] for row in tx.revisions(key)] == [1, 2, 3]
        assert [row["superseded"] for row in tx.revisions(key)] == [None, "passed", "made after 2"]
        assert tx.totals() == {"runs": 1, "revisions": 3, "superseded": 2}


def test_a_reader_sees_one_moment(store: Store) -> None:
    with store.write() as tx:
        tx.add_run(run_row())
    with store.read() as reader:
        key = reader.run("a").key
        with store.write() as writer:
            writer.add_revision(key, revision_row(1))
        assert reader.run("a").revision == 0
    with store.read() as reader:
        assert reader.run("a").revision == 1


def test_writers_of_two_stores_take_turns(store: Store) -> None:
    """Two processes on one file: what a writer reads still holds when it writes."""
    with store.write() as tx:
        tx.add_run(run_row())
    other = Store(store.database)
    rounds = 50

    def count(own: Store) -> None:
        for _ in range(rounds):
            with own.write() as tx:
                row = tx.run("a")
                tx.update(row.key, frontier=row.frontier + 1)

    threads = [threading.Thread(target=count, args=[own]) for own in (store, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as tx:
        assert tx.run("a").frontier == 2 * rounds
    other.close()


def test_cannot_open(tmp_path: Path) -> None:
    with pytest.raises(DatabaseFileError, match="does not exist"):
        Store(tmp_path / "absent" / "a.db")
    (tmp_path / "text.db").write_text("this is no database, but it is long enough to be looked at" * 20)
    with pytest.raises(DatabaseFileError, match="not a database"):
        Store(tmp_path / "text.db")
    with pytest.raises(DatabaseFileError):
        Store(tmp_path)


def test_opens_a_file_that_another_process_is_writing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Store(path).close()
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    store = Store(path)
    with store.read() as tx:
        assert tx.totals()["runs"] == 0
    writer.execute("COMMIT")
    writer.close()
    store.close()


@pytest.mark.parametrize("closing", [True, False])
def test_many_may_make_the_same_file_at_once(closing: bool, tmp_path: Path) -> None:
    """The first migrates, the others wait for it: forty times, since what it guards against happens now and then."""

    def make(path: Path) -> dict[str, int]:
        ready.wait()
        store = Store(path)
        with store.read() as tx:
            totals = tx.totals()
        if closing:
            store.close()
        return totals

    ready = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        for name in range(40):
            totals = list(pool.map(make, [tmp_path / f"{name}.db"] * 4))
            assert totals == [{"runs": 0, "revisions": 0, "superseded": 0}] * 4


def alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def test_head_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(alembic()).get_current_head() == HEAD


OLD_TABLES = sa.MetaData()  # of the first release, as far as a revision goes
old_runs = sa.Table(
    "runs",
    OLD_TABLES,
    *(sa.Column(name, sa.BigInteger) for name in ("key", "order_version", "num_steps", "frontier", "step")),
    *(sa.Column(name, sa.Text) for name in ("id", "name", "created")),
    sa.Column("definition", sa.JSON),
)
old_revisions = sa.Table(
    "revisions",
    OLD_TABLES,
    *(sa.Column(name, sa.BigInteger) for name in ("run_key", "number", "parent", "effective_step")),
    sa.Column("schedule", sa.JSON),
    *(sa.Column(name, sa.Text) for name in ("author", "reason", "time", "superseded", "superseded_time")),
)


@pytest.fixture
def old_database(empty_database: Database) -> Iterator[sa.Engine]:
    """A database of the first release, with a run and two revisions, one of them superseded."""
    engine = open_engine(empty_database)
    with engine.begin() as connection:
        config = alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(old_runs.insert().values(**run_row(), key=1))
        for row in OLD_REVISIONS:
            connection.execute(old_revisions.insert().values(run_key=1, **row))
    yield engine
    engine.dispose()


OLD_REVISIONS = [
    revision_row(1, schedule={"phases": [{"start": "10ba", "mixture": {"c4": 0.3}}]}, superseded=None),
    revision_row(2, superseded="passed", superseded_time="later", reason="für \u2028 'alle'"),
]


def test_a_file_of_the_first_release_is_migrated(old_database: sa.Engine, empty_database: Database) -> None:
    store = Store(empty_database)
    with store.write() as tx:
        found = tx.revisions(tx.run("a").key)
        defaults = {"run_key": 1, "superseded_time": None, "corpora": {}, "global_batch_size": None}
        assert found == [{**defaults, **row} for row in OLD_REVISIONS]
        corpora = {"c4": {"skip": {"samples": 5}}}
        tx.add_revision(1, revision_row(3, schedule=None, corpora=corpora))
        newest = tx.revisions(1, after=2)[0]
        assert (newest["schedule"], newest["corpora"]) == (None, corpora)
        assert tx._connection.scalar(sa.text("SELECT count(*) FROM revisions WHERE schedule IS NULL")) == 1
        assert (tx.run("a").revision, tx.run("a").newest) == (3, 3)
    with store._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    store.close()


def test_a_run_of_the_first_release_gets_a_record(old_database: sa.Engine, empty_database: Database) -> None:
    store = Store(empty_database)
    with store.read() as tx:
        row = tx.run("a")
        record = replay("a", tx.events(row.key))
        assert (row.revision, row.newest, row.seq, row.head) == (1, 2, record.seq, record.head)
        assert (list(record.revisions), record.superseded) == ([1, 2], {2: "passed"})
        assert record.definition == digest(tx.definition(row.key))
        assert {event["actor"] for event in tx.events(row.key)} == {"before the record"}
    store.close()


def test_the_newest_migration_can_be_taken_back(old_database: sa.Engine, empty_database: Database) -> None:
    Store(empty_database).close()
    with old_database.begin() as connection:
        config = alembic()
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    with old_database.connect() as connection:
        found = [{**row._mapping} for row in connection.execute(sa.select(old_revisions))]
    assert found == [{"run_key": 1, "superseded": None, "superseded_time": None, **row} for row in OLD_REVISIONS]


def test_a_batch_size_is_not_lost_by_taking_a_migration_back(old_database: sa.Engine, empty_database: Database) -> None:
    store = Store(empty_database)
    with store.write() as tx:
        tx.add_revision(1, revision_row(3, schedule=None, global_batch_size=512))
        assert tx.revisions(1, after=2)[0]["global_batch_size"] == 512
    store.close()
    with old_database.begin() as connection:
        config = alembic()
        config.attributes["connection"] = connection
        with pytest.raises(RuntimeError, match="some revisions change the batch size"):
            command.downgrade(config, "0002")
