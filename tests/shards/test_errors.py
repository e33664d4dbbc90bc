"""Errors cross process borders whole, and their exit codes are the tree's."""

import pickle

import pytest

from shards import errors


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_pickle(name: str) -> None:
    error = getattr(errors, name)("a message", path="p", number=3)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.path, copy.number) == ("a message", "p", 3)


def test_exit_codes() -> None:
    codes = {name: getattr(errors, name).exit_code for name in errors.__all__}
    assert {name for name, code in codes.items() if code == 1} == {
        "ShardsError",
        "StorageError",
        "WorkerError",
    }
    assert set(codes.values()) == {1, 2}
