"""The ledger: the append-only list of a run's revisions, as an immutable value, and the rules for the next one.

A revision replaces everything from its effective step on and moves nothing below it. Who may append, and when, is
decided here and nowhere else: `propose` refuses a stale parent and a frozen step. Storage and transport belong to
`service`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from mixer.errors import FrozenStepError, LedgerError, ScheduleError, StaleParentError
from mixer.schedule import Phase, Schedule, parse_phases


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One edit. `phases` is its canonical content, {"phases": [...]}, the first starting at `effective_step`.

    `superseded` is the reason why the edit never came into force (the trainer had already passed its effective step
    while it was out of reach), or None. Such a revision stays in the ledger and changes nothing.
    """

    number: int
    parent: int
    effective_step: int
    schedule: Mapping[str, Any]
    author: str
    reason: str
    time: str
    superseded: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, obj: Mapping[str, Any]) -> "Revision":
        return cls(**obj)


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """A run's schedule with its history: the base schedule (revision 0) and the revisions 1, 2, … made to it."""

    base: Schedule
    revisions: tuple[Revision, ...] = ()

    @property
    def number(self) -> int:
        """The newest revision's number; 0 for the base alone."""
        return len(self.revisions)

    @property
    def in_force(self) -> int:
        """The newest revision in force, 0 for the base: what people see, and so the parent of the next."""
        return next((r.number for r in reversed(self.revisions) if r.superseded is None), 0)

    @cached_property
    def schedule(self) -> Schedule:
        """The schedule with every revision that is in force."""
        phases = list(self.base.phases)
        for revision in self.revisions:
            if revision.superseded is None:
                while phases and phases[-1].start >= revision.effective_step:
                    phases.pop()
                if phases:
                    phases[-1] = replace(phases[-1], end=revision.effective_step)
                phases += self._phases(revision.schedule, revision.effective_step)
        return replace(self.base, phases=tuple(phases))

    def propose(
        self,
        change: Mapping[str, Any],
        *,
        parent: int,
        effective_step: int,
        frontier: int,
        author: str,
        reason: str,
        time: str,
    ) -> "Ledger":
        """This ledger with one more revision.

        `change` is {"mixture": ..., "ramp"?: ...} or {"schedule": {"phases": [...]}}; it holds from `effective_step` to
        the end of the run. Raises StaleParentError if `parent` is not the revision in force, FrozenStepError if
        `effective_step` is below `frontier`, ScheduleError if the change itself is wrong.
        """
        if parent != self.in_force:
            raise StaleParentError(
                f"the revision was made against {parent}, but {self.in_force} is in force: look at it, try again",
                parent=parent,
                current=self.in_force,
            )
        if effective_step < frontier:
            raise FrozenStepError(
                f"step {effective_step} is frozen, the earliest step that may still change is {frontier}",
                step=effective_step,
                earliest=frontier,
            )
        if effective_step >= self.base.num_steps:
            raise ScheduleError.of(
                [f"effective step {effective_step} is past the run's {self.base.num_steps} steps @ $.effective_step"]
            )
        phases = self._parse(change, effective_step)
        revision = Revision(
            number=self.number + 1,
            parent=parent,
            effective_step=effective_step,
            schedule={"phases": [phase.to_dict() for phase in phases]},
            author=author,
            reason=reason,
            time=time,
        )
        return replace(self, revisions=(*self.revisions, revision))

    def extend(self, revisions: Iterable[Revision]) -> "Ledger":
        """This ledger with revisions that another copy of it already accepted; those it has are skipped.

        Raises LedgerError where a number is missing, or where a revision it has differs from the one given (but for
        being superseded, which is taken over).
        """
        merged = list(self.revisions)
        for revision in sorted(revisions, key=lambda revision: revision.number):
            if revision.number > len(merged) + 1:
                raise LedgerError(f"revision {revision.number} follows {len(merged)}: {len(merged) + 1} is missing")
            if revision.number == len(merged) + 1:
                merged.append(revision)
            elif replace(merged[revision.number - 1], superseded=revision.superseded) == revision:
                merged[revision.number - 1] = revision
            else:
                raise LedgerError(f"revision {revision.number} differs from the one this run knows under that number")
        return replace(self, revisions=tuple(merged))

    def supersede(self, numbers: Iterable[int], reason: str) -> "Ledger":
        """This ledger with the revisions `numbers` marked as never having come into force, because of `reason`."""
        marked = set(numbers)
        return replace(
            self,
            revisions=tuple(
                replace(r, superseded=reason) if r.number in marked and r.superseded is None else r
                for r in self.revisions
            ),
        )

    def since(self, number: int) -> tuple[Revision, ...]:
        """The revisions after `number`."""
        return self.revisions[number:]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` reads it back to an equal value."""
        return {
            "num_steps": self.base.num_steps,
            "global_batch_size": self.base.global_batch_size,
            "seq_len": self.base.seq_len,
            "schedule": self.base.to_dict(),
            "revisions": [revision.to_dict() for revision in self.revisions],
        }

    @classmethod
    def from_dict(cls, obj: Mapping[str, Any]) -> "Ledger":
        sizes = {name: obj[name] for name in ("num_steps", "global_batch_size", "seq_len")}
        base = Schedule.from_dict(obj["schedule"], **sizes)
        return cls(base=base, revisions=tuple(Revision.from_dict(revision) for revision in obj["revisions"]))

    def _phases(self, schedule: Mapping[str, Any], effective_step: int, place: str = "$") -> tuple[Phase, ...]:
        return parse_phases(schedule, self.base, first_step=effective_step, place=place)

    def _parse(self, change: Mapping[str, Any], effective_step: int) -> tuple[Phase, ...]:
        """The change as phases; problems are placed where the change, as written, has them."""
        if change.keys() == {"schedule"}:
            return self._phases(change["schedule"], effective_step, place="$.schedule")
        if "mixture" not in change or not change.keys() <= {"mixture", "ramp"}:
            raise ScheduleError.of(
                [f"a change is a 'mixture' with an optional 'ramp', or a 'schedule', found {sorted(change)} @ $"]
            )
        try:
            return self._phases({"phases": [{"start": effective_step, **change}]}, effective_step)
        except ScheduleError as error:
            raise ScheduleError.of([problem.replace("$.phases[0]", "$") for problem in error.problems]) from None
