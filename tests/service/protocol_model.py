"""All that can happen between a service and its trainers on small sizes, one state after the other.

What decides is the code that also decides in earnest: `service.claims` (take, check), `service.edits` (agree, settle,
propose), `trainer.position`, `mixer.Ledger`. What is modelled is everything around it: a service that keeps what it
committed; trainers of two names, each of two ranks, that train, report, save, crash and start again from whatever was
saved; a network in which requests wait, are lost, or arrive long after anybody waits for the answer.

A service that crashes, or an outage of any length, is requests and answers that are lost, and a trainer that goes on
without an answer: both can happen at every moment. What was not committed is not in the service's state. A trainer that
waits for its answer does nothing else, and what others do meanwhile they may as well do before or after; so to ask, to
decide and to hear is one move, and a request that is lost is none. What nobody waits for any more stays under way.

Ghosts say what was really done: `done` holds, for each step that was trained, the number of the revision whose weights
it was trained with. `python -m tests.service.protocol_model` prints what was explored.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from mixer import Corpus, FrozenStepError, Ledger, Revision, Schedule, StaleParentError
from service import claims, edits
from service.errors import ClaimedError, ClaimLostError, KnownRevisionError
from service.schemas import RevisionIn
from trainer.position import Position

NAMES = ("A", "B")
NUM_RANKS = 2
CORPORA = {name: Corpus(shard_sizes=[1000]) for name in ("base", "edited")}


class Edit(NamedTuple):
    """A revision: its number is its place. `gone`: superseded."""

    step: int
    parent: int
    gone: bool


Edits = tuple[Edit, ...]
Done = tuple[int, ...]
Trainers = tuple["Trainer", ...]


class Claim(NamedTuple):
    number: int
    trainer: str


class Service(NamedTuple):
    """What is committed. `done`: of the steps that accepted reports said were trained; the last of them said `told`."""

    edits: Edits
    frontier: int
    claim: Claim | None
    done: Done
    told: int


class Trainer(NamedTuple):
    """A process group. `edits` and `frontiers` are of each rank; `claim` 0: none yet."""

    name: str
    claim: int
    in_contact: bool
    step: int
    edits: tuple[Edits, ...]
    frontiers: tuple[int, ...]
    done: Done


class Saved(NamedTuple):
    """A checkpoint."""

    step: int
    edits: Edits
    frontier: int
    done: Done


class Claiming(NamedTuple):
    """A request for a claim."""

    trainer: str
    take_over: bool


class Report(NamedTuple):
    """A report; with the ghost of what was done until then."""

    claim: int
    step: int
    freeze_through: int
    known: int
    superseded: tuple[int, ...]
    decided_through: int
    done: Done


Request = Claiming | Report


class State(NamedTuple):
    service: Service
    trainers: tuple[Trainer, ...]  # those alive, sorted
    late: tuple[Request, ...]  # under way, and nobody waits for what comes of them; sorted
    saved: frozenset[Saved]
    num_edits: int  # that may still be made, and so on
    num_starts: int
    num_saves: int


class ViolationError(Exception):
    """An invariant does not hold; `trace` is what happened, in a shortest way there."""

    def __init__(self, what: str, trace: tuple[str, ...] = ()) -> None:
        super().__init__(what, trace)
        self.what = what
        self.trace = trace

    def __str__(self) -> str:
        return "\n".join([self.what, *self.trace])


INVARIANTS = {
    "ranks": "all ranks train a step with the same weights",
    "deed": "the record says of each step what the last accepted report was trained with",
    "replay": "a step that was trained twice had the same weights, or the revision it had is superseded",
    "handed out": "what a trainer may have handed out keeps its weights, and has those of the record once it reports",
    "frozen": "below the frontier weights change by superseding alone",
    "lost": "a revision stays for ever, in force or superseded, and what is in force follows what is in force",
    "answer": "an answer leaves the trainer with the service's whole ledger",
    "frontier": "frontiers never go back, and no trainer is told a higher one than is kept",
    "fence": "a report is answered under the newest claim alone, and a claim is taken over only by who says so",
    "contact": "a trainer that was answered once is refused for a lost claim alone",
}


def violated(name: str, what: str = "") -> ViolationError:
    return ViolationError(f"{name}: {INVARIANTS[name]}{what and f' ({what})'}")


@contextmanager
def saying(what: str) -> Iterator[None]:
    """Name what happens inside, should it be a violation."""
    try:
        yield
    except ViolationError as error:
        raise ViolationError(error.what, (*error.trace, what)) from None


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What decides; a mutation replaces one of these."""

    take: Callable[..., Mapping[str, Any]] = claims.take
    check: Callable[..., None] = claims.check
    agree: Callable[..., None] = edits.agree
    settle: Callable[..., edits.Settled] = edits.settle
    propose: Callable[..., Ledger] = edits.propose
    report: Callable[[Position, int], dict[str, Any]] = Position.report
    answer: Callable[[Ledger, int], tuple[Revision, ...]] = Ledger.since
    ranks_hear: Callable[[], tuple[bool, ...]] = lambda: (True,) * NUM_RANKS


@dataclass(eq=False, kw_only=True)
class Model:
    """The sizes, and the rules. `num_alive`: trainers at a time; `num_late`: late requests at a time."""

    num_steps: int = 3
    lead: int = 1
    num_edits: int = 2
    num_starts: int = 2
    num_saves: int = 1
    num_alive: int = 2
    num_late: int = 1
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self.weights, self.proposed, self.settled = cache(self._weights), cache(self._proposed), cache(self._settled)
        self.agrees, self.claimed, self.reported = cache(self._agrees), cache(self._claimed), cache(self._reported)
        self.answered, self.followed = cache(self._answered), cache(self._followed)
        self.holds, self.numbered = cache(self._holds), cache(self._numbered)

    def first(self) -> State:
        service = Service(edits=(), frontier=0, claim=None, done=(), told=0)
        return State(service, (), (), frozenset(), self.num_edits, self.num_starts, self.num_saves)

    # -- what may come next

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        """What may happen, as (words, the state after it)."""
        yield from self._edits(state)
        yield from self._starts(state)
        for index, trainer in enumerate(state.trainers):
            others = (*state.trainers[:index], *state.trainers[index + 1 :])
            yield from self._goes_on(state, trainer, others)
            yield from self._asks(state, trainer, others)
        for index, request in enumerate(state.late):
            rest = state._replace(late=(*state.late[:index], *state.late[index + 1 :]))
            yield f"a late {_kind(request)} is lost", rest
            with saying(f"a late {_kind(request)} arrives"):
                service, _ = self._decide(state.service, request)
            if service is not state.service:
                yield f"a late {_kind(request)} arrives", rest._replace(service=service)

    def _edits(self, state: State) -> Iterator[tuple[str, State]]:
        service = state.service
        for step in range(self.num_steps) if state.num_edits else ():
            longer = self.proposed(service.edits, step, service.frontier)
            if longer is not None:
                after = service._replace(edits=longer)
                label = f"edit {len(longer)}, from step {step} on, is accepted"
                yield label, state._replace(service=after, num_edits=state.num_edits - 1)

    def _starts(self, state: State) -> Iterator[tuple[str, State]]:
        if not state.num_starts or len(state.trainers) == self.num_alive:
            return
        fresh = Saved(step=0, edits=(), frontier=0, done=())
        for name in NAMES if state.num_starts < self.num_starts else NAMES[:1]:
            for saved in (fresh, *sorted(state.saved)):
                ranks = (saved.edits,) * NUM_RANKS, (saved.frontier,) * NUM_RANKS
                trainer = Trainer(name, 0, False, saved.step, *ranks, saved.done)
                after = state._replace(num_starts=state.num_starts - 1)
                yield f"{name} starts at step {saved.step}", _alive(after, *state.trainers, trainer)

    def _goes_on(self, state: State, trainer: Trainer, others: Trainers) -> Iterator[tuple[str, State]]:
        """What a trainer does by itself."""
        who, step = _name(trainer), trainer.step
        yield f"{who} crashes", _alive(state, *others)
        if step < min(trainer.frontiers):
            weights = {self.weights(known)[step] for known in trainer.edits}
            if len(weights) > 1:
                with saying(f"{who} trains step {step}"):
                    raise violated("ranks", f"those of revisions {sorted(weights)}")
            after = trainer._replace(step=step + 1, done=(*trainer.done, *weights))
            yield f"{who} trains step {step} with revision {after.done[-1]}", _alive(state, *others, after)
        wanted = min(step + self.lead, self.num_steps)
        if wanted > min(trainer.frontiers):
            alone = trainer._replace(frontiers=tuple(max(frontier, wanted) for frontier in trainer.frontiers))
            yield f"{who} goes on alone, below step {wanted}", _alive(state, *others, alone)
        saved = Saved(step, trainer.edits[0], trainer.frontiers[0], trainer.done)
        if state.num_saves and step and saved not in state.saved:
            after = state._replace(saved=state.saved | {saved}, num_saves=state.num_saves - 1)
            yield f"{who} saves step {step}", after

    def _asks(self, state: State, trainer: Trainer, others: Trainers) -> Iterator[tuple[str, State]]:
        """What becomes of what a trainer asks: answered, decided but the answer lost, or still under way."""
        who = _name(trainer)
        for request in self._requests(trainer):
            if len(state.late) < self.num_late and request not in state.late:
                label = f"{who} waits no longer, its {_kind(request)} is under way"
                yield label, state._replace(late=tuple(sorted((*state.late, request), key=repr)))
            with saying(f"the {_kind(request)} of {who} is taken"):
                service, answer = self._decide(state.service, request)
            after = state._replace(service=service)
            if service is not state.service:
                yield f"the {_kind(request)} of {who} is taken, the answer lost", after
            if isinstance(answer, str):
                if answer != "claim-lost" and trainer.in_contact:
                    with saying(f"{who} is refused ({answer})"):
                        raise violated("contact")
                yield f"{who} is refused ({answer}) and ends", _alive(after, *others)
            else:
                with saying(f"the {_kind(request)} of {who} is taken and answered"):
                    label, heard = self._hears(trainer, service, answer)
                yield f"{who} {label}", _alive(after, *others, heard)

    def _requests(self, trainer: Trainer) -> tuple[Request, ...]:
        if not trainer.claim:
            return Claiming(trainer.name, False), Claiming(trainer.name, True)
        report = self.reported(trainer.edits[0], trainer.step, trainer.frontiers[0])
        return (Report(trainer.claim, *report, trainer.done),)

    def _hears(self, trainer: Trainer, service: Service, answer: Any) -> tuple[str, Trainer]:
        if isinstance(answer, int):
            return f"claims the run: claim {answer}", trainer._replace(claim=answer)
        wanted, hear = min(trainer.step + self.lead, self.num_steps), self.rules.ranks_hear()
        edits = tuple(
            self.followed(mine, answer, len(service.edits)) if heard else mine
            for mine, heard in zip(trainer.edits, hear, strict=True)
        )
        frontiers = tuple(
            max(mine, service.frontier if heard else wanted)
            for mine, heard in zip(trainer.frontiers, hear, strict=True)
        )
        for was, now, frontier in zip(trainer.edits, edits, trainer.frontiers, strict=True):
            if self.weights(was)[:frontier] != self.weights(now)[:frontier]:
                raise violated("handed out", f"below step {frontier}: {self.weights(was)} became {self.weights(now)}")
        if edits[0] != service.edits:
            raise violated("answer", f"it has {edits[0]}, the service {service.edits}")
        label = f"reports, and hears of {len(answer)} revisions and frontier {service.frontier}"
        return label, trainer._replace(edits=edits, frontiers=frontiers, in_contact=True)

    def normal(self, state: State) -> State:
        """The same as far as it can still matter, so that fewer states are gone through.

        A claim that was lost is lost for ever: a late report under it changes nothing any more, and neither does a
        trainer that has it, unless somebody may still start from what it saves. Claims are numbered 1, 2, … in order.
        """
        claim, last = state.service.claim, not state.num_starts
        claims = tuple([trainer.claim for trainer in state.trainers])
        reports = tuple([request.claim for request in state.late if isinstance(request, Report)])
        gone, new = self.numbered(claim, claims, reports, last)
        if new is None and not (last and (state.saved or state.num_saves)):
            return state
        new = new or {number: number for number in (0, *claims, *reports, claim.number if claim else 0)}
        late: list[Request] = []
        for request in state.late:
            if isinstance(request, Claiming):
                late.append(request)
            elif request.claim not in gone:
                late.append(request._replace(claim=new[request.claim]))
        return State(
            state.service._replace(claim=claim and claim._replace(number=new[claim.number])),
            tuple(
                sorted(
                    [one._replace(claim=new[one.claim]) for one in state.trainers if not last or one.claim not in gone]
                )
            ),
            tuple(sorted(late, key=repr)),
            frozenset() if last else state.saved,
            state.num_edits,
            state.num_starts,
            0 if last else state.num_saves,
        )

    # -- what the service does

    def _decide(self, service: Service, request: Request) -> tuple[Service, Any]:
        """The service after it, and the answer: the number of a claim, revisions, or the name of a refusal."""
        if isinstance(request, Claiming):
            given, last = self.claimed(service.claim, *request), service.claim
            if given is None:
                return service, "claimed"
            other = last is not None and last.trainer != request.trainer
            if last is not None and (given.number <= last.number or (other and not request.take_over)):
                raise violated("fence", f"{given} after {last}")
            return service._replace(claim=given), given.number
        if not self.holds(service.claim, request.claim):
            return service, "claim-lost"
        if service.claim is None or request.claim != service.claim.number:
            raise violated("fence", f"a report under claim {request.claim}, the newest is {service.claim}")
        if not self.agrees(service.edits, request.known, request.superseded):
            return service, "revision-not-in-force"
        edits, frontier = self.settled(service.edits, service.frontier, *request[2:4], request.decided_through)
        done = (*request.done, *service.done[len(request.done) :])
        self._check_settled(service, edits, done, request)
        after = Service(edits, frontier, service.claim, done, len(request.done))
        return service if after == service else after, self.answered(edits, request.known)

    # -- invariants

    def check(self, state: State) -> None:
        """Raise ViolationError where a state is none that may be."""
        service = state.service
        recorded = self.weights(service.edits)
        if service.done[: service.told] != recorded[: service.told]:
            raise violated("deed", f"trained with {service.done[: service.told]}, the record says {recorded}")
        for step in range(service.told, len(service.done)):
            was = service.done[step]
            if was != recorded[step] and not (was and service.edits[was - 1].gone):
                raise violated(
                    "replay", f"step {step} was trained with revision {was}, the record says {recorded[step]}"
                )
        for edit in service.edits:
            if not edit.gone and edit.parent and service.edits[edit.parent - 1].gone:
                raise violated("lost", f"revision {edit.parent} is superseded, and one made against it is not")
        claims = [trainer.claim for trainer in state.trainers if trainer.claim]
        if len(claims) > len(set(claims)):
            raise violated("fence", "two trainers have the same claim")

    def check_move(self, before: State, after: State) -> None:
        """Raise ViolationError where a step from one state to another is none that may be."""
        old, new = before.service, after.service
        if old is new:
            return
        if new.frontier < old.frontier:
            raise violated("frontier", f"from {old.frontier} to {new.frontier}")
        if len(new.edits) < len(old.edits) or any(
            was[:2] != now[:2] or was.gone > now.gone for was, now in zip(old.edits, new.edits, strict=False)
        ):
            raise violated("lost", f"{old.edits} became {new.edits}")
        was, now = self.weights(old.edits), self.weights(new.edits)
        for step in range(old.frontier):
            if was[step] != now[step] and not (was[step] and new.edits[was[step] - 1].gone):
                raise violated("frozen", f"step {step} had revision {was[step]}, has {now[step]}")

    def _check_settled(self, service: Service, after: Edits, done: Done, report: Report) -> None:
        end, recorded = report.decided_through, self.weights(after)
        known = tuple(edit._replace(gone=n + 1 in report.superseded) for n, edit in enumerate(after[: report.known]))
        if self.weights(known)[:end] != recorded[:end]:
            raise violated("handed out", f"below step {end}, with {self.weights(known)}, the record says {recorded}")
        for step, (was, now) in enumerate(zip(service.done, done, strict=False)):
            if was != now and not (was and after[was - 1].gone):
                raise violated("replay", f"step {step} was trained with revision {was}, then with {now}")

    # -- the real code, remembered by its arguments

    def _ledger(self, edits: Edits) -> Ledger:
        sizes = {"num_steps": self.num_steps, "global_batch_size": 10, "seq_len": 2}
        base = Schedule.from_dict({"phases": [{"start": 0, "mixture": {"base": 1.0}}]}, **sizes)
        return Ledger(base=base, revisions=tuple(_revision(number + 1, edit) for number, edit in enumerate(edits)))

    def _weights(self, edits: Edits) -> Done:
        """Step → the number of the revision whose weights it has."""
        schedule = self._ledger(edits).schedule
        return tuple(round(10 * schedule.weights(step).get("edited", 0)) for step in range(self.num_steps))

    def _proposed(self, edits: Edits, step: int, frontier: int) -> Edits | None:
        ledger = self._ledger(edits)
        number, parent = ledger.number + 1, ledger.in_force
        body = RevisionIn(effective_step=step, mixture=_mixture(number), reason="r", author="a")
        try:
            longer = self.rules.propose(ledger, body, parent=parent, frontier=frontier, corpora=CORPORA, time="t")
        except FrozenStepError:
            return None
        if longer.revisions[-1] != _revision(number, Edit(step, parent, False)):
            raise AssertionError(longer.revisions[-1])
        if parent:
            try:
                self.rules.propose(ledger, body, parent=parent - 1, frontier=frontier, corpora=CORPORA, time="t")
            except StaleParentError:
                pass
            else:
                raise violated("lost", "an edit of a stale parent was accepted")
        return edits_of(longer.revisions)

    def _settled(self, edits: Edits, frontier: int, freeze: int, known: int, decided: int) -> tuple[Edits, int]:
        settled = self.rules.settle(
            self._ledger(edits).revisions, frontier=frontier, num_steps=self.num_steps,
            known_revision=known, decided_through=decided, freeze_through=freeze,
        )  # fmt: skip
        if not all(settled.superseded.values()):
            raise violated("lost", "superseded without a reason")
        gone = settled.superseded
        return tuple(e._replace(gone=e.gone or n + 1 in gone) for n, e in enumerate(edits)), settled.frontier

    def _holds(self, claim: Claim | None, number: int) -> bool:
        try:
            self.rules.check(_as_dict(claim), number)
        except ClaimLostError:
            return False
        return True

    def _numbered(
        self, claim: Claim | None, claims: tuple[int, ...], reports: tuple[int, ...], last: bool
    ) -> tuple[set[int], dict[int, int] | None]:
        """(claims that are lost, old number → new); None in place of these where all stay as they are."""
        gone = {number for number in (*claims, *reports) if number and not self.holds(claim, number)}
        kept = {0, *(number for number in claims if not last or number not in gone)}
        kept |= {number for number in reports if number not in gone} | ({claim.number} if claim else set())
        new = {number: index for index, number in enumerate(sorted(kept))}
        same = kept >= {*claims} and gone.isdisjoint(reports) and all(old == now for old, now in new.items())
        return gone, None if same else new

    def _agrees(self, edits: Edits, known: int, superseded: tuple[int, ...]) -> bool:
        try:
            self.rules.agree(self._ledger(edits), known_revision=known, superseded=superseded)
        except KnownRevisionError:
            return False
        return True

    def _claimed(self, last: Claim | None, name: str, take_over: bool) -> Claim | None:
        try:
            given = self.rules.take(_as_dict(last), trainer=name, step=0, take_over=take_over, time="t")
        except ClaimedError:
            return None
        return Claim(given["claim"], given["trainer"])

    def _reported(self, edits: Edits, step: int, frontier: int) -> tuple[Any, ...]:
        position = Position(ledger=self._ledger(edits), step=step, frontier=frontier)
        report = self.rules.report(position, self.lead)
        report["superseded"] = tuple(report["superseded"])
        order = ("step", "freeze_through", "known_revision", "superseded", "decided_through")
        return tuple(report[name] for name in order)

    def _answered(self, edits: Edits, known: int) -> Edits:
        return edits_of(self.rules.answer(self._ledger(edits), known))

    def _followed(self, mine: Edits, revisions: Edits, newest: int) -> Edits:
        numbers = range(newest - len(revisions) + 1, newest + 1)
        heard = [_revision(number, edit) for number, edit in zip(numbers, revisions, strict=True)]
        return edits_of(self._ledger(mine).extend(heard).revisions)


def _mixture(number: int) -> dict[str, Any]:
    return {"base": 1 - number / 10, "edited": number / 10}


@cache
def _revision(number: int, edit: Edit) -> Revision:
    base = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": {"base": 1.0}}]}, num_steps=100, global_batch_size=10, seq_len=2
    )
    longer = Ledger(base=base).propose(
        {"mixture": _mixture(number)}, parent=0, effective_step=edit.step, frontier=0, author="a", reason="r", time="t"
    )
    superseded = "passed" if edit.gone else None
    values = {**longer.revisions[0].to_dict(), "number": number, "parent": edit.parent, "superseded": superseded}
    return Revision.from_dict(values)


def edits_of(revisions: tuple[Revision, ...]) -> Edits:
    return tuple(Edit(each.effective_step, each.parent, each.superseded is not None) for each in revisions)


def _as_dict(claim: Claim | None) -> dict[str, Any] | None:
    return claim and {"claim": claim.number, "trainer": claim.trainer, "step": 0, "since": "t"}


def _kind(request: Request) -> str:
    return "claim" if isinstance(request, Claiming) else "report"


def _name(trainer: Trainer) -> str:
    return f"{trainer.name} ({f'claim {trainer.claim}' if trainer.claim else 'no claim yet'})"


def _alive(state: State, *trainers: Trainer) -> State:
    return state._replace(trainers=tuple(sorted(trainers)))


# -- going through all of it


class Explored(NamedTuple):
    num_states: int
    num_moves: int
    depth: int
    seconds: float


def explore(model: Model, *, most: int | None = None) -> Explored:
    """Every state that can be reached, nearest first. Raises ViolationError with a shortest trace to a wrong one.

    `most`: stop after so many states.
    """
    begun, first = time.monotonic(), model.first()
    came_from: dict[State, tuple[State, str] | None] = {first: None}
    depth, num_moves, layer = 0, 0, [first]
    while layer and (most is None or len(came_from) < most):
        following: list[State] = []
        for state in layer:
            try:
                for label, move in model.moves(state):
                    num_moves += 1
                    after = model.normal(move)
                    with saying(label):
                        model.check_move(state, move)
                        if after not in came_from:
                            model.check(after)
                            came_from[after] = (state, label)
                            following.append(after)
            except ViolationError as error:
                raise ViolationError(error.what, (*_trace(came_from, state), *error.trace)) from None
        depth, layer = depth + bool(following), following
    return Explored(len(came_from), num_moves, depth, time.monotonic() - begun)


def _trace(came_from: Mapping[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    labels = []
    while (step := came_from[state]) is not None:
        state, label = step
        labels.append(label)
    return tuple(reversed(labels))


if __name__ == "__main__":
    sizes = {name: int(value) for name, _, value in (argument.partition("=") for argument in sys.argv[1:])}
    found = explore(Model(**sizes))
    print(f"{found.num_states:,} states, {found.num_moves:,} moves, depth {found.depth}, {found.seconds:.0f} s")
    for name, text in INVARIANTS.items():
        print(f"  {name:10} {text}")
