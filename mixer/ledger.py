"""The ledger: the append-only list of a run's revisions, as an immutable value, and the rules for the next one.

A revision may say three things, from its effective step on: another schedule, which then replaces everything that was
planned there; another batch size, which replaces those planned there; and changes of the corpora (`mixer.changes`),
which add to those made before. It moves nothing below its effective step. Who may append, and when, is decided here and
nowhere else: `propose` refuses a stale parent and a frozen step. Storage and transport belong to `service`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

from mixer.batching import parse_size
from mixer.building import BEGINNING, Past
from mixer.changes import Change, parse_changes
from mixer.context import PLAIN, Context
from mixer.errors import FrozenStepError, LedgerError, ScheduleError, StaleParentError
from mixer.kept import Kept
from mixer.schedule import Phase, Schedule, parse_phases


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One edit, in canonical form.

    `schedule` is {"phases": [...]}, the first starting at `effective_step`, or None where the weights stay as they
    are. `corpora` is corpus name → {verb: arguments} of what changes there. `global_batch_size` is that of every step
    from `effective_step` on, or None where batch sizes stay as they are. `superseded` is the reason why the edit
    never came into force (the trainer had already passed its effective step while it was out of reach), or None. Such a
    revision stays in the ledger and changes nothing.
    """

    number: int
    parent: int
    effective_step: int
    schedule: Mapping[str, Any] | None
    author: str
    reason: str
    time: str
    corpora: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    global_batch_size: int | None = None
    superseded: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, obj: Mapping[str, Any]) -> "Revision":
        return cls(**obj)

    @property
    def changes(self) -> tuple[Change, ...]:
        """What it does to the corpora."""
        return tuple(
            Change(step=self.effective_step, name=name, verb=verb, arguments=arguments)
            for name, change in self.corpora.items()
            for verb, arguments in change.items()
        )


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """A run's schedule with its history: the base schedule (revision 0) and the revisions 1, 2, … made to it.

    With `kept`, the first of them are known by what they left only.
    """

    base: Schedule
    revisions: tuple[Revision, ...] = ()
    kept: Kept | None = None

    @property
    def number(self) -> int:
        """The newest revision's number; 0 for the base alone."""
        return self._num_kept + len(self.revisions)

    @property
    def in_force(self) -> int:
        """The newest revision in force, 0 for the base: what people see, and so the parent of the next."""
        before = self.kept.in_force if self.kept else 0
        return next((r.number for r in reversed(self.revisions) if r.superseded is None), before)

    @property
    def superseded(self) -> tuple[int, ...]:
        """The numbers of the revisions that are not in force."""
        before = self.kept.superseded if self.kept else ()
        return (*before, *(r.number for r in self.revisions if r.superseded is not None))

    @property
    def past(self) -> Past:
        """What a plan of this ledger begins with."""
        return self.kept.past if self.kept else BEGINNING

    @cached_property
    def schedule(self) -> Schedule:
        """The schedule with every revision that is in force."""
        schedule = self.kept.schedule if self.kept else self.base
        phases, changes = list(schedule.phases), list(schedule.changes)
        for revision in self.revisions:
            if revision.superseded is not None:
                continue
            changes += revision.changes
            if revision.global_batch_size is not None:
                schedule = schedule.with_batch_size(revision.effective_step, revision.global_batch_size)
            if revision.schedule is not None:
                while phases and phases[-1].start >= revision.effective_step:
                    phases.pop()
                if phases:
                    phases[-1] = replace(phases[-1], end=revision.effective_step)
                phases += parse_phases(revision.schedule, self.base, first_step=revision.effective_step)
        changes.sort(key=lambda change: change.step)  # then by revision: it is stable
        return replace(schedule, phases=tuple(phases), changes=tuple(changes))

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

        `change` is {"mixture": ..., "ramp"?: ...} or {"schedule": {"phases": [...]}}, which holds from `effective_step`
        to the end of the run; with {"corpora": {name: {verb: arguments}}} or {"global_batch_size": samples} or both, or
        these alone. Whether changes of corpora fit is for the plan to say. Raises StaleParentError if `parent` is not
        the revision in force, FrozenStepError if `effective_step` is below `frontier`, ScheduleError if the change
        itself is wrong.
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
        phases, corpora, size = self._parse(change, effective_step)
        revision = Revision(
            number=self.number + 1,
            parent=parent,
            effective_step=effective_step,
            schedule={"phases": [phase.to_dict() for phase in phases]} if phases else None,
            corpora=corpora,
            global_batch_size=size,
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
        merged, kept = list(self.revisions), self._num_kept
        for revision in sorted(revisions, key=lambda revision: revision.number):
            index = revision.number - kept - 1
            if index > len(merged):
                newest = kept + len(merged)
                raise LedgerError(f"revision {revision.number} follows {newest}: {newest + 1} is missing")
            if index == len(merged):
                merged.append(revision)
            elif index >= 0 and replace(merged[index], superseded=revision.superseded) == revision:
                merged[index] = revision
            elif index >= 0:
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
        """The revisions after `number`, of those that are not merely kept."""
        return self.revisions[max(number - self._num_kept, 0) :]

    def keep(self, past: Past) -> Kept:
        """What must be kept of all its revisions for a plan that answers for the steps from `past.step` on, the same.

        `past` is `Plan.past` of this ledger's plan.
        """
        return Kept(
            number=self.number,
            in_force=self.in_force,
            superseded=self.superseded,
            schedule=self.schedule.kept_from(past.step),
            past=past,
            history=self.history(past.step),
        )

    def history(self, end: int) -> str:
        """A hash of all that decided the steps below `end`: equal for ledgers that ask for the same there.

        Weights, later batch sizes, contexts and changes of the corpora, not how phases and revisions spell them; `end`
        is not below `past.step`.
        """
        start, digest = self.past.step, self.kept.history if self.kept else ""
        events: list[tuple[int, int, Any]] = [
            (change.step, 0, [change.name, change.verb, change.arguments])
            for change in (*(change for change, _ in self.past.changes), *self.schedule.changes)
            if start <= change.step < end
        ]
        events += [(row.start, 2, row.size) for row in self.schedule.batch_sizes if start <= row.start < end]
        last = Context(self.schedule.seq_len, PLAIN)
        for phase, context in zip(self.schedule.phases, self.schedule.contexts, strict=True):
            if context != last and start <= phase.start < end:
                events.append((phase.start, 3, [context.seq_len, context.rope.to_dict()]))
            last = context
        before: Mapping[str, int] = self.schedule.weights_ppb(start - 1) if start else {}
        for piece in self.schedule.pieces():
            if start < piece.end and piece.start < end:
                if piece.mixture != {name: weight for name, weight in before.items() if weight}:
                    events.append((max(piece.start, start), 1, sorted(piece.mixture.items())))
                before = piece.mixture
        for event in sorted(events, key=lambda event: event[:2]):
            digest = sha256((digest + json.dumps(event, sort_keys=True)).encode()).hexdigest()[:32]
        return digest

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` reads it back to an equal value. Not for a ledger of which only a part was kept."""
        assert self.kept is None
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

    @property
    def _num_kept(self) -> int:
        return self.kept.number if self.kept else 0

    def _parse(
        self, change: Mapping[str, Any], effective_step: int
    ) -> tuple[tuple[Phase, ...], dict[str, dict[str, Any]], int | None]:
        """The change as phases (none: the weights stay), corpora and batch size (None: it stays).

        Problems are placed as the change is written.
        """
        problems: list[str] = []
        corpora = parse_changes(change["corpora"], "$.corpora", problems) if "corpora" in change else {}
        size, run = None, self.schedule
        if "global_batch_size" in change:
            size = parse_size(change["global_batch_size"], "$.global_batch_size", problems)
            run = run.with_batch_size(effective_step, size) if size else run
        phases: tuple[Phase, ...] = ()
        weights = {key: value for key, value in change.items() if key not in ("corpora", "global_batch_size")}
        if weights or len(change) == len(weights):
            try:
                phases = _parse_weights(weights, run, effective_step)
            except ScheduleError as error:
                problems += error.problems
        if problems:
            raise ScheduleError.of(problems)
        return phases, corpora, size


def _parse_weights(change: Mapping[str, Any], run: Schedule, effective_step: int) -> tuple[Phase, ...]:
    """The phases of a change; times in tokens are reached with the batch sizes of `run`."""
    if change.keys() == {"schedule"}:
        return parse_phases(change["schedule"], run, first_step=effective_step, place="$.schedule")
    if "mixture" not in change or not change.keys() <= {"mixture", "ramp"}:
        raise ScheduleError.of(
            [
                "a change is a 'mixture' with an optional 'ramp', or a 'schedule'; 'corpora' and 'global_batch_size' "
                f"stand beside these or alone; found {sorted(change)} @ $"
            ]
        )
    planned = next((phase for phase in run.phases if phase.start == effective_step), None)
    own = planned.own_context() if planned else {}  # a mixture leaves the context as it is planned at its step
    try:
        return parse_phases({"phases": [{"start": effective_step, **change, **own}]}, run, first_step=effective_step)
    except ScheduleError as error:
        raise ScheduleError.of([problem.replace("$.phases[0]", "$") for problem in error.problems]) from None
