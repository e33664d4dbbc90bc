"""The protocol, gone through in every order on small sizes; and each rule, when it is broken, found with a trace."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from mixer import Ledger, Revision
from service import claims, edits
from tests.service.protocol_model import INVARIANTS, NUM_RANKS, Model, Rules, ViolationError, explore
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
