"""What the operations depend on: the runs of the application, its limits, and who may do what."""

from typing import Annotated, Any

from fastapi import Depends, Header, Path, Request

from service.errors import NotAuthenticatedError, ScopeError
from service.runs import Runs, State
from service.settings import Settings
from service.tokens import Scope, held_scopes

__all__ = ["ADMINS", "ANYONE", "CREATORS", "EDITORS", "TRAINERS", "AllRuns", "CurrentState", "Limits", "RunId"]


def _runs(request: Request) -> Runs:
    runs: Runs = request.app.state.runs
    return runs


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


RunId = Annotated[str, Path(description="id of the run", max_length=32, pattern=r"^[^\x00-\x1f\x7f]*$")]
AllRuns = Annotated[Runs, Depends(_runs)]
Limits = Annotated[Settings, Depends(_settings)]


def _state(run_id: RunId, runs: AllRuns) -> State:
    return runs.state(run_id)


CurrentState = Annotated[State, Depends(_state)]


def _allow(*scopes: Scope) -> Any:
    """A dependency that lets only tokens of one of `scopes` through; everyone when there are no tokens."""

    def check(settings: Limits, authorization: Annotated[str | None, Header()] = None) -> None:
        if not settings.tokens:
            return
        kind, _, secret = (authorization or "").partition(" ")
        held = held_scopes(settings.tokens, secret.strip()) if kind.lower() == "bearer" else frozenset()
        if not held:
            raise NotAuthenticatedError
        if not held & set(scopes):
            raise ScopeError(scopes, sorted(held))

    return Depends(check)


ADMINS = [_allow("admin")]
ANYONE = [_allow("read", "write", "trainer", "admin")]
EDITORS = [_allow("write")]
CREATORS = [_allow("write", "trainer")]
TRAINERS = [_allow("trainer")]
