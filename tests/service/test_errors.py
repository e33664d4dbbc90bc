"""service.errors: every error survives pickling, with its attributes and its message."""

import pickle

import pytest

from service import errors

EXAMPLES = [
    errors.UnknownRunError("abc"),
    errors.NotInRunError("the run has steps 0 to 9, not 10"),
    errors.NameTakenError("run", "abc", ["data_seed"]),
    errors.InvalidRequestError(["wrong @ $.a", "bad @ $.b"]),
    errors.KnownRevisionError(3, 2, "it was superseded"),
    errors.OrderVersionError(1, 2),
    errors.IdempotencyMismatchError("key"),
    errors.BodyTooLargeError(100),
    errors.NotAuthenticatedError(),
    errors.ScopeError(["write"], ["read"]),
    errors.TokenFileError("line 1: wrong"),
    errors.DatabaseFileError("a.db", "no such folder"),
    errors.LedgerFileError(3, "not JSON"),
]


def test_all_errors_are_tried() -> None:
    assert {type(error).__name__ for error in EXAMPLES} | {"ServiceError"} == set(errors.__all__)
    assert errors.__all__ == sorted(errors.__all__)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_pickles(error: errors.ServiceError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error) != ""
    assert vars(again) == vars(error)
