"""Forks: the past is shared, what is read afterwards is continued or unseen, and the difference of two can be told."""

from typing import Any

import pytest

from mixer import Ledger, LedgerError, Plan, Schedule, StepError
from mixer.comparing import compare
from mixer.forking import fork

CORPORA = {"c4": [40] * 12, "math": [30, 31]}
WHO = {"author": "ada", "time": "2026-11-21T00:00:00Z"}


def ledger() -> Ledger:
    phases = [{"start": 0, "mixture": {"c4": 1}}, {"start": 20, "mixture": {"c4": 0.75, "math": 0.25}}]
    return Ledger(base=Schedule.from_dict({"phases": phases}, num_steps=60, global_batch_size=8, seq_len=4))


def plan(of: Ledger) -> Plan:
    return Plan(of.schedule, CORPORA, data_seed=5, shuffle_window=2)


def read(of: Plan, start: int, end: int) -> dict[str, list[int]]:
    """Samples of each corpus in the order of their draws."""
    found: dict[str, list[int]] = {name: [] for name in of.names}
    for step in range(start, end):
        batch = of.batch(step)
        rows = zip(batch.ordinal.tolist(), batch.corpus.tolist(), batch.sample_id.tolist(), strict=True)
        for _, index, sample in sorted(rows):
            found[of.names[index]].append(sample)
    return found


def edit(of: Ledger, step: int, change: dict[str, Any]) -> Ledger:
    return of.propose(change, parent=of.in_force, effective_step=step, frontier=step, reason="r", **WHO)


def test_a_fork_that_continues_reads_what_the_parent_would_have() -> None:
    parent = plan(ledger())
    assert fork(ledger(), parent, step=30, **WHO) == ledger()
    other = plan(edit(fork(ledger(), parent, step=30, **WHO), 30, {"mixture": {"c4": 0.5, "math": 0.5}}))
    assert read(other, 0, 30) == read(parent, 0, 30)
    ours, theirs = read(other, 30, 40), read(parent, 30, 60)
    assert [len(ours[name]) for name in CORPORA] == [40, 40]
    assert ours == {name: theirs[name][:40] for name in CORPORA}


@pytest.mark.parametrize("until", [30, 37, 42])
def test_a_fork_of_the_unseen_shares_the_past_and_reads_nothing_the_parent_has_read(until: int) -> None:
    parent = plan(ledger())
    forked = fork(ledger(), parent, step=30, replay="unseen", until=until, **WHO)
    assert forked.number == (until > 30)
    child = plan(forked)
    assert read(child, 0, 30) == read(parent, 0, 30)
    for name, samples in read(child, 30, 38).items():
        assert not set(samples) & set(read(parent, 0, until)[name]), name
    ours, theirs = read(child, 30, 38), read(parent, until, until + 10)
    assert ours == {name: theirs[name][: len(ours[name])] for name in CORPORA}  # the very next


def test_a_fork_shares_the_batch_sizes_of_the_past_and_goes_on_with_its_own() -> None:
    whole = edit(edit(ledger(), 10, {"global_batch_size": 16}), 40, {"global_batch_size": 4})
    parent = plan(whole)
    child = plan(edit(fork(whole, parent, step=30, replay="unseen", until=35, **WHO), 30, {"global_batch_size": 24}))
    assert read(child, 0, 30) == read(parent, 0, 30)
    assert [child.schedule.batch_size(step) for step in (9, 10, 29, 30, 59)] == [8, 16, 16, 24, 24]
    ours, theirs = read(child, 30, 34), read(parent, 35, 60)
    assert {name: len(ours[name]) for name in CORPORA} == {"c4": 72, "math": 24}
    assert all(found == theirs[name][: len(found)] for name, found in ours.items())


def test_what_two_forks_consumed() -> None:
    parent = plan(ledger())
    child = plan(fork(ledger(), parent, step=30, replay="unseen", until=37, **WHO))
    found = compare(parent, child, step=40).corpora
    for name in CORPORA:
        ours, theirs = (read(run, 0, 40)[name] for run in (parent, child))
        assert (found[name].a, found[name].b) == (len(ours), len(theirs))
        assert found[name].common == len(set(ours) & set(theirs)) > 0
        assert found[name].only_b == len(set(theirs) - set(ours)) > 0


def test_quarantine_in_one_of_two_runs_is_compared_reading_by_reading() -> None:
    parent = plan(ledger())
    other = plan(edit(ledger(), 10, {"corpora": {"c4": {"quarantine": {"shards": [[0, 6]]}}}}))
    ours, theirs = (read(run, 0, 40)["c4"] for run in (parent, other))
    assert compare(parent, other, step=40).corpora["c4"].common == len(set(ours) & set(theirs))


def test_a_fork_that_cannot_be_is_refused() -> None:
    parent = plan(ledger())
    with pytest.raises(StepError):
        fork(ledger(), parent, step=60, **WHO)
    long = Ledger(base=Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": {"math": 1}}]}, num_steps=60, global_batch_size=8, seq_len=4
    ))  # fmt: skip
    with pytest.raises(LedgerError, match="'math' has nothing unseen left: by step 9"):
        fork(long, plan(long), step=3, replay="unseen", until=9, **WHO)
    changed = edit(ledger(), 35, {"corpora": {"c4": {"skip": {"samples": 3}}}})
    with pytest.raises(LedgerError, match="'c4' was changed between step 30 and step 40"):
        fork(changed, plan(changed), step=30, replay="unseen", until=40, **WHO)
