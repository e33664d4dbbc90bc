"""Rows of several lengths in one run: what phases say, what a plan refuses, and what is counted."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mixer import Corpus, Ledger, Plan, Schedule, ScheduleError
from mixer.context import PLAIN, Rope, parse_rope
from mixer.groups import make_plan
from mixer.kept import Kept
from mixer.reading import Reading
from mixer.reports import show
from mixer.runfile import load_run

SIZES = {"num_steps": 100, "global_batch_size": 8, "seq_len": 32}
YARN = {"kind": "yarn", "factor": 2.0}
PHASES: list[dict[str, Any]] = [
    {"start": 0, "mixture": {"short": 1.0}},
    {"start": 40, "mixture": {"long": 1.0}, "seq_len": 64, "rope": YARN},
    {"start": 70, "mixture": {"long": 0.5, "other": 0.5}},
]
CORPORA = {
    "short": Corpus(shard_sizes=[900]),
    "long": Corpus(shard_sizes=[900], seq_len=64),
    "other": Corpus(shard_sizes=[900], seq_len=64),
}


def schedule_of(phases: list[dict[str, Any]] = PHASES, **others: Any) -> Schedule:
    return Schedule.from_dict({"phases": phases, **others}, **SIZES)


def plan_of(schedule: Schedule) -> Plan:
    return Plan(schedule, CORPORA, data_seed=1)


def test_a_phase_goes_on_with_the_length_before_it() -> None:
    schedule = schedule_of()
    assert [schedule.context(step).seq_len for step in (0, 39, 40, 70, 99)] == [32, 32, 64, 64, 64]
    assert [schedule.context(step).rope for step in (39, 40, 99)] == [PLAIN, *[Rope(kind="yarn", factor=2)] * 2]
    assert Schedule.from_dict(schedule.to_dict(), **SIZES) == schedule
    assert schedule.to_dict()["phases"][1]["rope"] == YARN
    assert "seq_len" not in schedule.to_dict()["phases"][2]


def test_tokens_are_counted_at_the_length_of_their_phase() -> None:
    schedule = schedule_of()
    assert schedule.num_tokens == 8 * (40 * 32 + 60 * 64)
    assert [schedule.tokens_before(step) for step in (0, 40, 41, 71)] == [0, 10240, 10752, 8 * (40 * 32 + 31 * 64)]
    for step in (0, 1, 39, 40, 41, 70, 99):
        assert schedule.steps(f"{schedule.tokens_before(step)}tok") == step
        assert schedule.steps(f"{schedule.tokens_before(step) + 1}tok") == step + 1
    assert schedule.steps("512tok", start=39) == 2  # 256 tokens of step 39, and half of step 40
    forecast = plan_of(schedule).forecast()
    assert sum(corpus.tokens for corpus in forecast.values()) == schedule.num_tokens
    assert schedule.largest_batch_tokens(0) == 8 * 64
    assert schedule_of(batch_sizes=[{"start": 40, "global_batch_size": 2}]).largest_batch_tokens(0) == 8 * 32


def test_a_batch_size_that_changes_too_is_counted_exactly() -> None:
    schedule = schedule_of(batch_sizes=[{"start": 50, "global_batch_size": 4}])
    slow = [schedule.batch_size(step) * schedule.context(step).seq_len for step in range(100)]
    assert [schedule.tokens_before(step) for step in range(101)] == [sum(slow[:step]) for step in range(101)]


def test_times_in_tokens_are_refused_where_lengths_vary() -> None:
    phases = [PHASES[0], {**PHASES[1], "start": "10240tok"}]
    with pytest.raises(ScheduleError, match=r"'10240tok' is a time in tokens.* @ \$\.phases\[1\]\.start"):
        schedule_of(phases)
    with pytest.raises(ScheduleError, match=r"batch_sizes\[0\]\.start"):
        schedule_of(batch_sizes=[{"start": "512tok", "global_batch_size": 4}])


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([PHASES[0], {"start": 40, "mixture": {"long": 1.0}}], r"'long' has rows of 64 .* step 40 .* rows of 32"),
        ([PHASES[0], {"start": 40, "mixture": {"long": 0.9, "short": 0.1}, "seq_len": 64}], r"'short' has rows of 32"),
        ([{"start": 0, "mixture": {"short": 1.0}, "seq_len": 64}], r"'short' .* @ \$\.schedule\.phases\[0\]"),
        ([PHASES[0], {**PHASES[1], "ramp": {"shape": "linear", "length": 9}}], r"'short' has rows of 32 .* step 40"),
        ([PHASES[0], {"start": 40, "mixture": {"short": 1.0}, "seq_len": 64}], r"'short' .* step 40 .*phases\[1\]"),
    ],
    ids=["no-length", "mixed", "first", "ramp", "same-mixture"],
)
def test_corpora_of_one_phase_share_its_length(phases: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        plan_of(schedule_of(phases))


def test_the_heir_of_a_corpus_must_have_its_length_too() -> None:
    corpora = {**CORPORA, "long": Corpus(shard_sizes=[90], seq_len=64, max_epochs=1, then="short")}
    with pytest.raises(ScheduleError, match="'short' has rows of 32 tokens, and step 51 reads"):
        Plan(schedule_of(PHASES[:2]), corpora, data_seed=1)


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ("yarn", r"a rope is \{kind: yarn"),
        ({"kind": "magic", "factor": 2}, "its kind one of none, linear, ntk, yarn"),
        ({"kind": "yarn"}, r"'factor' is missing: .* @ \$"),
        ({"kind": "linear", "factor": 0.5}, r"factor is a number of at least 1, found 0.5 @ \$.factor"),
        ({"kind": "linear", "factor": 2, "beta_fast": 9}, r"unknown key 'beta_fast', a rope of kind linear has"),
        ({"kind": "yarn", "factor": 2, "beta_fast": 1}, r"beta_fast \(1\) must be above beta_slow \(1\)"),
        ({"kind": "yarn", "factor": 2, "attention_factor": "2"}, "attention_factor is a number above 0"),
        ({"kind": "yarn", "factor": 2, "original_seq_len": 1.5}, "a seq_len is a whole number"),
    ],
    ids=["text", "kind", "missing", "small", "key", "betas", "attention", "length"],
)
def test_a_wrong_rope_is_told_with_its_place(rope: Any, message: str) -> None:
    problems: list[str] = []
    assert parse_rope(rope, "$", problems) is None
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(problems[0])


def ledger_of(phases: list[dict[str, Any]] = PHASES) -> Ledger:
    return Ledger(base=schedule_of(phases))


def edited(ledger: Ledger, step: int, **change: Any) -> Ledger:
    who = {"author": "a", "reason": "r", "time": "t"}
    return ledger.propose(change, parent=ledger.in_force, effective_step=step, frontier=0, **who)


def test_a_new_mixture_leaves_the_context_as_it_was_planned_at_its_step() -> None:
    for step in (40, 55, 70):
        edit = edited(ledger_of(), step, mixture={"other": 1.0}).schedule
        assert edit.context(step) == (64, Rope(kind="yarn", factor=2))
        plan_of(edit)
    with pytest.raises(ScheduleError, match="'other' has rows of 64 tokens, and step 30 reads it among rows of 32"):
        plan_of(edited(ledger_of(), 30, mixture={"other": 1.0}).schedule)


def test_what_was_trained_cannot_have_had_another_context() -> None:
    other = [PHASES[0], {**PHASES[1], "rope": {"kind": "linear", "factor": 2}}, PHASES[2]]
    assert ledger_of().history(40) == ledger_of(other).history(40) == ledger_of(PHASES[:1]).history(40)
    assert len({ledger_of(phases).history(41) for phases in (PHASES, other, PHASES[:1])}) == 3
    assert Ledger.from_dict(ledger_of().to_dict()) == ledger_of()


@pytest.mark.parametrize("step", [20, 40, 45, 70, 80])
def test_a_state_keeps_the_context(step: int) -> None:
    ledger = edited(ledger_of(), 85, mixture={"other": 1.0})
    facts = {"fingerprints": dict.fromkeys(CORPORA, "0" * 64), "bases": {"short": 0, "long": 900, "other": 1800}}
    reading = Reading(ledger, CORPORA, data_seed=1, shuffle_window=16, frontier=90, **facts)
    state = reading.state(step)
    again = Reading(ledger_of(), CORPORA, data_seed=1, shuffle_window=16, frontier=90, **facts)
    again.restore(state)
    assert isinstance(again.ledger.kept, Kept)
    assert [again.plan.schedule.context(s) for s in range(step, 100)] == [
        ledger.schedule.context(s) for s in range(step, 100)
    ]
    assert again.ledger.history(90) == ledger.history(90)


def test_a_file_is_planned_without_its_corpora(tmp_path: Path) -> None:
    """A corpus of which only the size is known has rows as its first phase wants them."""
    file = tmp_path / "run.yaml"
    keys = {"run_name": "x", "data_seed": 1, "max_duration": "100ba", "global_batch_size": 8, "seq_len": 32}
    corpora: dict[str, Any] = {name: {} for name in CORPORA}
    file.write_text(yaml.safe_dump({**keys, "corpora": corpora, "schedule": {"phases": PHASES}}))
    run = load_run(file, {"short": "1e5tok", "long": "64000tok", "other": "900"})
    assert {name: corpus.seq_len for name, corpus in run.corpora.items()} == {"short": None, "long": 64, "other": 64}
    assert sum(run.corpora["long"].shard_sizes) == 1000
    assert sum(corpus.tokens for corpus in run.plan().forecast().values()) == run.schedule.num_tokens
    text = "\n".join(show(run).lines)
    assert "100 steps x 8 samples x 32 or 64 tokens = " in text
    assert "long 1, rows of 64 tokens, rope yarn x 2" in text
    file.write_text(
        yaml.safe_dump({**keys, "max_duration": "1e5tok", "corpora": corpora, "schedule": {"phases": PHASES}})
    )
    with pytest.raises(
        ScheduleError, match=r"is in tokens, and phases have rows of another length.* @ \$.max_duration"
    ):
        load_run(file, dict.fromkeys(CORPORA, "900"))


@pytest.mark.parametrize("num_groups", [2, 4])
def test_node_groups_count_tokens_too(num_groups: int) -> None:
    plan = make_plan(schedule_of(), CORPORA, data_seed=1, shuffle_window=16, num_groups=num_groups)
    assert sum(corpus.tokens for corpus in plan.forecast().values()) == plan.schedule.num_tokens


def test_a_corpus_that_is_added_says_its_length() -> None:
    base = {name: CORPORA[name] for name in ("short", "long")}
    ledger = ledger_of(PHASES[:2])
    for length, fits in ((64, True), (32, False)):
        add = {"new": {"add": {"shard_sizes": [900], "seq_len": length}}}
        schedule = edited(ledger, 60, mixture={"new": 1.0}, corpora=add).schedule
        if fits:
            assert Plan(schedule, base, data_seed=1).forecast()["new"].tokens == 40 * 8 * 64
        else:
            with pytest.raises(ScheduleError, match="'new' has rows of 32 tokens, and step 60"):
                Plan(schedule, base, data_seed=1)
