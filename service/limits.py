"""Limits on edits: bounds of the weight of a corpus, and of how much one revision may change it. Pure functions.

A limit is {"min": weight, "max": weight, "max_change": difference of weights}, each of them optional. An edit is held
to them at every step from its effective step on: `max_change` compares the weight of a step with what it would have
been without the edit.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from mixer import Schedule

__all__ = ["Breach", "Limits", "breaches"]

Limits = Mapping[str, Mapping[str, float]]
TOLERANCE = 1e-9  # weights are kept in parts per 10^9


class Breach(NamedTuple):
    """A limit that is broken, at the first step where it is."""

    corpus: str
    limit: str
    allowed: float
    found: float
    step: int

    def __str__(self) -> str:
        what = "changes by" if self.limit == "max_change" else "is"
        side = "at least" if self.limit == "min" else "at most"
        return (
            f"the weight of {self.corpus} {what} {self.found:g} at step {self.step}; allowed is {side} {self.allowed:g}"
        )


def breaches(limits: Limits, schedule: Schedule, *, start: int, before: Schedule | None = None) -> list[Breach]:
    """The limits that `schedule` breaks from step `start` on; `before` is the schedule it takes the place of."""
    if not limits:
        return []
    found: dict[tuple[str, str], Breach] = {}
    for step in _telling_steps([schedule] if before is None else [schedule, before], start):
        weights = schedule.weights(step)
        earlier = None if before is None else before.weights(step)
        for breach in _at(limits, step, weights, earlier):
            found.setdefault((breach.corpus, breach.limit), breach)
    return sorted(found.values())


def _at(
    limits: Limits, step: int, weights: Mapping[str, float], earlier: Mapping[str, float] | None
) -> Iterator[Breach]:
    for corpus, limit in limits.items():
        weight = weights.get(corpus, 0.0)
        if "min" in limit and weight < limit["min"] - TOLERANCE:
            yield Breach(corpus, "min", limit["min"], weight, step)
        if "max" in limit and weight > limit["max"] + TOLERANCE:
            yield Breach(corpus, "max", limit["max"], weight, step)
        if earlier is not None and "max_change" in limit:
            change = abs(weight - earlier.get(corpus, 0.0))
            if change > limit["max_change"] + TOLERANCE:
                yield Breach(corpus, "max_change", limit["max_change"], round(change, 9), step)


def _telling_steps(schedules: Sequence[Schedule], start: int) -> list[int]:
    """The steps from `start` on at which the weights of any of `schedules` become others, and `start` itself."""
    return sorted(
        {start, *(piece.start for schedule in schedules for piece in schedule.pieces() if piece.start > start)}
    )
