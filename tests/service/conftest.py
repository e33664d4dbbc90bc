"""A server over real HTTP, and runs on it; on SQLite, and on PostgreSQL where a module says BOTH_DATABASES = True."""

import itertools
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from service.settings import Settings
from service.tables import metadata
from tests.postgres import Postgres, need_postgres, postgres
from tests.service.processes import serve_in_thread

Json = dict[str, Any]
Database = Path | str  # a SQLite file, or a URL
Contents = dict[str, list[str]]
DATABASES = ("sqlite", "postgresql")
_numbers = itertools.count()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of a module with BOTH_DATABASES that stand on a database run on each."""
    for fixture in ("database", "empty_database", "server"):
        if getattr(metafunc.module, "BOTH_DATABASES", False) and fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, DATABASES, indirect=True)


RUN: Json = {
    "name": "run",
    "data_seed": 17,
    "global_batch_size": 16,
    "seq_len": 32,
    "num_steps": 1000,
    "corpora": {
        "c4": {"shard_sizes": [500] * 40},
        "code": {"shard_sizes": [400] * 10},
        "math": {"shard_sizes": [300] * 5},
    },
    "schedule": {
        "phases": [
            {"start": "0ba", "mixture": {"c4": 1.0}},
            {
                "start": "600ba",
                "mixture": {"c4": 0.8, "code": 0.2},
                "ramp": {"shape": "linear", "length": "50ba"},
            },
        ]
    },
}


def open_engine(database: Database) -> sa.Engine:
    """A way into a database beside the service."""
    if isinstance(database, str):
        return sa.create_engine(sa.make_url(database).set(drivername="postgresql+psycopg"))
    return sa.create_engine(f"sqlite:///{database}")


def contents(engine: sa.Engine) -> Contents:
    """Every row of every table, to be compared with what is there later."""
    with engine.connect() as connection:
        return {table.name: sorted(map(repr, connection.execute(table.select()))) for table in metadata.sorted_tables}


def run_body(**changes: Any) -> Json:
    """A run of 1,000 steps of 16 samples that switches to code at step 600, under a name of its own."""
    return {**deepcopy(RUN), "name": f"run-{next(_numbers)}", **changes}


def edit_body(parent: int | None = 0, effective_step: int = 500, **changes: Any) -> Json:
    """An edit: half code from step 500 on."""
    body = {
        "parent": parent,
        "effective_step": effective_step,
        "mixture": {"c4": 0.5, "code": 0.5},
        "reason": "more code",
        "author": "ada",
        **changes,
    }
    return {key: value for key, value in body.items() if value is not None}


def report_body(step: int, freeze_through: int, known_revision: int = 0, **changes: Any) -> Json:
    """A report of the trainer."""
    return {"step": step, "freeze_through": freeze_through, "known_revision": known_revision, **changes}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Postgres]:
    """A PostgreSQL for the whole session; each test takes databases of its own from it."""
    need_postgres()
    with postgres() as server:
        yield server


@pytest.fixture
def own_cluster() -> Iterator[Postgres]:
    """A PostgreSQL that a test may kill."""
    need_postgres()
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def make_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Database]:
    """Makes a fresh database of a kind, "sqlite" or "postgresql"."""

    def make(kind: str) -> Database:
        if kind == "sqlite":
            return tmp_path_factory.mktemp("database") / "runs.db"
        cluster: Postgres = request.getfixturevalue("cluster")
        return cluster.make(migrated)

    return make


def migrated(url: str) -> None:
    """Fill an empty database with the service's tables, to be copied rather than migrated again for each test."""
    from service.store import Store

    Store(url).close()


@pytest.fixture
def database(request: pytest.FixtureRequest, make_database: Callable[[str], Database]) -> Iterator[Database]:
    """A fresh database, gone after the test."""
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        yield make_database(kind)
    else:
        cluster: Postgres = request.getfixturevalue("cluster")
        made = cluster.make(migrated)
        yield made
        cluster.drop(made)


@pytest.fixture
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database that no service has seen."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield tmp_path / "empty.db"
    else:
        cluster: Postgres = request.getfixturevalue("cluster")
        made = cluster.make()
        yield made
        cluster.drop(made)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, make_database: Callable[[str], Database]) -> Iterator[str]:
    """The address of a server that all tests share; each makes runs of its own."""
    with serve_in_thread(Settings(database=make_database(getattr(request, "param", "sqlite")))) as url:
        yield url


@pytest.fixture
def api(server: str) -> Iterator[httpx.Client]:
    """A client of the shared server."""
    with httpx.Client(base_url=server, timeout=30) as client:
        yield client


@pytest.fixture
def make_run(api: httpx.Client) -> Callable[..., str]:
    """Makes a run and gives the path of it: make_run(num_steps=10) → /v1/runs/..."""

    def make(**changes: Any) -> str:
        answer = api.post("/v1/runs", json=run_body(**changes))
        assert answer.status_code == 201, answer.text
        return f"/v1/runs/{answer.json()['id']}"

    return make


@pytest.fixture
def run(make_run: Callable[..., str]) -> str:
    """The path of a fresh run."""
    return make_run()
