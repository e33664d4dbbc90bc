"""Who trains a run: one trainer at a time, by claims with rising numbers. Pure functions on the last claim of a run.

A trainer claims the run before its first report and names itself. The same name again is the same trainer, started
again: it gets the next number, and from then on reports under the lower one are refused, so whatever still runs of its
predecessor stops at its next report. Another name is refused, unless it says that it takes the run over.
"""

from collections.abc import Mapping
from typing import Any

from service.errors import ClaimedError, ClaimLostError

__all__ = ["check", "take"]

Claim = Mapping[str, Any]  # claim: its number, trainer, step: the first that it trains, since: when it was given


def take(last: Claim | None, *, trainer: str, step: int, take_over: bool, time: str) -> Claim:
    """The claim that `trainer` gets after `last`; `ClaimedError` when another trainer has the run."""
    if last is not None and last["trainer"] != trainer and not take_over:
        raise ClaimedError(trainer, last)
    return {"claim": (last["claim"] if last else 0) + 1, "trainer": trainer, "step": step, "since": time}


def check(last: Claim | None, number: int | None) -> None:
    """Raise `ClaimLostError` unless a report under claim `number` comes from who has the run; None: without a claim.

    A run that nobody has claimed takes reports without one.
    """
    if last is None and number is None:
        return
    if last is None:
        raise ClaimLostError(number, {"claim": 0, "trainer": "nobody", "step": 0, "since": "the beginning"})
    if last["claim"] != number:
        raise ClaimLostError(number, last)
