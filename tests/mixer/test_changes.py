"""Changes of corpora as they are written: one canonical form, and every mistake with its place."""

import json
from typing import Any

import pytest

from mixer import Corpus, Ledger, Plan, Schedule, ScheduleError
from mixer.changes import parse_changes
from mixer.kept import Kept


def test_every_verb_has_one_form() -> None:
    problems: list[str] = []
    written = {
        "web": {"rename": {"from": "c4"}},
        "a": {"quarantine": {"shards": [3], "samples": [17, [100, 200], 18]}},
        "b": {"skip": {"samples": 9}},
        "c": {"grow": {"shard_sizes": [5, 0], "first_shard": 2}},
        "d": {"add": {"then": "a", "shard_sizes": [1], "max_epochs": 2}},
        "e": {"remove": {}},
        "f": {"split": {"shards": [[0, 2], 2], "from": "a"}},
    }
    parsed = parse_changes(written, "$", problems)
    assert problems == []
    assert list(parsed) == ["a", "b", "c", "d", "e", "f", "web"]
    assert parsed["a"] == {"quarantine": {"samples": [[17, 19], [100, 200]], "shards": [[3, 4]]}}
    assert parsed["f"] == {"split": {"from": "a", "shards": [[0, 3]]}}
    assert parse_changes(parsed, "$", problems) == parsed


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({}, "expected corpora and what changes"),
        ({"c4": {}}, "expected one of add, remove, grow, quarantine, skip, rename, split"),
        ({"c4": {"drop": {}}}, "found {'drop': {}} @ $.corpora.c4"),
        ({"c4": {"skip": {"samples": 1}, "remove": {}}}, "expected one of"),
        ({"": {"remove": {}}}, "a corpus name must be a non-empty string"),
        ({"c4": {"remove": {"why": 1}}}, "unknown key 'why', allowed are none @ $.corpora.c4.remove"),
        ({"c4": {"skip": {"samples": 1, "shards": [1]}}}, "unknown key 'shards', allowed are samples"),
        ({"c4": {"skip": {}}}, "'samples' is missing @ $.corpora.c4.skip"),
        ({"c4": {"skip": {"samples": 0}}}, "at least 1, found 0 @ $.corpora.c4.skip.samples"),
        ({"c4": {"skip": {"samples": True}}}, "found True"),
        ({"c4": {"quarantine": {}}}, "give samples or shards @ $.corpora.c4.quarantine"),
        ({"c4": {"quarantine": []}}, "of which the keys are samples, shards, found []"),
        ({"c4": {"grow": {"first_shard": -1, "shard_sizes": [1]}}}, "the number of a shard, found -1"),
        ({"c4": {"grow": {"first_shard": 1, "shard_sizes": [-1]}}}, "shard sizes are a non-empty list"),
        ({"c4": {"add": {"shard_sizes": []}}}, "shard sizes are a non-empty list"),
        ({"web": {"rename": {"from": ""}}}, "the name of a corpus, found '' @ $.corpora.web.rename.from"),
        ({"web": {"split": {"from": "c4", "shards": [[2, 1]]}}}, "@ $.corpora.web.split.shards[0]"),
    ],
)
def test_mistakes_have_their_place(wrong: Any, problem: str) -> None:
    problems: list[str] = []
    parse_changes(wrong, "$.corpora", problems)
    assert any(problem in found for found in problems), problems
    with pytest.raises(ScheduleError):
        Schedule.from_dict(
            {"phases": [{"start": 0, "mixture": {"c4": 1}}], "changes": [{"start": 1, "corpora": wrong}]},
            num_steps=9, global_batch_size=1, seq_len=1,
        )  # fmt: skip


def test_all_mistakes_of_a_schedule_come_at_once() -> None:
    with pytest.raises(ScheduleError) as caught:
        Schedule.from_dict(
            {
                "phases": [{"start": 0, "mixture": {"c4": 0.5}}],
                "changes": [
                    {"start": 99, "corpora": {"c4": {"remove": {}}}},
                    {"start": 1},
                    {"start": 1, "corpora": {}},
                ],
            },
            num_steps=9, global_batch_size=1, seq_len=1,
        )  # fmt: skip
    assert len(caught.value.problems) == 4


def test_what_a_checkpoint_keeps_is_read_back_as_it_was() -> None:
    phases = [
        {"start": 0, "mixture": {"c4": 0.5, "math": 0.5}},
        {"start": 30, "mixture": {"web": 0.7, "math": 0.3}, "ramp": {"shape": "cosine", "length": 9}},
    ]
    changes = [
        {"start": 5, "corpora": {"c4": {"quarantine": {"samples": [[0, 9]]}}}},
        {"start": 20, "corpora": {"web": {"rename": {"from": "c4"}}}},
        {"start": 50, "corpora": {"web": {"skip": {"samples": 3}}}},
    ]
    sizes = {"num_steps": 60, "global_batch_size": 4, "seq_len": 1}
    base = Schedule.from_dict({"phases": phases, "changes": changes}, **sizes)
    who = {"author": "a", "reason": "r", "time": "t"}
    ledger = Ledger(base=base).propose({"mixture": {"web": 1}}, parent=0, effective_step=40, frontier=40, **who)
    corpora = {"c4": Corpus(shard_sizes=[400]), "math": Corpus(shard_sizes=[30], max_epochs=1, then="c4")}
    plan = Plan(ledger.schedule, corpora, data_seed=1)
    kept = ledger.keep(plan.past(38))
    assert kept.past.spent == ("math",)
    assert [change.verb for change, _ in kept.past.changes] == ["quarantine", "rename"]
    for usual in (sorted(plan.names), ["c4", "math"]):
        assert Kept.from_dict(json.loads(json.dumps(kept.to_dict(usual))), usual, base) == kept
