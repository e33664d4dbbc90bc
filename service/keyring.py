"""The tokens that are valid now: those of the token file, and those in the database, which are issued and revoked
while the service runs (`switchpoint-service tokens`).

A `Keyring` says who presents a secret. It keeps what the database said for at most `TTL_S` seconds, so that every
replica follows a revocation within that time. While the database cannot be asked, what it said last holds: nothing can
be revoked there then, and nothing be answered but how the service is doing, which is when that matters.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from service.errors import TokenNameError
from service.store import Store
from service.tokens import ANONYMOUS, RESERVED, Caller, Scope, Token, digest, identify, new_secret

__all__ = ["TTL_S", "Keyring", "issue", "listed", "num_valid", "revoke"]

TTL_S = 2.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
ACTOR = "cli"  # who issues and revokes, in the record


class Keyring:
    """Who presents a secret. For one event loop."""

    def __init__(self, file: Sequence[Token], store: Store) -> None:
        self._file = tuple(file)
        self._store = store
        self._issued: tuple[Token, ...] = ()
        self._ever = False  # whether any token was ever issued
        self._known = False  # whether the database has ever answered
        self._until = float("-inf")
        self._loading = asyncio.Lock()

    async def caller(self, secret: str) -> Caller | None:
        """Who presents `secret` ("" for none); None for a stranger. Everyone is ANONYMOUS while it is open.

        Raises SQLAlchemyError when the database must be asked and has never answered.
        """
        now = datetime.now(UTC)
        if secret and (found := identify(self._file, secret, now=now)) is not None:
            return found
        if self._file and not secret:
            return None
        await self._load()
        if not self._file and not self._ever:
            return ANONYMOUS
        return identify(self._issued, secret, now=now) if secret else None

    async def is_open(self) -> bool:
        """Whether there never was a token. One that was revoked, or has expired, does not open the service again."""
        return await self.caller("") is ANONYMOUS

    async def _load(self) -> None:
        if time.monotonic() < self._until:
            return
        async with self._loading:
            if time.monotonic() >= self._until:
                asked = time.monotonic()
                try:
                    rows = await run_in_threadpool(_rows, self._store)
                except SQLAlchemyError:
                    if not self._known:
                        raise
                else:
                    self._issued, self._ever, self._known = _valid(rows), bool(rows), True
                self._until = asked + TTL_S


def issue(store: Store, *, name: str, scopes: Sequence[Scope], expires: datetime | None, now: datetime) -> str:
    """Make a token and store its digest; the secret, which nothing can show again.

    `TokenNameError` when the name was given before, also to a token that was revoked since: the record of what was
    done names one token for ever.
    """
    if not NAME.fullmatch(name) or name in RESERVED:
        raise TokenNameError(
            f"a name has letters, digits and . _ @ -, at most 100, and is none of {', '.join(RESERVED)}; found {name!r}"
        )
    secret, held = new_secret(), sorted(set(scopes))
    until = None if expires is None else expires.isoformat(timespec="seconds")
    row = {"name": name, "scopes": held, "digest": digest(secret), "expires": until}
    with store.write() as tx:
        if any(row["name"] == name for row in tx.tokens()):
            raise TokenNameError(f"there is, or was, a token named {name!r}; names are given once: take another")
        tx.add_token({**row, "created": now.isoformat(timespec="seconds"), "revoked": None})
        tx.add_event(None, _event("token-issued", {"name": name, "scopes": held, "expires": until}, now))
    return secret


def revoke(store: Store, *, name: str, now: datetime) -> None:
    """Take a token out of use for ever; `TokenNameError` when none of that name is in use."""
    with store.write() as tx:
        if not tx.revoke_token(name, time=now.isoformat(timespec="seconds")):
            raise TokenNameError(f"there is no token {name!r} to revoke; `tokens list` shows those there are")
        tx.add_event(None, _event("token-revoked", {"name": name}, now))


def listed(store: Store) -> list[dict[str, Any]]:
    """What is known of every token ever issued, without its digest, in the order they were issued."""
    return [{key: value for key, value in row.items() if key not in ("key", "digest")} for row in _rows(store)]


def num_valid(store: Store, *, now: datetime) -> int:
    """How many issued tokens are valid at `now`."""
    return sum(token.expires is None or now < token.expires for token in _valid(_rows(store)))


def _rows(store: Store) -> list[dict[str, Any]]:
    with store.read() as tx:
        return tx.tokens()


def _valid(rows: Sequence[dict[str, Any]]) -> tuple[Token, ...]:
    """Those that were not revoked; whether one has expired is asked when it is presented."""
    return tuple(
        Token(
            name=row["name"],
            scopes=frozenset(row["scopes"]),
            digest=row["digest"],
            expires=None if row["expires"] is None else datetime.fromisoformat(row["expires"]),
        )
        for row in rows
        if row["revoked"] is None
    )


def _event(kind: str, body: dict[str, Any], now: datetime) -> dict[str, Any]:
    """An event of no run, which is in no chain of hashes."""
    return {"seq": 0, "time": now.isoformat(timespec="milliseconds"), "kind": kind, "actor": ACTOR} | {
        "body": body,
        "hash": "",
    }
