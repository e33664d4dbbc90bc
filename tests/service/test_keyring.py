"""service.keyring: tokens that are issued and revoked while the service runs."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy.exc import SQLAlchemyError

from service import keyring
from service.errors import TokenNameError
from service.keyring import Keyring, issue, listed, num_valid, revoke
from service.settings import Settings
from service.store import Store
from service.tokens import ANONYMOUS, Caller, parse_tokens
from tests.postgres import Postgres
from tests.service.conftest import Database, contents, open_engine, run_body
from tests.service.processes import serve_in_thread

BOTH_DATABASES = True
NOW = datetime.now(UTC)
FILE = parse_tokens("admin:root:0123456789abcdef")


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    with closing(Store(database)) as store:
        yield store


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept for longer than the moment."""
    monkeypatch.setattr(keyring, "TTL_S", 0.0)


def ask(ring: Keyring, secret: str) -> Caller | None:
    return asyncio.run(ring.caller(secret))


def new(store: Store, name: str = "ada", expires: datetime | None = None) -> str:
    return issue(store, name=name, scopes=["write", "read", "write"], expires=expires, now=NOW)


def eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.02)


def test_an_issued_token_is_known_until_it_is_revoked(store: Store, impatient: None) -> None:
    secret, ring = new(store), Keyring((), store)
    assert ask(ring, secret) == Caller(name="ada", scopes=frozenset({"read", "write"}))
    assert ask(ring, secret[:-1]) is None
    revoke(store, name="ada", now=NOW)
    assert ask(ring, secret) is None
    with pytest.raises(TokenNameError, match="no token 'ada' to revoke"):
        revoke(store, name="ada", now=NOW)


def test_names_are_given_once(store: Store) -> None:
    new(store)
    revoke(store, name="ada", now=NOW)
    with pytest.raises(TokenNameError, match="there is, or was, a token named 'ada'"):
        new(store)


def test_a_token_expires(store: Store, impatient: None) -> None:
    gone, valid = (new(store, name, NOW + timedelta(days=days)) for name, days in (("a", -1), ("b", 1)))
    ring = Keyring((), store)
    assert ask(ring, gone) is None
    assert ask(ring, valid) is not None
    assert num_valid(store, now=NOW) == 1


def test_it_is_open_until_the_first_token_and_never_again(store: Store, impatient: None) -> None:
    ring = Keyring((), store)
    assert ask(ring, "") is ANONYMOUS
    assert ask(ring, "whatever-it-is-that-is-sent") is ANONYMOUS
    new(store)
    assert ask(ring, "") is None
    revoke(store, name="ada", now=NOW)
    assert num_valid(store, now=NOW) == 0
    assert ask(ring, "") is None


def test_tokens_of_the_file_and_of_the_database_are_valid_side_by_side(store: Store) -> None:
    secret, ring = new(store), Keyring(FILE, store)
    assert ask(ring, "0123456789abcdef") == Caller(name="root", scopes=frozenset({"admin"}))
    assert ask(ring, secret) is not None
    assert ask(ring, "") is None


def test_the_database_is_asked_once_in_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(keyring, "_rows", lambda store: asked.append(store) or [])

    async def many() -> None:
        ring = Keyring((), store)
        await asyncio.gather(*(ring.caller("x") for _ in range(50)))

    asyncio.run(many())
    assert len(asked) == 1


def test_a_database_that_never_answered_lets_nobody_in_but_by_the_file(store: Store, impatient: None) -> None:
    secret, ring = new(store), Keyring(FILE, store)
    with store.write() as tx:
        tx._connection.exec_driver_sql("ALTER TABLE tokens RENAME TO gone")
    with pytest.raises(SQLAlchemyError):
        ask(ring, secret)
    assert ask(ring, "0123456789abcdef") is not None


def test_while_the_database_is_away_what_it_said_last_holds(store: Store, impatient: None) -> None:
    secret, ring = new(store), Keyring((), store)
    expiring = new(store, "soon", datetime.now(UTC) + timedelta(seconds=0.5))
    assert ask(ring, secret) is not None
    with store.write() as tx:
        tx._connection.exec_driver_sql("ALTER TABLE tokens RENAME TO gone")
    assert ask(ring, secret) is not None
    assert ask(ring, secret[:-1]) is None
    assert ask(ring, "") is None
    eventually(lambda: ask(ring, expiring) is None)
    with store.write() as tx:
        tx._connection.exec_driver_sql("ALTER TABLE gone RENAME TO tokens")
    revoke(store, name="ada", now=NOW)
    assert ask(ring, secret) is None


def test_no_secret_is_stored_and_the_record_says_who_was_given_what(store: Store, database: Database) -> None:
    secret = new(store, expires=NOW)
    revoke(store, name="ada", now=NOW)
    engine = open_engine(database)
    assert secret not in str(contents(engine))
    engine.dispose()
    with store.read() as tx:
        events = [(event["run_key"], event["kind"], event["actor"], event["body"]) for event in tx.all_events()]
    until = NOW.isoformat(timespec="seconds")
    assert events == [
        (None, "token-issued", "cli", {"name": "ada", "scopes": ["read", "write"], "expires": until}),
        (None, "token-revoked", "cli", {"name": "ada"}),
    ]
    (row,) = listed(store)
    assert set(row) == {"name", "scopes", "created", "expires", "revoked"}


def test_over_http(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issued and revoked while it serves: by another process, which is another store of the same database."""
    monkeypatch.setattr(keyring, "TTL_S", 0.1)
    with serve_in_thread(Settings(database=database)) as url, closing(Store(database)) as store:
        assert httpx.get(f"{url}/v1/runs").status_code == 200
        secret = new(store)
        eventually(lambda: httpx.get(f"{url}/v1/runs").status_code == 401)
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"}) as client:
            run = client.post("/v1/runs", json=run_body()).json()["id"]
            (event,) = client.get(f"/v1/runs/{run}/audit").json()["events"]
            assert event["actor"] == "ada"
            revoke(store, name="ada", now=NOW)
            eventually(lambda: client.get("/v1/runs").status_code == 401)


def test_a_service_whose_database_is_away_says_so(own_cluster: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives, is not ready, and tells whoever may scrape it what is the matter; then it goes on by itself."""
    monkeypatch.setattr(keyring, "TTL_S", 0.1)
    database = own_cluster.make()
    with closing(Store(database)) as store:
        headers = {"Authorization": f"Bearer {new(store)}"}
    with serve_in_thread(Settings(database=database)) as url, httpx.Client(base_url=url, headers=headers) as client:
        assert "switchpoint_database_up 1.0" in client.get("/metrics").text
        own_cluster.kill()
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").json()["type"] == "urn:switchpoint:problem:storage"
        assert client.get("/v1/runs").status_code == 503
        assert "switchpoint_database_up 0.0" in client.get("/metrics").text
        own_cluster.start()
        eventually(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/v1/runs").status_code == 200


def test_an_admin_reads_who_was_given_what(database: Database) -> None:
    with closing(Store(database)) as store:
        new(store)
        admin = issue(store, name="root", scopes=["admin"], expires=None, now=NOW)
    with serve_in_thread(Settings(database=database)) as url:
        answer = httpx.get(f"{url}/v1/audit", headers={"Authorization": f"Bearer {admin}"})
    found = [(event["run"], event["kind"], event["actor"], event["body"]["name"]) for event in answer.json()["events"]]
    assert found == [(None, "token-issued", "cli", "ada"), (None, "token-issued", "cli", "root")]
