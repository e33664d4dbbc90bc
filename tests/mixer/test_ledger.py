"""Who may append a revision and when, and that a revision never moves what lies below its effective step."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer import FrozenStepError, Ledger, LedgerError, Revision, Schedule, ScheduleError, StaleParentError
from tests.strategies import NAMES, mixtures, phase_lists, schedules

C4 = Ledger(
    base=Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": {"c4": 1}}, {"start": 50, "mixture": {"c4": 0.5, "math": 0.5}}]},
        num_steps=100, global_batch_size=8, seq_len=8,
    )
)  # fmt: skip


def edit(ledger: Ledger, effective_step: int = 60, change: Any = None, **given: Any) -> Ledger:
    change = {"mixture": {"math": 1}} if change is None else change
    rest = {
        "parent": ledger.in_force,
        "frontier": 0,
        "author": "ada",
        "reason": "more math",
        "time": "2026-11-21T00:00:00Z",
    }
    return ledger.propose(change, effective_step=effective_step, **{**rest, **given})


@given(schedules(), st.data())
def test_any_sequence_of_edits_leaves_the_past_alone(schedule: Schedule, data: st.DataObject) -> None:
    ledger, frontier = Ledger(base=schedule), 0
    for number in range(1, data.draw(st.integers(1, 6)) + 1):
        before = ledger.schedule
        step = data.draw(st.integers(frontier, schedule.num_steps - 1))
        phases = data.draw(phase_lists(NAMES, step, schedule.num_steps, 3))
        if step == 0:
            phases[0].pop("ramp", None)
        ledger = edit(ledger, step, {"schedule": {"phases": phases}}, frontier=frontier)
        assert ledger.number == ledger.in_force == number
        assert [ledger.schedule.weights_ppb(s) for s in range(step)] == [before.weights_ppb(s) for s in range(step)]
        assert ledger.schedule.phases[-1].end == schedule.num_steps
        last = len(phases) - 1
        assert ledger.schedule.phases[-1].start == phases[last]["start"]
        frontier = data.draw(st.integers(frontier, schedule.num_steps - 1))
    assert Ledger.from_dict(ledger.to_dict()) == ledger


@given(st.data())
def test_a_mixture_holds_to_the_end_of_the_run(data: st.DataObject) -> None:
    mixture = data.draw(mixtures(NAMES))
    ledger = edit(C4, 20, {"mixture": mixture, "ramp": {"shape": "cosine", "length": "10ba"}})
    assert ledger.schedule.switchpoints == (20,)
    assert ledger.schedule.weights(99) == mixture
    assert ledger.schedule.weights(19) == {"c4": 1}


def test_a_stale_parent_is_refused() -> None:
    with pytest.raises(StaleParentError) as caught:
        edit(edit(C4), parent=0)
    assert (caught.value.parent, caught.value.current) == (0, 1)


def test_a_frozen_step_is_refused_with_the_earliest_that_would_do() -> None:
    with pytest.raises(FrozenStepError, match="the earliest step that may still change is 61") as caught:
        edit(C4, 60, frontier=61)
    assert caught.value.earliest == 61
    assert edit(C4, 61, frontier=61).number == 1


@pytest.mark.parametrize(
    ("step", "change", "problem"),
    [
        (60, {"mixture": {"c4": 0.9}}, "weights sum to 0.9, they must sum to 1 @ $.mixture"),
        (60, {"mixture": {"c4": 1}, "ramp": {"shape": "x"}}, "found 'x' @ $.ramp.shape"),
        (60, {"schedule": {"phases": [{"start": 61, "mixture": {"c4": 1}}]}}, "gap: steps 60 to 61 have no mixture"),
        (60, {"schedule": {"phases": [{"start": 60, "mixture": {"c4": 2}}]}}, "@ $.schedule.phases[0].mixture.c4"),
        (60, {"mixtures": {"c4": 1}}, "found ['mixtures'] @ $"),
        (60, {"mixtures": {"c4": 1}, "global_batch_size": 8}, "found ['mixtures'] @ $"),
        (60, {}, "found [] @ $"),
        (60, {"global_batch_size": 0}, "samples, at least 1, found 0 @ $.global_batch_size"),
        (60, {"global_batch_size": True}, "samples, at least 1, found True @ $.global_batch_size"),
        (60, {"global_batch_size": "8"}, "samples, at least 1, found '8' @ $.global_batch_size"),
        (60, {"global_batch_size": None}, "samples, at least 1, found None @ $.global_batch_size"),
        (100, {"mixture": {"c4": 1}}, "effective step 100 is past the run's 100 steps @ $.effective_step"),
    ],
)
def test_a_wrong_change_says_where(step: int, change: Any, problem: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        edit(C4, step, change)
    assert problem in str(caught.value)


def test_a_batch_size_replaces_what_was_planned_and_other_edits_leave_it() -> None:
    plan = {
        **C4.base.to_dict(),
        "batch_sizes": [{"start": 20, "global_batch_size": 16}, {"start": 80, "global_batch_size": 32}],
    }
    sizes = {"num_steps": 100, "global_batch_size": 8, "seq_len": 8}
    warm_up = Ledger(base=Schedule.from_dict(plan, **sizes))
    ledger = edit(edit(warm_up, 60), 70, {"corpora": {"c4": {"skip": {"samples": 1}}}})
    assert ledger.schedule.batch_sizes == warm_up.base.batch_sizes
    ledger = edit(ledger, 60, {"global_batch_size": 24})
    assert [(row.start, row.size) for row in ledger.schedule.batch_sizes] == [(20, 16), (60, 24)]
    assert ledger.schedule.phases == edit(warm_up, 60).schedule.phases
    assert ledger.revisions[2].schedule is None
    assert ledger.supersede([3], "late").schedule.batch_sizes == warm_up.base.batch_sizes
    assert Ledger.from_dict(ledger.to_dict()) == ledger
    at_once = edit(warm_up, 0, {"global_batch_size": 24})
    assert (at_once.schedule.global_batch_size, at_once.schedule.batch_sizes) == (24, ())


def test_times_of_an_edit_are_reached_with_the_batch_size_it_brings() -> None:
    """Below step 60 there are 480 samples of 8 tokens."""
    change = {"mixture": {"math": 1}, "ramp": {"shape": "linear", "length": "640tok"}}
    assert edit(C4, 60, change).schedule.phases[-1].ramp.length == 10
    assert edit(C4, 60, {**change, "global_batch_size": 16}).schedule.phases[-1].ramp.length == 5
    phases = [{"start": "3840tok", "mixture": {"c4": 1}}, {"start": "4480tok", "mixture": {"math": 1}}]
    later = edit(C4, 60, {"schedule": {"phases": phases}, "global_batch_size": 16})
    assert later.schedule.switchpoints == (50, 60, 65)
    assert edit(later, 70, {"global_batch_size": 1}).schedule.switchpoints == (50, 60, 65)


def test_the_history_is_of_batch_sizes_too_but_not_of_how_they_are_spelt() -> None:
    ledger = edit(C4, 60, {"global_batch_size": 16})
    assert ledger.history(60) == C4.history(60)
    assert ledger.history(61) != C4.history(61)
    assert edit(C4, 60, {"global_batch_size": 8}).history(100) == C4.history(100)
    written = {**C4.base.to_dict(), "batch_sizes": [{"start": 60, "global_batch_size": 16}]}
    sizes = {"num_steps": 100, "global_batch_size": 8, "seq_len": 8}
    assert Ledger(base=Schedule.from_dict(written, **sizes)).history(100) == ledger.history(100)


def test_a_revision_of_before_batch_sizes_is_read() -> None:
    stored = edit(C4, 60).revisions[0].to_dict()
    del stored["global_batch_size"]
    assert Revision.from_dict(stored) == edit(C4, 60).revisions[0]


def test_what_was_superseded_stays_on_record_and_changes_nothing() -> None:
    ledger = edit(edit(C4, 60), 70, {"mixture": {"c4": 1}}).supersede([2], "the trainer had passed step 70")
    assert ledger.number == 2
    assert ledger.in_force == 1
    assert ledger.schedule == edit(C4, 60).schedule
    assert edit(ledger, 80).revisions[2].parent == 1
    with pytest.raises(StaleParentError):
        edit(ledger, 80, parent=2)


def test_another_copy_catches_up_and_notices_a_fork() -> None:
    ours, theirs = edit(C4, 60), edit(edit(C4, 60), 70, {"mixture": {"c4": 1}})
    assert ours.extend(theirs.since(1)) == theirs
    assert ours.extend(theirs.revisions) == theirs
    assert theirs.extend(ours.revisions) == theirs
    assert theirs.extend(theirs.supersede([2], "late").revisions) == theirs.supersede([2], "late")
    with pytest.raises(LedgerError, match="1 is missing"):
        C4.extend(theirs.since(1))
    with pytest.raises(LedgerError, match="revision 1 differs"):
        ours.extend(edit(C4, 61).revisions)


def test_revisions_survive_json() -> None:
    revision = edit(C4, 60).revisions[0]
    assert Revision.from_dict(revision.to_dict()) == revision
