"""Bearer tokens: what they are, and who presents one. Only digests of them are kept, never a secret.

A token file holds one token a line: `scope:name:sha256:DIGEST` (which `switchpoint-service tokens hash` prints), or
`scope:name:SECRET`, which is hashed as it is read; empty lines and lines that begin with # are left out. Scopes are
read, write (edits; may read), trainer (reports and creates runs; may read) and admin (limits and the record of all
runs; may read). A token that stands on several lines has all their scopes.

A digest is one SHA-256, without salt or stretching: secrets are random and long, so that there is no list to try
against it. Plain functions; the database's tokens are `service.keyring`'s.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from service.errors import TokenFileError

__all__ = ["ANONYMOUS", "SCOPES", "Caller", "Scope", "Token", "digest", "identify", "load_tokens", "new_secret"]
__all__ += ["parse_tokens"]

Scope = Literal["read", "write", "trainer", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "trainer", "admin")
MIN_LENGTH = 16  # characters; shorter ones can be guessed over the network
TOKEN_FORM = re.compile(r"[A-Za-z0-9._~+/=-]+")  # what RFC 6750 lets a bearer token hold
DIGEST_FORM = re.compile(r"sha256:([0-9a-f]{64})")
RESERVED = ("anonymous", "cli")  # who acts without a token: nobody's token may pass for them


@dataclass(frozen=True, kw_only=True)
class Token:
    """Who may do what with the secret of this `digest` (SHA-256, hex), until `expires` (None: for ever)."""

    name: str
    scopes: frozenset[Scope]
    digest: str
    expires: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks: the name that goes into the record, and what it may do."""

    name: str
    scopes: frozenset[Scope]


ANONYMOUS = Caller(name="anonymous", scopes=frozenset(SCOPES))  # whoever asks where there are no tokens


def new_secret() -> str:
    """A secret of 256 random bits, of a form that scanners for leaked secrets can know."""
    return f"sp_{secrets.token_urlsafe(32)}"


def digest(secret: str) -> str:
    """SHA-256 of a secret, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def check_secret(secret: str) -> str | None:
    """What is wrong with a secret of one's own making; None when it may be used."""
    if len(secret) < MIN_LENGTH or not TOKEN_FORM.fullmatch(secret):
        return f"must have at least {MIN_LENGTH} characters, letters, digits and . _ ~ + / = - only"
    return None


def identify(tokens: Sequence[Token], secret: str, *, now: datetime) -> Caller | None:
    """Whoever presents `secret` at `now`; None for a stranger. Takes the same time either way."""
    given = digest(secret)
    held = [token for token in tokens if hmac.compare_digest(token.digest, given)]
    valid = [token for token in held if token.expires is None or now < token.expires]
    if not valid:
        return None
    return Caller(name=valid[0].name, scopes=frozenset[Scope]().union(*(token.scopes for token in valid)))


def parse_tokens(text: str) -> tuple[Token, ...]:
    """The tokens of a token file's text; `TokenFileError` names the first wrong line, never a secret."""
    tokens = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                tokens.append(_parse_line(line.strip()))
            except ValueError as error:
                raise TokenFileError(f"line {number}: {error}") from None
    if not tokens:
        raise TokenFileError("it holds no token; write one `scope:name:token` a line")
    return tuple(tokens)


def _parse_line(line: str) -> Token:
    scope, _, rest = line.partition(":")
    name, _, secret = rest.partition(":")
    if scope not in SCOPES:
        raise ValueError(f"the scope must be one of {', '.join(SCOPES)}: scope:name:token")
    if not name:
        raise ValueError("the name is missing: scope:name:token")
    if name in RESERVED:
        raise ValueError(f"the name {name!r} stands for callers without a token; choose another")
    if secret.startswith("sha256:"):
        found = DIGEST_FORM.fullmatch(secret)
        if found is None:
            raise ValueError(f"the digest of {name!r} must be sha256: and 64 hexadecimal digits in lower case")
        return Token(name=name, scopes=frozenset([scope]), digest=found[1])
    if problem := check_secret(secret):
        raise ValueError(f"the token of {name!r} {problem}")
    return Token(name=name, scopes=frozenset([scope]), digest=digest(secret))


def load_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of a file; `TokenFileError` when it cannot be read or understood."""
    try:
        return parse_tokens(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(f"cannot be read: {error}") from error
