"""Bearer tokens: who may read, write revisions, or report as the trainer.

A token file holds one `scope:name:token` a line; empty lines and lines that begin with # are left out.
Scopes are read, write (edits; may read) and trainer (reports and creates runs; may read). A token that
stands on several lines has all their scopes.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from service.errors import TokenFileError

__all__ = ["SCOPES", "Scope", "Token", "held_scopes", "load_tokens", "parse_tokens"]

Scope = Literal["read", "write", "trainer", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "trainer", "admin")
MIN_LENGTH = 16  # characters; shorter ones can be guessed over the network
TOKEN_FORM = re.compile(r"[A-Za-z0-9._~+/=-]+")  # what RFC 6750 lets a bearer token hold


@dataclass(frozen=True, kw_only=True)
class Token:
    """One line of a token file."""

    scope: Scope
    name: str
    secret: str = field(repr=False)


def parse_tokens(text: str) -> tuple[Token, ...]:
    """The tokens of a token file's text; `TokenFileError` names the first wrong line, never a secret."""
    tokens = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        scope, _, rest = line.strip().partition(":")
        name, _, secret = rest.partition(":")
        if scope not in SCOPES:
            raise TokenFileError(f"line {number}: the scope must be one of {', '.join(SCOPES)}: scope:name:token")
        if not name:
            raise TokenFileError(f"line {number}: the name is missing: scope:name:token")
        if len(secret) < MIN_LENGTH or not TOKEN_FORM.fullmatch(secret):
            raise TokenFileError(
                f"line {number}: the token of {name!r} must have at least {MIN_LENGTH} characters, "
                "letters, digits and . _ ~ + / = - only"
            )
        tokens.append(Token(scope=scope, name=name, secret=secret))
    if not tokens:
        raise TokenFileError("it holds no token; write one `scope:name:token` a line")
    return tuple(tokens)


def load_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of a file; `TokenFileError` when it cannot be read or understood."""
    try:
        return parse_tokens(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(f"cannot be read: {error}") from error


def held_scopes(tokens: Sequence[Token], secret: str) -> frozenset[Scope]:
    """The scopes of whoever presents `secret`; empty for a stranger. Takes the same time either way."""
    given = secret.encode()
    return frozenset([token.scope for token in tokens if hmac.compare_digest(token.secret.encode(), given)])
