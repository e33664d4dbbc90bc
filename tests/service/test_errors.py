"""service.errors: every error survives pickling, with its attributes and its message."""

import pickle

import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service import errors
from service.limits import Breach
from service.problems import problem_response

EXAMPLES = [
    errors.UnknownRunError("abc"),
    errors.NotInRunError("the run has steps 0 to 9, not 10"),
    errors.NameTakenError("run", "abc", ["data_seed"]),
    errors.InvalidRequestError(["wrong @ $.a", "bad @ $.b"]),
    errors.KnownRevisionError(3, 2, "it was superseded"),
    errors.ClaimedError("b", {"claim": 1, "trainer": "a", "step": 0, "since": "2026-01-01T00:00:00+00:00"}),
    errors.ClaimLostError(1, {"claim": 2, "trainer": "b", "step": 10, "since": "2026-01-01T00:00:00+00:00"}),
    errors.LimitsError([Breach(corpus="c4", limit="max", allowed=0.5, found=0.6, step=10)]),
    errors.OrderVersionError(1, 2),
    errors.IdempotencyMismatchError("key"),
    errors.BodyTooLargeError(100),
    errors.NotAuthenticatedError(),
    errors.ScopeError(["write"], ["read"]),
    errors.RateLimitError("too many requests", 1.5),
    errors.HostError("evil.example"),
    errors.CrossSiteError("https://evil.example"),
    errors.SlowBodyError(30.0),
    errors.NotReadyError("the service is stopping"),
    errors.TokenNameError("there is no token 'ada'"),
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


def test_a_pool_of_connections_that_is_used_up_is_no_fault() -> None:
    """It is answered like a database that is away, and so asked again."""
    answer = problem_response("/v1/runs", PoolTimeoutError("QueuePool limit"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert b"QueuePool" not in answer.body
