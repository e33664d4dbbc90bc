"""Forks: a run that shares another's past up to a step and goes on by itself.

A ledger is a value, so the fork of a run is its ledger; what differs is what the fork reads of the corpora from there
on: "continue" reads what the parent would have read next (and did read after the step), "unseen" passes over all that
the parent has read since, up to a step of the parent: to train on what no one has seen, or to leave out the data on
which the parent went wrong.
"""

from typing import Literal

from mixer.errors import LedgerError
from mixer.ledger import Ledger
from mixer.plan import Plan

Replay = Literal["continue", "unseen"]


def fork(
    ledger: Ledger,
    plan: Plan,
    *,
    step: int,
    replay: Replay = "continue",
    until: int | None = None,
    author: str,
    time: str,
) -> Ledger:
    """The ledger of a fork at `step`; with "unseen", a revision of skips there, as the newest.

    Args:
        ledger: of the parent. plan: `Plan` of it.
        step: the first that the fork takes by itself. Its frontier: what lies below is shared for ever.
        replay: see above.
        until: for "unseen", the parent's first step that counts as not read (default: the end of its run).
        author, time: of the revision.

    Raises StepError for a step outside of the run, LedgerError where nothing unseen can be told or is left.
    """
    plan.counts(step)  # refuses a step that is not in the run
    if replay == "continue":
        return ledger
    until = plan.schedule.num_steps if until is None else until
    before, after = plan.drawn_before(step), plan.drawn_before(until)
    later = [change for change in plan.schedule.changes if step < change.step < until]
    changed = {name for change in later for name in (change.name, change.arguments.get("from"))}
    corpora = {}
    for name, drawn in before.items():
        if after[name] <= drawn:
            continue
        if name in changed:
            raise LedgerError(
                f"corpus '{name}' was changed between step {step} and step {until}, so what nobody has seen of it "
                "is no part of one order: fork at the step of the change or later, or let the fork continue"
            )
        if plan.order_of(name).start_of_next(drawn) < after[name]:
            raise LedgerError(
                f"corpus '{name}' has nothing unseen left: by step {until} it was read to the end of an epoch; "
                "choose an earlier 'until', or let the fork continue"
            )
        corpora[name] = {"skip": {"samples": after[name] - drawn}}
    if not corpora:
        return ledger
    return ledger.propose(
        {"corpora": corpora},
        parent=ledger.in_force,
        effective_step=step,
        frontier=step,
        author=author,
        reason=f"fork at step {step}: pass over what the parent read up to step {until}",
        time=time,
    )
