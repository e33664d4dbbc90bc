"""service.tokens: what a token file may hold, and who a token is."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.errors import TokenFileError
from service.tokens import Caller, Token, check_secret, digest, identify, load_tokens, new_secret, parse_tokens

SECRET = "0123456789abcdef"
OTHER = "fedcba9876543210"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_parses_lines_and_leaves_out_comments() -> None:
    text = f"# who may do what\n\nread:page:{SECRET}\n  trainer:gpu-1:{OTHER}  \nadmin:ada:sha256:{'0a' * 32}\n"
    assert parse_tokens(text) == (
        Token(name="page", scopes=frozenset({"read"}), digest=digest(SECRET)),
        Token(name="gpu-1", scopes=frozenset({"trainer"}), digest=digest(OTHER)),
        Token(name="ada", scopes=frozenset({"admin"}), digest="0a" * 32),
    )


def test_no_secret_is_kept() -> None:
    (token,) = parse_tokens(f"read:page:{SECRET}")
    assert SECRET not in str(dataclasses.asdict(token))


def test_a_line_with_the_digest_is_the_line_with_the_secret() -> None:
    assert parse_tokens(f"read:page:sha256:{digest(SECRET)}") == parse_tokens(f"read:page:{SECRET}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no token"),
        ("# only a comment", "holds no token"),
        (f"root:me:{SECRET}", "line 1: the scope must be one of read, write, trainer, admin"),
        (f"\nread::{SECRET}", "line 2: the name is missing"),
        ("read:me:short", "line 1: the token of 'me' must have at least 16 characters"),
        ("read:me:0123456789 abcdef", "letters, digits and"),
        ("read:me:0123456789abcdéf", "letters, digits and"),
        ("read:me:sha256:0123456789abcdef", "line 1: the digest of 'me' must be sha256: and 64 hexadecimal"),
        (f"read:me:sha256:{'0A' * 32}", "in lower case"),
        (f"read:anonymous:{SECRET}", "'anonymous' stands for callers without a token"),
        (f"admin:cli:{SECRET}", "'cli' stands for callers without a token"),
    ],
)
def test_refuses_with_the_line(text: str, problem: str) -> None:
    with pytest.raises(TokenFileError, match=problem) as caught:
        parse_tokens(text)
    assert SECRET not in str(caught.value)


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(TokenFileError, match="cannot be read"):
        load_tokens(tmp_path / "absent")


def test_identify() -> None:
    tokens = parse_tokens(f"read:page:{SECRET}\nwrite:page:{SECRET}\ntrainer:gpu:{OTHER}")
    assert identify(tokens, SECRET, now=NOW) == Caller(name="page", scopes=frozenset({"read", "write"}))
    assert identify(tokens, OTHER, now=NOW) == Caller(name="gpu", scopes=frozenset({"trainer"}))
    for stranger in (SECRET[:-1], "", "é", digest(SECRET)):
        assert identify(tokens, stranger, now=NOW) is None


def test_a_token_ends_when_it_expires() -> None:
    (token,) = parse_tokens(f"read:page:{SECRET}")
    expiring = [dataclasses.replace(token, expires=NOW)]
    assert identify(expiring, SECRET, now=NOW - timedelta(seconds=1)) is not None
    assert identify(expiring, SECRET, now=NOW) is None


def test_new_secrets_are_long_and_of_the_form_a_header_takes() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(secret.startswith("sp_") and len(secret) == 46 and check_secret(secret) is None for secret in made)
