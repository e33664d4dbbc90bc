"""The protocol, gone through in every order on small sizes; and each rule, when it is broken, found with a trace."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mixer import Ledger, Revision
from service import claims, edits
from service.errors import ClaimedError, ClaimLostError, KnownRevisionError
from service.runs import Runs
from service.schemas import ClaimIn, ProgressIn, RevisionIn, RunIn
from service.store import Store
from tests.service.protocol_model import (
    CORPORA,
    INVARIANTS,
    NUM_RANKS,
    Claim,
    Claiming,
    Model,
    Request,
    Rules,
    ViolationError,
    edits_of,
    explore,
)
from trainer.position import Position

# one trainer and a late request; then two trainers, a checkpoint, and every way that one takes the other's place
QUICK = [
    {"num_steps": 3, "num_edits": 2, "num_starts": 1, "num_saves": 0, "num_late": 1},
    {"num_steps": 2, "num_edits": 1, "num_starts": 2, "num_saves": 1, "num_late": 1},
    {"num_steps": 3, "num_edits": 1, "num_starts": 2, "num_saves": 1, "num_late": 0, "lead": 2},
]
LONG = [
    {"num_steps": 3, "num_edits": 2, "num_starts": 2, "num_saves": 1, "num_late": 0},
    {"num_steps": 3, "num_edits": 1, "num_starts": 2, "num_saves": 1, "num_late": 1},
    {"num_steps": 4, "num_edits": 2, "num_starts": 2, "num_saves": 1, "num_late": 0, "lead": 2},
    {"num_steps": 3, "num_edits": 1, "num_starts": 3, "num_saves": 1, "num_late": 0},
]


def go_through(sizes: Mapping[str, int]) -> int:
    found = explore(Model(**sizes))
    print(f"{found.num_states:,} states, {found.num_moves:,} moves, depth {found.depth}: {sizes}")
    print(*INVARIANTS, sep=", ")
    return found.num_states


@pytest.mark.parametrize(("sizes", "least"), [*zip(QUICK, (17_000, 34_000, 10_000), strict=True)], ids=str)
def test_every_invariant_holds_in_every_state(sizes: Mapping[str, int], least: int) -> None:
    assert go_through(sizes) >= least


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("sizes", LONG, ids=str)
def test_every_invariant_holds_in_every_state_of_larger_ones(sizes: Mapping[str, int]) -> None:
    assert go_through(sizes) > 50_000


# -- the service itself does what the model's service does


class Service:
    """The real one, over its database, for one run of the model's size."""

    def __init__(self, runs: Runs, model: Model, name: str) -> None:
        self._runs = runs
        body = {"name": name, "data_seed": 1, "global_batch_size": 10, "seq_len": 2, "num_steps": model.num_steps}
        corpora = {corpus: {"shard_sizes": [1000]} for corpus in CORPORA}
        schedule = {"phases": [{"start": 0, "mixture": {"base": 1.0}}]}
        made, _ = runs.create(RunIn.model_validate({**body, "corpora": corpora, "schedule": schedule}), actor="test")
        self._id = made.row.id

    def edit(self, step: int) -> None:
        row = self._runs.state(self._id).row
        share = (row.newest + 1) / 10
        body = {"effective_step": step, "mixture": {"base": 1 - share, "edited": share}, "author": "a", "reason": "r"}
        self._runs.revise(self._id, RevisionIn.model_validate(body), parent=row.revision, actor="test")

    def ask(self, request: Request) -> Any:
        """The answer, in the words of the model."""
        try:
            if isinstance(request, Claiming):
                claim = ClaimIn(trainer=request.trainer, step=0, take_over=request.take_over)
                return (self._runs.claim(self._id, claim, actor="test").claim or {})["claim"]
            report = ProgressIn(
                step=request.step, freeze_through=request.freeze_through, known_revision=request.known,
                decided_through=request.decided_through, superseded=list(request.superseded), claim=request.claim,
            )  # fmt: skip
            answer = self._runs.report(self._id, report, actor="test")
        except ClaimedError:
            return "claimed"
        except ClaimLostError:
            return "claim-lost"
        except KnownRevisionError:
            return "revision-not-in-force"
        return edits_of(tuple(map(Revision.from_dict, answer["revisions"])))

    def stands(self) -> tuple[Any, ...]:
        """Edits, frontier and claim."""
        state = self._runs.state(self._id)
        claim = state.row.claim and Claim(state.row.claim["claim"], state.row.claim["trainer"])
        return edits_of(state.ledger.revisions), state.row.frontier, claim


def walk(model: Model, service: Service, dice: random.Random, length: int) -> Iterator[Any]:
    """Go a random way through the model, the real service beside it; all that it answered."""
    state = model.first()
    while length and (moves := list(model.moves(state))):
        length, (_, after) = length - 1, dice.choice(moves)
        requests = (*(request for trainer in state.trainers for request in model._requests(trainer)), *state.late)
        decided = [(request, *model._decide(state.service, request)) for request in requests]
        for request, _, answer in decided:
            if isinstance(answer, str):  # who is refused changes nothing
                assert service.ask(request) == answer
                yield answer
        if len(after.service.edits) > len(state.service.edits):
            service.edit(after.service.edits[-1].step)
        elif after.service != state.service:
            request, _, answer = next(one for one in decided if one[1] == after.service)
            assert service.ask(request) == answer
            yield answer
        state = after
        assert service.stands() == state.service[:3]


def test_the_service_does_what_the_model_says(tmp_path: Path) -> None:
    model = Model(num_steps=5, num_edits=4, num_starts=6, num_saves=3, num_late=2, lead=2)
    store, dice = Store(tmp_path / "a.db"), random.Random(372)  # one that meets every refusal soon
    runs = Runs(store, plan_cache_size=4)
    answers = [each for name in range(20) for each in walk(model, Service(runs, model, f"run {name}"), dice, 40)]
    store.close()
    assert len(answers) > 300
    assert {"claimed", "claim-lost", "revision-not-in-force"} <= set(answers)


# -- what is found when a rule is broken


def frozen_steps_may_change(ledger: Ledger, edit: Any, *, frontier: int, **arguments: Any) -> Ledger:
    return edits.propose(ledger, edit, frontier=0, **arguments)


def only_finished_steps_are_decided(position: Position, lead: int) -> dict[str, Any]:
    return {**position.report(lead), "decided_through": position.step}


def the_trainer_says_nothing_of_what_is_superseded(ledger: Ledger, **arguments: Any) -> None:
    edits.agree(ledger, **{**arguments, "superseded": None})


def the_answer_hides_what_is_superseded(ledger: Ledger, known: int) -> tuple[Revision, ...]:
    return tuple(replace(revision, superseded=None) for revision in ledger.since(known))


def the_answer_leaves_out_what_is_superseded(ledger: Ledger, known: int) -> tuple[Revision, ...]:
    return tuple(revision for revision in ledger.since(known) if revision.superseded is None)


def the_frontier_follows_the_last_report(revisions: Sequence[Revision], **arguments: int) -> edits.Settled:
    settled = edits.settle(revisions, **arguments)
    return settled._replace(frontier=max(arguments["freeze_through"], arguments["decided_through"]))


def nothing_is_superseded(revisions: Sequence[Revision], **arguments: int) -> edits.Settled:
    return edits.settle(revisions, **arguments)._replace(superseded={})


def only_what_was_passed_is_superseded(revisions: Sequence[Revision], **arguments: int) -> edits.Settled:
    settled = edits.settle(revisions, **arguments)
    passed = {n: why for n, why in settled.superseded.items() if "had handed out" in why}
    return settled._replace(superseded=passed)


def nothing_is_frozen_ahead(revisions: Sequence[Revision], **arguments: int) -> edits.Settled:
    return edits.settle(revisions, **{**arguments, "freeze_through": 0, "decided_through": 0})


def anybody_reports(last: Any, number: int | None) -> None:
    """No fencing."""


def a_restart_keeps_its_claim(last: Any, *, trainer: str, **arguments: Any) -> Mapping[str, Any]:
    same = last is not None and last["trainer"] == trainer
    return last if same else claims.take(last, trainer=trainer, **arguments)


def anybody_takes_over(last: Any, **arguments: Any) -> Mapping[str, Any]:
    return claims.take(last, **{**arguments, "take_over": True})


def only_rank_0_hears() -> tuple[bool, ...]:
    return (True,) + (False,) * (NUM_RANKS - 1)


ONE = {"num_steps": 3, "num_edits": 2, "num_starts": 1, "num_saves": 0, "num_late": 0}
TWO = {"num_steps": 2, "num_edits": 1, "num_starts": 2, "num_saves": 1, "num_late": 1}
THREE = {"num_steps": 1, "num_edits": 1, "num_starts": 3, "num_saves": 1, "num_late": 0}
BROKEN: list[tuple[str, Rules, Mapping[str, int]]] = [
    ("frozen", Rules(propose=frozen_steps_may_change), ONE),
    ("handed out", Rules(report=only_finished_steps_are_decided), ONE),
    ("handed out", Rules(settle=nothing_is_superseded), ONE),
    ("lost", Rules(settle=only_what_was_passed_is_superseded), ONE),
    ("handed out", Rules(answer=the_answer_hides_what_is_superseded), ONE),
    ("answer", Rules(answer=the_answer_leaves_out_what_is_superseded), ONE),
    ("frontier", Rules(settle=the_frontier_follows_the_last_report), TWO),
    ("handed out", Rules(settle=nothing_is_frozen_ahead), ONE),
    ("ranks", Rules(ranks_hear=only_rank_0_hears), ONE),
    ("fence", Rules(check=anybody_reports), TWO),
    ("fence", Rules(take=a_restart_keeps_its_claim), TWO),
    ("fence", Rules(take=anybody_takes_over), TWO),
    ("handed out", Rules(agree=the_trainer_says_nothing_of_what_is_superseded), THREE),
]


def named(value: Any) -> str:
    """The rule that is another one than in earnest."""
    if not isinstance(value, Rules):
        return ""
    changed = (rule for name, rule in vars(value).items() if rule is not getattr(Rules(), name))
    return next(changed).__name__


@pytest.mark.parametrize(("invariant", "rules", "sizes"), BROKEN, ids=named)
def test_a_broken_rule_is_found(invariant: str, rules: Rules, sizes: Mapping[str, int]) -> None:
    with pytest.raises(ViolationError) as caught:
        explore(Model(rules=rules, **sizes))
    print(caught.value)
    assert caught.value.what.partition(":")[0] == invariant
    assert 3 <= len(caught.value.trace) <= 15
