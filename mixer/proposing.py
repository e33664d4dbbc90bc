"""Dynamic mixing: an algorithm proposes weights, guard rails limit them, the ledger keeps what becomes of it.

    training ──Observation──▶ Proposer ──Proposal──▶ Rails ──Edit──▶ Ledger ──▶ plan ──▶ training

The ledger decides the order of samples, never the algorithm: a revision holds weights in parts per 10^9, so a run
repeats from its ledger alone, without the algorithm and on any machine, whatever floating point led to the weights.
A proposer is a pure function of its settings and a JSON-able state; kept in a checkpoint, a resumed run proposes what
the uninterrupted one would have. `mixer.proposers` has two. Standard library only.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol

from mixer.errors import ProposingError
from mixer.ledger import Ledger
from mixer.rails import Rails, parts
from mixer.schedule import Schedule
from mixer.weights import UNIT, Mixture, apportion

State = dict[str, Any]
"""What a proposer remembers: JSON-able, and replaced, never changed in place."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What training reports.

    Args:
        step: steps finished, which is the next step to train.
        losses: corpus → mean loss since the observation before, in nats per token. A corpus of which nothing was read
            may be left out; what is not finite is ignored.
        samples: corpus → samples drawn in all steps below `step`, as `Plan.drawn_before` has them.
    """

    step: int
    losses: Mapping[str, float]
    samples: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What an algorithm wishes: corpus → weight (any scale, for each corpus it was asked about), and why."""

    weights: Mapping[str, float]
    reason: str


class Proposer(Protocol):
    """An algorithm. Its methods change nothing; `mixture` is corpus → share, of the corpora in use (above 0) only."""

    @property
    def name(self) -> str:
        """The author of its revisions."""

    def start(self) -> State:
        """The state before anything was observed."""

    def observe(self, state: State, observation: Observation, mixture: Mapping[str, float]) -> State:
        """The state after `observation`, under `mixture`."""

    def propose(self, state: State, mixture: Mapping[str, float]) -> Proposal | None:
        """The mixture to follow `mixture`, or None for no opinion yet."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A revision not yet made: what `Ledger.propose`, or a request to the service, is to be given."""

    change: Mapping[str, Any]
    parent: int
    effective_step: int
    author: str
    reason: str


class Dynamic:
    """One run's dynamic mixing: feeds every observation to `proposer` and asks it each `every` steps.

    Args:
        proposer: the algorithm.
        rails: what it may do.
        every: steps between two askings, at least.
    """

    def __init__(self, proposer: Proposer, rails: Rails, *, every: int) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ProposingError.of([f"every must be a whole number of steps, at least 1, found {every!r}"])
        self.proposer, self.rails, self.every = proposer, rails, every
        self._memory = proposer.start()
        self._seen = self._asked = 0

    def consider(self, ledger: Ledger, observation: Observation, *, frontier: int, time: str) -> Ledger:
        """`ledger`, with one more revision if the algorithm has a proposal that the rails let through.

        The revision takes effect at the frontier (or the observation's step, if that is later). An observation of a
        step that was seen before is ignored: a resumed trainer reports some steps again. Raises ProposingError if the
        proposal is no mixture or the rails cannot be kept.
        """
        edit = self.decide(ledger, observation, frontier=frontier)
        if edit is None:
            return ledger
        return ledger.propose(
            edit.change,
            parent=edit.parent,
            effective_step=edit.effective_step,
            frontier=frontier,
            author=edit.author,
            reason=edit.reason,
            time=time,
        )

    def decide(self, ledger: Ledger, observation: Observation, *, frontier: int) -> Edit | None:
        """As `consider`, but gives the edit to whoever may write it: with a live schedule, that is the service."""
        step = max(frontier, observation.step)
        if observation.step <= self._seen or step >= ledger.base.num_steps:
            return None
        schedule = ledger.schedule
        old = {name: weight for name, weight in schedule.weights_ppb(step).items() if weight}
        shares = {name: weight / UNIT for name, weight in sorted(old.items())}
        self._memory = self.proposer.observe(self._memory, observation, shares)
        self._seen = observation.step
        if observation.step - self._asked < self.every:
            return None
        self._asked = observation.step
        if self._must_wait(schedule, step) or not self.rails.movable(old):
            return None
        proposal = self.proposer.propose(self._memory, shares)
        if proposal is None:
            return None
        wish = _as_mixture(proposal, old, author=self.proposer.name)
        new = self.rails.limit(wish, old)
        if not self._worth_it(old, new):
            return None
        return Edit(
            change={"schedule": {"phases": self._phases(schedule, step, new)}},
            parent=ledger.in_force,
            effective_step=step,
            author=self.proposer.name,
            reason=self._reason(proposal, wish, old, new),
        )

    def state(self) -> State:
        """What a checkpoint must keep, JSON-able. Reading it changes nothing."""
        return {"proposer": self.proposer.name, "seen": self._seen, "asked": self._asked, "memory": self._memory}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken. Raises ProposingError if that was another algorithm's."""
        if state["proposer"] != self.proposer.name:
            raise ProposingError.of(
                [f"the state is one of '{state['proposer']}', the proposer is '{self.proposer.name}': start without it"]
            )
        self._seen, self._asked, self._memory = state["seen"], state["asked"], state["memory"]

    def _must_wait(self, schedule: Schedule, step: int) -> bool:
        """Whether the last switchpoint is too near (one at this very step is never replaced), or a ramp still runs."""
        index = bisect_right(schedule.phases, step, key=lambda phase: phase.start) - 1
        phase = schedule.phases[index]
        return step - phase.start < max(self.rails.cool_down, phase.ramp.length if phase.ramp else 1)

    def _worth_it(self, old: Mixture, new: Mixture) -> bool:
        return max(abs(new[name] - old[name]) for name in old) >= max(parts(self.rails.min_change), 1)

    def _phases(self, schedule: Schedule, step: int, new: Mixture) -> list[dict[str, Any]]:
        """The new mixture up to the next planned switchpoint; what was planned from there on stays planned."""
        planned = [phase for phase in schedule.phases if phase.start > step]
        end = planned[0].start if planned else schedule.num_steps
        (now,) = (phase for phase in schedule.phases if phase.start <= step < phase.end)
        edited = replace(now, start=step, end=end, mixture=new, ramp=self.rails.ramp)
        return [phase.to_dict() for phase in (edited, *planned)]

    def _reason(self, proposal: Proposal, wish: Mixture, old: Mixture, new: Mixture) -> str:
        reason = f"{self.proposer.name}: {proposal.reason}"
        held = self.rails.holding(wish, old, new)
        if held:
            wished = listed({name: weight / UNIT for name, weight in wish.items()})
            limits = ", ".join(f"{rail} ({', '.join(names)})" for rail, names in sorted(held.items()))
            reason += f"; wished {wished}; limited by {limits}"
        return reason


def listed(values: Mapping[str, float], *, most: int = 12) -> str:
    """Values by corpus for people, the largest first: "code 0.31, c4 0.22"."""
    order = sorted(values, key=lambda name: (-values[name], name))
    rest = f" and {len(order) - most} more" if len(order) > most else ""
    return ", ".join(f"{name} {values[name]:.3g}" for name in order[:most]) + rest


def share_out(scores: Mapping[str, float], base: Mapping[str, float]) -> dict[str, float]:
    """`base`, as shares of 1, with what the corpora that have a score own of it dealt out in proportion to the scores.

    A corpus without a score keeps its share; so do all if no score is above 0.
    """
    total, whole = sum(base.values()), sum(scores.values())
    dealt = sum(base[name] for name in scores)
    if not whole > 0:
        return {name: share / total for name, share in base.items()}
    return {name: (scores[name] / whole * dealt if name in scores else base[name]) / total for name in base}


def _as_mixture(proposal: Proposal, old: Mixture, *, author: str) -> dict[str, int]:
    """The wish in parts per 10^9. Raises ProposingError unless it has one weight, 0 or more, for each corpus in use."""
    weights = proposal.weights
    problems = [f"'{author}' proposed nothing for corpus '{name}'" for name in sorted(old.keys() - weights.keys())]
    problems += [f"'{author}' proposed corpus '{n}', which is not in use" for n in sorted(weights.keys() - old.keys())]
    problems += [
        f"'{author}' proposed the weight {weight!r} for corpus '{name}', it must be finite and not negative"
        for name, weight in sorted(weights.items())
        if not (math.isfinite(weight) and weight >= 0)
    ]
    if not problems and not sum(weights.values()) > 0:
        problems = [f"'{author}' proposed no weight above 0"]
    if problems:
        raise ProposingError.of(problems)
    return apportion({name: Fraction(weight) for name, weight in weights.items()}, UNIT)
