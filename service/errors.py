"""The errors of the service, one tree, all picklable (their arguments are their attributes).

    ServiceError
    ├── UnknownRunError           no such run
    ├── NotInRunError             the run has no such step, corpus or sample
    ├── NameTakenError            a run of that name exists with another definition
    ├── InvalidRequestError       the request is well formed but wrong; every problem with its place
    ├── KnownRevisionError        the trainer follows a revision that is not in force here
    ├── ClaimedError              another trainer has the run
    ├── ClaimLostError            the trainer had the run, and another has it now
    ├── LimitsError               the schedule breaks limits of the run
    ├── OrderVersionError         the run was planned by another version of the sample order
    ├── IdempotencyMismatchError  an Idempotency-Key came back with another body
    ├── BodyTooLargeError         the request body is over the limit
    ├── NotAuthenticatedError     no token, or one that nobody holds
    ├── ScopeError                the token is known but may not do this
    ├── RateLimitError            the sender asks, or fails, too often
    ├── HostError                 the request is for a host that this service is not
    ├── CrossSiteError            a page of another site asks for a change
    ├── SlowBodyError             the body did not come in time
    ├── NotReadyError             the service is not ready for work
    ├── TokenNameError            no token, or already one, has this name
    ├── TokenFileError            the token file cannot be read or understood
    ├── DatabaseFileError         the database file cannot be opened
    └── LedgerFileError           an exported ledger cannot be imported

problems.py turns them, and mixer's, into HTTP answers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "BodyTooLargeError",
    "ClaimLostError",
    "ClaimedError",
    "CrossSiteError",
    "DatabaseFileError",
    "HostError",
    "IdempotencyMismatchError",
    "InvalidRequestError",
    "KnownRevisionError",
    "LedgerFileError",
    "LimitsError",
    "NameTakenError",
    "NotAuthenticatedError",
    "NotInRunError",
    "NotReadyError",
    "OrderVersionError",
    "RateLimitError",
    "ScopeError",
    "ServiceError",
    "SlowBodyError",
    "TokenFileError",
    "TokenNameError",
    "UnknownRunError",
]


class ServiceError(Exception):
    """The root of every error the service raises on purpose."""


class UnknownRunError(ServiceError):
    """No run has this id."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        return f"there is no run {self.run_id!r}; GET /v1/runs lists those there are"


class NotInRunError(ServiceError):
    """The address names a step, corpus, sample or slot that the run does not have."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class NameTakenError(ServiceError):
    """A run of that name exists and its definition differs in `fields`."""

    def __init__(self, name: str, run_id: str, fields: Sequence[str]) -> None:
        super().__init__(name, run_id, tuple(fields))
        self.name = name
        self.run_id = run_id
        self.fields = tuple(fields)

    def __str__(self) -> str:
        return (
            f"run {self.run_id} is already named {self.name!r} and differs in {', '.join(self.fields)}; "
            "choose another name, or send the same definition to get that run"
        )


class InvalidRequestError(ServiceError):
    """The request cannot be carried out; `problems` are all of "message @ $.place"."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)


class KnownRevisionError(ServiceError):
    """The trainer follows a revision that was superseded here, or that this service never had."""

    def __init__(self, known_revision: int, current_revision: int, why: str) -> None:
        super().__init__(known_revision, current_revision, why)
        self.known_revision = known_revision
        self.current_revision = current_revision
        self.why = why

    def __str__(self) -> str:
        return (
            f"the trainer follows revision {self.known_revision}, which is not in force: {self.why}; "
            f"in force is revision {self.current_revision}. Resume from a checkpoint whose ledger agrees"
        )


class ClaimedError(ServiceError):
    """Another trainer has the run: `claim` is {claim, trainer, step, since}."""

    def __init__(self, trainer: str, claim: Mapping[str, Any]) -> None:
        super().__init__(trainer, claim)
        self.trainer = trainer
        self.claim = claim

    def __str__(self) -> str:
        return (
            f"the run is being trained by {self.claim['trainer']!r}, since {self.claim['since']} from step "
            f"{self.claim['step']} on, not by {self.trainer!r}; if that one has ended for good, take the run over "
            "(take_over)"
        )


class ClaimLostError(ServiceError):
    """A report under claim `found` (None: under none), when `claim` {claim, trainer, step, since} is the last."""

    def __init__(self, found: int | None, claim: Mapping[str, Any]) -> None:
        super().__init__(found, claim)
        self.found = found
        self.claim = claim

    def __str__(self) -> str:
        mine = "without a claim" if self.found is None else f"under claim {self.found}"
        return (
            f"this report comes {mine}, but claim {self.claim['claim']} was given to {self.claim['trainer']!r} at "
            f"{self.claim['since']}: only that trainer may go on with the run"
        )


class LimitsError(ServiceError):
    """The schedule breaks limits of the run; `breaches` are `service.limits.Breach`."""

    def __init__(self, breaches: Sequence[Any]) -> None:
        super().__init__(tuple(breaches))
        self.breaches = tuple(breaches)

    def __str__(self) -> str:
        return "; ".join(map(str, self.breaches))


class OrderVersionError(ServiceError):
    """The run was made under another version of the sample order than this program computes."""

    def __init__(self, found: int, expected: int) -> None:
        super().__init__(found, expected)
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return (
            f"the run was planned under sample order version {self.found}, this program computes version "
            f"{self.expected}: export it (switchpoint-service export) and import and serve the file with the release "
            "that made it, or begin a new run"
        )


class IdempotencyMismatchError(ServiceError):
    """The Idempotency-Key was used before, with another body."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"Idempotency-Key {self.key!r} was used with another body; use a new key for a new request"


class BodyTooLargeError(ServiceError):
    """The body of the request has more than `limit_bytes` bytes."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"the request body is over the limit of {self.limit_bytes} bytes"


class NotAuthenticatedError(ServiceError):
    """The request carries no bearer token, or one that nobody holds."""

    def __str__(self) -> str:
        return "this needs the header `Authorization: Bearer TOKEN` with a token of this service"


class ScopeError(ServiceError):
    """The token is known but holds none of the scopes that may do this."""

    def __init__(self, allowed: Sequence[str], held: Sequence[str]) -> None:
        super().__init__(tuple(allowed), tuple(held))
        self.allowed = tuple(allowed)
        self.held = tuple(held)

    def __str__(self) -> str:
        return f"this needs a token of scope {' or '.join(self.allowed)}; yours holds {', '.join(self.held)}"


class RateLimitError(ServiceError):
    """The sender must wait `retry_after_s` seconds; `why` says what it did too often."""

    def __init__(self, why: str, retry_after_s: float) -> None:
        super().__init__(why, retry_after_s)
        self.why = why
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.why}; try again in {math.ceil(self.retry_after_s)} s"


class HostError(ServiceError):
    """The request is for `host`, which is no name of this machine's own, and no token would say who asks."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host

    def __str__(self) -> str:
        return (
            f"without tokens this service answers under the names of this machine alone (localhost, 127.0.0.1, ::1), "
            f"not {self.host!r}: use one of those, or issue tokens (switchpoint-service tokens issue)"
        )


class CrossSiteError(ServiceError):
    """A page of `origin` asks for a change; pages of other sites may not."""

    def __init__(self, origin: str) -> None:
        super().__init__(origin)
        self.origin = origin

    def __str__(self) -> str:
        return f"a page of {self.origin} may not change anything here; serve with --cors-origin to let it"


class SlowBodyError(ServiceError):
    """The body did not come whole within `limit_s` seconds."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(limit_s)
        self.limit_s = limit_s

    def __str__(self) -> str:
        return f"the request body did not come whole within {self.limit_s:g} s"


class NotReadyError(ServiceError):
    """The service should get no requests now; `why` says what is the matter."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class TokenNameError(ServiceError):
    """A token of that name is there and should not be, or the other way round; `problem` says which."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class TokenFileError(ServiceError):
    """The token file cannot be read or understood; `problem` says where."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class DatabaseFileError(ServiceError):
    """The database cannot be opened; `problem` says why."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"cannot open the database {self.path}: {self.problem}"


class LedgerFileError(ServiceError):
    """An exported ledger cannot be imported; `line` counts from 1, 0 speaks of the whole file."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.line = line
        self.problem = problem

    def __str__(self) -> str:
        return f"line {self.line}: {self.problem}" if self.line else self.problem
