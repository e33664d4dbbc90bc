"""service.tokens: what a token file may hold, and who a token is."""

from pathlib import Path

import pytest

from service.errors import TokenFileError
from service.tokens import held_scopes, load_tokens, parse_tokens

SECRET = "0123456789abcdef"
OTHER = "fedcba9876543210"


def test_parses_lines_and_leaves_out_comments() -> None:
    tokens = parse_tokens(f"# who may do what\n\nread:page:{SECRET}\n  trainer:gpu-1:{OTHER}  \n")
    assert [(token.scope, token.name, token.secret) for token in tokens] == [
        ("read", "page", SECRET),
        ("trainer", "gpu-1", OTHER),
    ]


def test_a_secret_is_never_shown() -> None:
    assert SECRET not in repr(parse_tokens(f"read:page:{SECRET}"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no token"),
        ("# only a comment", "holds no token"),
        (f"admin:me:{SECRET}", "line 1: the scope must be one of read, write, trainer"),
        (f"\nread::{SECRET}", "line 2: the name is missing"),
        ("read:me:short", "line 1: the token of 'me' must have at least 16 characters"),
        ("read:me:0123456789 abcdef", "letters, digits and"),
        ("read:me:0123456789abcdéf", "letters, digits and"),
    ],
)
def test_refuses_with_the_line(text: str, problem: str) -> None:
    with pytest.raises(TokenFileError, match=problem) as caught:
        parse_tokens(text)
    assert SECRET not in str(caught.value)


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(TokenFileError, match="cannot be read"):
        load_tokens(tmp_path / "absent")


def test_held_scopes() -> None:
    tokens = parse_tokens(f"read:page:{SECRET}\nwrite:page:{SECRET}\ntrainer:gpu:{OTHER}")
    assert held_scopes(tokens, SECRET) == {"read", "write"}
    assert held_scopes(tokens, OTHER) == {"trainer"}
    assert held_scopes(tokens, SECRET[:-1]) == frozenset()
    assert held_scopes(tokens, "") == frozenset()
    assert held_scopes(tokens, "é") == frozenset()
