"""The state of a run's reading: frontier, ranks, and what a checkpoint keeps and refuses."""

import json
from typing import Any

import numpy as np
import pytest

from mixer import CorpusError, FrontierError, Ledger, MixerError, Schedule, ScheduleError, StateError, StepError
from mixer.reading import Reading

PHASES = [{"start": 0, "mixture": {"c4": 1}}, {"start": 40, "mixture": {"c4": 0.5, "math": 0.5}}]
REMEDY = "the steps trained keep their size; name a new one under schedule.batch_sizes, from 33ba on or later"
FINGERPRINTS = {"c4": "aaaa", "math": "bbbb"}


def ledger(phases: Any = None, *, batch: int = 8, num_steps: int = 100, later: dict[int, int] | None = None) -> Ledger:
    """`later`: step → batch size from there on."""
    sizes = {"num_steps": num_steps, "global_batch_size": batch, "seq_len": 4}
    rows = [{"start": start, "global_batch_size": size} for start, size in (later or {}).items()]
    return Ledger(base=Schedule.from_dict({"phases": phases or PHASES, "batch_sizes": rows}, **sizes))


def reading(base: Ledger | None = None, *, frontier: int | None = None, **changes: Any) -> Reading:
    facts = {"fingerprints": FINGERPRINTS, "data_seed": 7, "shuffle_window": 2, **changes}
    return Reading(
        base or ledger(), {"c4": [50, 50], "math": [9]}, bases={"c4": 0, "math": 100}, frontier=frontier, **facts
    )


def revised(base: Ledger, step: int = 60) -> Ledger:
    return base.propose(
        {"mixture": {"math": 1}}, parent=0, effective_step=step, frontier=0, author="a", reason="r", time="t"
    )


def everything(run: Reading, start: int, end: int, num_ranks: int = 1) -> list[list[int]]:
    return [
        [address for rank in range(num_ranks) for address in run.addresses(step, rank, num_ranks).tolist()]
        for step in range(start, end)
    ]


@pytest.mark.parametrize("num_ranks", [2, 4, 8])
def test_ranks_together_read_what_one_rank_would(num_ranks: int) -> None:
    assert everything(reading(), 0, 100, num_ranks) == everything(reading(), 0, 100)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(MixerError, match="8 cannot be divided over 3 ranks: choose a multiple of 3"):
        reading().addresses(0, 0, 3)


def test_nothing_is_handed_out_beyond_the_frontier() -> None:
    run = reading(frontier=10)
    run.addresses(9)
    with pytest.raises(FrontierError) as caught:
        run.addresses(10)
    assert (caught.value.step, caught.value.frontier) == (10, 10)
    run.follow((), 11)
    run.addresses(10)
    run.follow((), 5)
    assert run.frontier == 11


def test_following_a_revision_changes_only_what_lies_ahead() -> None:
    run, alone = reading(frontier=50), reading()
    before = everything(run, 0, 50)
    run.follow(revised(run.ledger).revisions, 100)
    after = everything(run, 0, 100)
    assert after[:50] == before
    assert after[:60] == everything(alone, 0, 60)
    assert run.plan.weights(60) == {"math": 1.0}


def test_a_run_from_its_ledger_needs_no_service() -> None:
    """Live or from the YAML with the same content: the same addresses."""
    live = reading(frontier=0)
    live.follow(revised(live.ledger).revisions, 100)
    yaml = [*PHASES, {"start": 60, "mixture": {"math": 1}}]
    assert everything(reading(ledger(yaml)), 0, 100) == everything(live, 0, 100)


def test_a_checkpoint_is_small_json_and_resumes_in_place() -> None:
    live = reading(frontier=0)
    live.follow(revised(live.ledger).revisions, 70)
    state = json.loads(json.dumps(live.state(33)))
    assert len(json.dumps(state)) < 1000
    resumed = reading(frontier=0)
    resumed.restore(state)
    assert (resumed.next_step, resumed.frontier) == (33, 70)
    assert (resumed.ledger.number, resumed.ledger.in_force, resumed.ledger.superseded) == (1, 1, ())
    assert live.next_step == 0  # reading the state changed nothing
    assert everything(resumed, 33, 70) == everything(live, 33, 70)


def test_without_a_service_a_checkpoint_promises_nothing_ahead() -> None:
    state = reading().state(33)
    live = reading(frontier=0)
    live.restore(state)
    assert live.frontier == 33


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"data_seed": 8}, "data_seed was 7, is 8"),
        ({"shuffle_window": 3}, "shuffle_window was 2, is 3"),
        ({"fingerprints": {"c4": "cccc", "math": "bbbb"}}, "corpus 'c4' had the content aaaa…, has cccc…"),
        ({"base": ledger(batch=4)}, f"global_batch_size was 8, is 4: {REMEDY}"),
        (
            {"base": ledger(later={30: 16})},
            "the steps below 33 had 264 samples, 8 in the last of them, as it stands now they would have had 288, "
            f"16 in the last: {REMEDY}",
        ),
        (
            {"base": ledger([{"start": 0, "mixture": {"c4": 0.9, "math": 0.1}}])},
            "the steps below 33, already trained on, had another schedule: they read {'c4': 264}, "
            "as it stands now they would have read {'c4': 238, 'math': 26}",
        ),
    ],
)
def test_another_run_is_refused_with_both_sides(changes: dict[str, Any], problem: str) -> None:
    other = reading(**changes)
    with pytest.raises(StateError) as caught:
        other.restore(reading().state(33))
    assert problem in caught.value.problems
    assert other.next_step == 0


def test_an_order_of_another_version_is_refused() -> None:
    with pytest.raises(StateError, match="order_version was 0, is 2"):
        reading().restore({**reading().state(33), "order_version": 0})


def test_the_override_is_recorded_in_every_later_state() -> None:
    other = reading(data_seed=8)
    other.restore(reading().state(33), allow_different_data_and_lose_reproducibility=True)
    assert other.next_step == 33
    assert other.state(34)["overrides"] == ["data_seed was 7, is 8"]


def test_a_future_edited_in_the_file_is_taken_if_the_past_is_the_same() -> None:
    state = reading().state(33)
    edited = reading(ledger([PHASES[0], {"start": 35, "mixture": {"math": 1}}], num_steps=200))
    edited.restore(state)
    assert edited.plan.weights(35) == {"math": 1.0}
    assert everything(edited, 0, 33) == everything(reading(), 0, 33)


@pytest.mark.parametrize("later", [{33: 16}, {40: 16, 50: 4}, {}])
@pytest.mark.parametrize("before", [{}, {10: 4}])
def test_a_batch_size_written_into_the_file_from_the_checkpoint_on_is_taken(
    before: dict[int, int], later: dict[int, int]
) -> None:
    saved = reading(ledger(later={**before, 45: 12}))
    state = json.loads(json.dumps(saved.state(33)))
    edited = reading(ledger(later={**before, **later}))
    edited.restore(state)
    assert edited.next_step == 33
    assert everything(edited, 0, 33) == everything(saved, 0, 33)
    assert len(edited.addresses(50)) == [8, *before.values(), *later.values()][-1]


def test_batch_sizes_below_the_checkpoint_may_not_be_taken_out_of_the_file() -> None:
    state = reading(ledger(later={10: 4})).state(33)
    assert state["global_batch_size"] == 8
    with pytest.raises(StateError, match=r"had 172 samples, 4 in the last of them, .* had 264, 8 in the last"):
        reading().restore(state)
    with pytest.raises(StateError, match=r"had another schedule|had 172 samples"):
        reading(ledger(later={11: 4})).restore(state)


def test_a_batch_size_changed_live_is_resumed() -> None:
    live = reading(frontier=0)
    who = {"author": "a", "reason": "r", "time": "t"}
    grown = live.ledger.propose({"global_batch_size": 16}, parent=0, effective_step=0, frontier=0, **who)
    grown = grown.propose({"global_batch_size": 24}, parent=1, effective_step=20, frontier=0, **who)
    live.follow(grown.revisions, 70)
    for step in (0, 20, 33, 60):
        state = json.loads(json.dumps(live.state(step)))
        assert state["global_batch_size"] == 16  # at step 0
        resumed = reading(frontier=0)
        resumed.restore(state)
        assert everything(resumed, step, 70) == everything(live, step, 70)
        assert resumed.step_after(20 * 16 + 13 * 24, 0) == 33
        assert resumed.state(60) == live.state(60)
        written = reading(ledger(batch=16, later={20: 24, 60: 2}))
        written.restore(state)
        assert everything(written, step, 60) == everything(live, step, 60)


def test_the_next_step_after_a_number_of_samples() -> None:
    run = reading(ledger(later={10: 4, 20: 16}))
    assert [run.step_after(*asked) for asked in ((0, 0), (80, 0), (84, 0), (8, 9), (12, 9), (0, 20), (1400, 0))] == [
        0, 10, 11, 10, 11, 20, 100,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="85 samples from step 0 on end within step 11, after 1 of its 4"):
        run.step_after(85, 0)


def test_each_step_must_divide_over_the_ranks() -> None:
    run = reading(ledger(later={10: 9}))
    assert len(run.addresses(9, 1, 4)) == 2
    assert len(run.addresses(10, 2, 3)) == 3
    with pytest.raises(MixerError, match="9 cannot be divided over 4 ranks"):
        run.addresses(10, 0, 4)


def test_a_future_edited_in_the_file_may_not_drop_what_was_edited_live() -> None:
    live = reading(frontier=0)
    live.follow(revised(live.ledger, 20).revisions, 70)
    for phases in ([PHASES[0], {"start": 35, "mixture": {"math": 1}}], PHASES[:1]):
        with pytest.raises(StateError, match=r"revisions that it lacks, as it stands .* read \{'c4': 264\}"):
            reading(ledger(phases)).restore(live.state(33))
    written_in = reading(
        ledger([PHASES[0], {"start": 20, "mixture": {"math": 1}}, {"start": 50, "mixture": {"c4": 1}}])
    )
    written_in.restore(live.state(33))
    assert everything(written_in, 33, 50) == everything(live, 33, 50)


def test_the_state_stays_under_a_kilobyte_after_any_number_of_revisions() -> None:
    """Eight corpora, a ramp in force, a thousand revisions over a long run; it goes on as the whole ledger does."""
    names = [f"corpus-{index}" for index in range(8)]
    sizes = {"num_steps": 10**9, "global_batch_size": 1024, "seq_len": 2048}
    phases = [{"start": 0, "mixture": dict.fromkeys(names, 0.125)}]
    whole = Ledger(base=Schedule.from_dict({"phases": phases}, **sizes))
    rng = np.random.default_rng(0)
    mixtures = rng.multinomial(10**9, [0.125] * 8, size=1000) / 1e9
    for number, mixture in enumerate(mixtures.tolist()):
        weights = {name: round(weight, 9) for name, weight in zip(names, mixture, strict=True)}
        change = {"mixture": weights}
        if number == 999:
            change["ramp"] = {"shape": "cosine", "length": 100}
        step = (number + 1) * 10**5
        who = {"author": "ado", "reason": "losses", "time": "2026-11-21T00:00:00Z"}
        whole = whole.propose(change, parent=number, effective_step=step, frontier=step, **who)
    facts = {"fingerprints": {n: f"{i:064x}" for i, n in enumerate(names)}, "data_seed": 7, "shuffle_window": 16}
    corpora = {name: [10**7] * 100 for name in names}
    bases = {name: 10**9 * index for index, name in enumerate(names)}
    run = Reading(whole, corpora, bases=bases, frontier=10**8 + 50, **facts)
    state = run.state(10**8 + 40)
    assert len(json.dumps(state, separators=(",", ":"))) < 1024
    again = Reading(Ledger(base=whole.base), corpora, bases=bases, frontier=0, **facts)
    again.restore(json.loads(json.dumps(state)))
    for step in (10**8 + 40, 10**8 + 49):
        assert again.addresses(step).tolist() == run.addresses(step).tolist()
    assert again.ledger.number == again.ledger.in_force == 1000
    with pytest.raises(StepError, match="what lies before is in the run's ledger"):
        again.plan.batch(10**7)


def test_a_corpus_that_this_run_cannot_read_stops_it_at_the_step_that_needs_it() -> None:
    run = reading(frontier=50)
    add = {"corpora": {"new": {"add": {"shard_sizes": [5]}}}, "mixture": {"c4": 0.5, "new": 0.5}}
    who = {"author": "a", "reason": "r", "time": "t"}
    run.follow(run.ledger.propose(add, parent=0, effective_step=60, frontier=50, **who).revisions, 100)
    assert run.addresses(59).tolist() == reading().addresses(59).tolist()
    with pytest.raises(CorpusError, match="reads the corpus 'new', which was added"):
        run.addresses(60)


def test_a_corpus_may_have_grown_on_disk_if_a_revision_says_so_and_its_beginning_is_the_same() -> None:
    run = reading(frontier=50)
    grow = {"corpora": {"math": {"grow": {"first_shard": 1, "shard_sizes": [20]}}}}
    who = {"author": "a", "reason": "r", "time": "t"}
    grown = run.ledger.propose(grow, parent=0, effective_step=60, frontier=50, **who)
    run.follow(grown.revisions, 100)
    state = run.state(50)

    def restart(before: str, sizes: list[int]) -> Reading:
        return Reading(
            ledger(), {"c4": [50, 50], "math": sizes}, bases={"c4": 0, "math": 100}, frontier=0, data_seed=7,
            shuffle_window=2, fingerprints={"c4": "aaaa", "math": "grown"},
            fingerprint_of=lambda name, num_shards: before if (name, num_shards) == ("math", 1) else None,
        )  # fmt: skip

    again = restart("bbbb", [9, 20])
    again.restore(state)
    assert everything(again, 50, 100) == everything(run, 50, 100)
    with pytest.raises(StateError, match="'math' had the content bbbb…, has grown…"):
        restart("cccc", [9, 20]).restore(state)
    with pytest.raises(ScheduleError, match="the shards from 1 on have \\[21\\]… samples on disk, \\[20\\]… here"):
        restart("bbbb", [9, 21]).restore(state)


def test_what_was_split_off_or_renamed_is_read_where_it_lies() -> None:
    run = reading(frontier=50)
    change = {
        "corpora": {"web": {"rename": {"from": "c4"}}, "part": {"split": {"from": "math", "shards": [0]}}},
        "mixture": {"web": 0.5, "part": 0.5},
    }
    who = {"author": "a", "reason": "r", "time": "t"}
    run.follow(run.ledger.propose(change, parent=0, effective_step=50, frontier=50, **who).revisions, 100)
    batch = run.plan.batch(70)
    lies = np.array([{"web": 0, "part": 100}.get(name, -1) for name in run.plan.names])
    assert run.addresses(70).tolist() == (lies[batch.corpus] + batch.sample_id).tolist()


def test_addresses_are_those_of_the_corpora() -> None:
    run = reading()
    batch = run.plan.batch(50)
    bases = np.array([0, 100])
    assert run.addresses(50).tolist() == (bases[batch.corpus] + batch.sample_id).tolist()


def test_saying_the_same_mixture_again_moves_nothing() -> None:
    """The order depends on the weights of each step alone, so a past that asks for the same is the same."""
    mixture = {"c4": 0.61, "math": 0.39}
    once = reading(ledger([{"start": 0, "mixture": mixture}]))
    again = reading(ledger([{"start": step, "mixture": mixture} for step in (0, 7, 20, 21)]))
    again.restore(once.state(33))
    assert everything(again, 0, 100) == everything(once, 0, 100)
