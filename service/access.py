"""What the operations depend on: the runs of the application, its limits, and who may do what."""

from typing import Annotated, Any

from fastapi import Depends, Path, Request

from service.errors import NotAuthenticatedError, ScopeError
from service.runs import Runs, State
from service.settings import Settings
from service.tokens import Caller, Scope

__all__ = [
    "ADMINS",
    "ANYONE",
    "CREATORS",
    "EDITORS",
    "TRAINERS",
    "AllRuns",
    "CurrentState",
    "Limits",
    "RunId",
]


async def _runs(request: Request) -> Runs:
    runs: Runs = request.app.state.runs
    return runs


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


RunId = Annotated[str, Path(description="id of the run", max_length=32, pattern=r"^[^\x00-\x1f\x7f]*$")]
AllRuns = Annotated[Runs, Depends(_runs)]
Limits = Annotated[Settings, Depends(_settings)]


def _state(run_id: RunId, runs: AllRuns) -> State:
    return runs.state(run_id)


CurrentState = Annotated[State, Depends(_state)]


def _allow(*scopes: Scope) -> Any:
    """A dependency that lets only callers of one of `scopes` through (who calls: `service.middleware.Identify`)."""

    async def check(request: Request) -> None:
        caller: Caller | None = request.state.caller
        if caller is None:
            raise NotAuthenticatedError
        if not caller.scopes & set(scopes):
            raise ScopeError(scopes, sorted(caller.scopes))

    return Depends(check)


ADMINS = [_allow("admin")]
ANYONE = [_allow("read", "write", "trainer", "admin")]
EDITORS = [_allow("write")]
CREATORS = [_allow("write", "trainer")]
TRAINERS = [_allow("trainer")]
