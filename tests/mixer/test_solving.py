"""mixer.solving: answers against plans, of which theirs holds to the limit and the next does not; the paper's table."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer import Corpus, MixerError, Plan, Ramp, Schedule
from mixer.solving import Answer, Solver, Use, needed_by, with_use
from mixer.weights import UNIT
from tests.strategies import schedules, shard_sizes

OFF = 4  # samples: a plan may be two off its target, at both of two starts
ramps = st.none() | st.builds(Ramp, shape=st.sampled_from(["linear", "cosine"]), length=st.integers(1, 12))


def phases(*rows: tuple[int, dict[str, float]], num_steps: int = 100, batch: int = 10) -> Schedule:
    obj = {"phases": [{"start": start, "mixture": mixture} for start, mixture in rows]}
    return Schedule.from_dict(obj, num_steps=num_steps, global_batch_size=batch, seq_len=8)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Solver, Use]:
    """A schedule, corpora so small that most are read again, and a use of one of them in what is not frozen."""
    schedule = draw(schedules(max_steps=40))
    corpora = {name: draw(shard_sizes()) for name in (*schedule.names, "new")}
    frozen = draw(st.sampled_from([0, 0, schedule.num_steps // 3]))
    solver = Solver(schedule, corpora, frozen=frozen, max_epochs=draw(st.integers(1, 3)))
    start = draw(st.integers(frozen, schedule.num_steps - 1))
    used = {name for phase in schedule.phases for name, weight in phase.mixture.items() if weight}
    use = Use(
        corpus=draw(st.sampled_from([name for name in sorted(corpora) if used != {name}])),  # not one that is alone
        weight=draw(st.sampled_from([1, 10**6, UNIT // 10, UNIT // 3, UNIT - 1])),
        start=start,
        end=draw(st.none() | st.integers(start + 1, schedule.num_steps)),
        ramp=draw(ramps),
    )
    return solver, use


def reads(solver: Solver, schedule: Schedule, corpus: str) -> int:
    """Samples of a corpus that a run under `schedule` reads, by a plan of the corpora as they are."""
    corpora = {name: one.shard_sizes for name, one in solver._corpora.items()}
    return Plan(schedule, corpora, data_seed=5).drawn_before(schedule.num_steps)[corpus]


def limit(solver: Solver, corpus: str) -> int:
    return solver.max_epochs * int(np.sum(solver._corpora[corpus].shard_sizes))


def used_from(solver: Solver, use: Use, start: int) -> Schedule:
    """What `earliest_start` is about, in its own words: the corpus out from `frozen` on, then in from `start` on."""
    without = with_use(solver.schedule, Use(corpus=use.corpus, start=solver.frozen))
    return with_use(without, replace(use, start=start))


@given(question=questions())
def test_the_earliest_start_holds_to_the_limit_and_the_step_before_it_does_not(question: tuple[Solver, Use]) -> None:
    solver, use = question
    use = replace(use, start=None)
    most = limit(solver, use.corpus)
    end = use.end or solver.schedule.num_steps
    found = {s: reads(solver, used_from(solver, use, s), use.corpus) for s in range(solver.frozen, end)}
    answer = solver.earliest_start(use)
    if answer is None:
        assert all(count > most - OFF for count in found.values())
        assert found[end - 1] > most
        return
    start = answer.use.start
    assert start is not None
    assert found[start] <= most
    assert answer.schedule == used_from(solver, use, start)
    assert start == solver.frozen or found[start - 1] > most
    assert all(found[earlier] > most - OFF for earlier in range(solver.frozen, start))


@given(question=questions())
def test_the_largest_weight_holds_to_the_limit_and_the_next_does_not(question: tuple[Solver, Use]) -> None:
    solver, use = question
    most = limit(solver, use.corpus)
    answer = solver.largest_weight(replace(use, weight=None))
    weight = 0 if answer is None else answer.use.weight
    assert weight is not None
    if answer is not None:
        assert answer.schedule == solver.what_if(replace(use, weight=weight)).schedule
        assert reads(solver, answer.schedule, use.corpus) <= most
    if weight < UNIT:
        assert reads(solver, solver.what_if(replace(use, weight=weight + 1)).schedule, use.corpus) > most


@given(question=questions())
def test_a_corpus_that_is_moved_as_written(question: tuple[Solver, Use]) -> None:
    solver, use = question
    corpus = use.corpus
    written = [phase for phase in solver.schedule.phases if phase.end > solver.frozen and phase.mixture.get(corpus, 0)]
    if not written:
        return
    answer, most = solver.earliest_start(Use(corpus=corpus)), limit(solver, corpus)
    if answer is None:
        last = solver._starts_as_written(corpus)(solver.schedule.num_steps - 1)
        assert reads(solver, last, corpus) > most
        return
    start = answer.use.start
    assert start is not None
    assert reads(solver, answer.schedule, corpus) <= most
    if start > solver.frozen:
        assert reads(solver, solver._starts_as_written(corpus)(start - 1), corpus) > most
    for step in range(start, solver.schedule.num_steps):
        phase = next(phase for phase in reversed(solver.schedule.phases) if phase.start <= step)
        in_ramp = (
            phase.ramp is not None and step < phase.start + phase.ramp.length
        )  # from what stood before, moved or not
        if step >= max(start, written[0].start) + 20 and not in_ramp:  # 20: the longest ramp of these schedules
            assert answer.schedule.weights_ppb(step) == solver.schedule.weights_ppb(step)


@given(question=questions(), back=ramps)
def test_a_weight_is_set_where_it_is_asked_for_and_nothing_else_changes(
    question: tuple[Solver, Use], back: Any
) -> None:
    solver, use = question
    schedule, start, weight = solver.schedule, use.start or 0, use.weight or 0
    end = use.end or schedule.num_steps
    changed = with_use(schedule, use, ramp_back=back)
    ramped = any(phase.ramp for phase in schedule.phases if phase.start <= end < phase.end)
    for step in range(schedule.num_steps):
        was, now = schedule.weights_ppb(step), changed.weights_ppb(step)
        assert sum(now.values()) == UNIT
        if step < start or (step == end and not back and not ramped):
            assert {n: w for n, w in now.items() if w} == {n: w for n, w in was.items() if w}
    for phase in changed.phases:
        if start <= phase.start < end:
            assert phase.mixture[use.corpus] == weight
            assert phase.start != start or phase.ramp == (use.ramp if start else None)
            before = next(was.mixture for was in schedule.phases if was.start <= phase.start < was.end)
            others = {name: share for name, share in before.items() if name != use.corpus and share}
            for name, share in others.items():
                due = Fraction(share * (UNIT - weight), sum(others.values()))
                assert abs(phase.mixture.get(name, 0) - due) < 1


def test_where_a_corpus_stands_alone_the_others_share_as_they_did_before() -> None:
    schedule = phases((0, {"c4": 0.5, "code": 0.5}), (40, {"math": 1.0}))
    changed = with_use(schedule, Use(corpus="math", weight=UNIT // 5, start=60))
    assert changed.weights(60) == {"c4": 0.4, "code": 0.4, "math": 0.2}
    assert changed.weights(59)["math"] == 1
    first = with_use(phases((0, {"math": 1.0}), (40, {"c4": 1.0})), Use(corpus="math", end=20))
    assert first.weights(0) == {"c4": 1.0}
    with pytest.raises(MixerError, match="'c4' is the only corpus of the schedule: nothing could take the rest"):
        with_use(phases((0, {"c4": 1.0})), Use(corpus="c4", weight=UNIT // 2))


def test_a_switchpoint_that_is_moved_takes_its_ramp_with_it() -> None:
    rows = [{"start": 0, "mixture": {"c4": 1.0}},
            {"start": 50, "mixture": {"c4": 0.5, "math": 0.5}, "ramp": {"shape": "linear", "length": 10}}]  # fmt: skip
    schedule = Schedule.from_dict({"phases": rows}, num_steps=100, global_batch_size=10, seq_len=8)
    for samples, start in ((225, 50), (100, 75), (400, 15)):  # all of it, less half the ramp
        answer = Solver(schedule, {"c4": [10**6], "math": [samples]}).earliest_start(Use(corpus="math"))
        assert answer is not None
        assert answer.use.start == start
        assert answer.forecast.first_repeat_step is None
        assert answer.schedule.weights(start)["math"] == 0.025
        assert answer.schedule.weights(start + 10)["math"] == 0.5
        assert answer.schedule.weights(99) == schedule.weights(99)


def test_what_is_frozen_stays_and_counts() -> None:
    schedule = phases((0, {"c4": 0.8, "math": 0.2}))
    solver = Solver(schedule, {"c4": [10**6], "math": [100]}, frozen=40)  # 80 are read below
    answer = solver.largest_weight(Use(corpus="math"))
    assert answer is not None
    assert (answer.use.start, round((answer.use.weight or 0) / UNIT, 2)) == (40, 0.03)  # 20 of 600
    assert answer.schedule.weights(39) == schedule.weights(39)
    later = solver.earliest_start(Use(corpus="math"))
    assert later is not None
    assert later.use.start == 90
    assert later.schedule.weights(39) == schedule.weights(39)
    assert later.schedule.weights(40) == {"c4": 1.0}
    assert Solver(schedule, {"c4": [10**6], "math": [80]}, frozen=41).earliest_start(Use(corpus="math")) is None
    assert Solver(schedule, {"c4": [10**6], "math": [80]}, frozen=41).largest_weight(Use(corpus="math")) is None


def test_a_share_that_is_handed_on_counts_with_the_corpus_that_gets_it() -> None:
    schedule = phases((0, {"c4": 0.8, "flan": 0.2}))
    corpora: dict[str, Any] = {"c4": [10**6], "flan": Corpus(shard_sizes=[100], max_epochs=1, then="math")}
    solver = Solver(schedule, {**corpora, "math": [200]})
    answer = solver.earliest_start(Use(corpus="math", weight=UNIT // 2))
    assert answer is not None
    found = Plan(answer.schedule, {**corpora, "math": Corpus(shard_sizes=[200], max_epochs=1)}, data_seed=1)
    assert found.drawn_before(100)["flan"] == 100
    assert 190 <= found.drawn_before(100)["math"] <= 200


def test_changes_of_the_corpora_are_reckoned_with() -> None:
    rows = [{"start": 0, "mixture": {"c4": 0.5, "math": 0.5}}]
    changes = [
        {"start": 50, "corpora": {"math": {"grow": {"first_shard": 2, "shard_sizes": [60]}}}},
        {"start": 60, "corpora": {"math": {"quarantine": {"shards": [2]}}, "new": {"add": {"shard_sizes": [40]}}}},
    ]
    schedule = Schedule.from_dict({"phases": rows, "changes": changes}, num_steps=100, global_batch_size=10, seq_len=8)
    solver = Solver(schedule, {"c4": [10**6], "math": [100, 100]})
    for answer in (solver.earliest_start(Use(corpus="math")), solver.largest_weight(Use(corpus="math"))):
        assert answer is not None
        assert answer.forecast.first_repeat_step is None
        assert (
            195 <= answer.forecast.samples <= 210
        )  # what it has after all, and what of the new shard was read by then
    with_new = solver.earliest_start(Use(corpus="new", weight=UNIT // 10))
    assert with_new is not None
    assert with_new.use.start == 60


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (Use(corpus="mth", weight=1), "unknown corpus 'mth', known are c4, math"),
        (Use(corpus="math", weight=0), "a weight is above 0 and at most 1, found 0 for 'math'"),
        (Use(corpus="math", weight=UNIT + 1), "found 1 for 'math'"),
        (Use(corpus="math", weight=1, start=5), "steps 5 to 100: what may change are steps 10 to 100"),
        (Use(corpus="math", weight=1, start=60, end=60), "steps 60 to 60"),
        (Use(corpus="math", weight=1, end=101), "steps 10 to 101"),
        (Use(corpus="math"), "the schedule does not use 'math' from step 10 on: say from where, or at which weight"),
    ],
)
def test_questions_that_have_no_sense(use: Use, message: str) -> None:
    solver = Solver(phases((0, {"c4": 1.0})), {"c4": [100], "math": [100]}, frozen=10)
    with pytest.raises(MixerError, match=message):
        solver.earliest_start(use)
    with pytest.raises(MixerError, match="say at which weight and from which step on 'math' would be used"):
        solver.what_if(Use(corpus="math"))


# -- the paper's table of starts: 61,035 steps of 1,024 samples of 2,048 tokens, C4 below the start

AVAILABLE = {"starcoder": 196, "math": 12, "flan": 3.5, "knowledgeqa": 9.6, "dclm": 51}  # 10^9 tokens
TABLE = [
    # corpus, share, the paper's start, earliest start, largest weight there, tokens read (10^9), epochs, repeats from
    ("starcoder", "0.20", 6_000, 0, "1", 23.1, 0.118, None),
    ("math", "0.12", 20_000, 13_352, "0.139443", 10.3, 0.861, None),
    ("flan", "0.05", 40_000, 27_657, "0.079340", 2.2, 0.630, None),
    ("knowledgeqa", "0.20", 40_000, 38_147, "0.217620", 8.8, 0.919, None),
    ("dclm", "0.20", 40_000, 0, "1", 8.8, 0.173, None),
    ("starcoder", "0.15", 10_000, 0, "1", 16.1, 0.082, None),  # code + math
    ("math", "0.05", 10_000, 0, "0.112120", 5.4, 0.446, None),
    ("starcoder", "1", 40_000, 0, "1", 44.1, 0.225, None),  # continued pretraining
    ("math", "1", 56_000, 55_313, "1", 10.6, 0.880, None),
    ("math", "1", 50_000, 55_313, "0.518536", 23.1, 1.929, 55_722),  # as in the paper: flagged
    ("flan", "0.15", 40_000, 49_909, "0.079340", 6.6, 1.891, 51_126),  # flagged
]


def paper_answers(corpus: str, weight: int, start: int) -> tuple[Answer, Answer, Answer]:
    base = phases((0, {"c4": 1.0}), num_steps=61_035, batch=1024)
    base = replace(base, seq_len=2048)
    corpora = {"c4": [10**9], corpus: [int(AVAILABLE[corpus] * 10**9) // 2048]}
    solver = Solver(base, corpora)
    asked = Use(corpus=corpus, weight=weight, start=start)
    answers = solver.what_if(asked), solver.earliest_start(replace(asked, start=None)), solver.largest_weight(
        replace(asked, weight=None)
    )  # fmt: skip
    assert None not in answers
    return answers  # type: ignore[return-value]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}-{row[1]}-{row[2]}")
def test_the_papers_table_of_starts(row: tuple[Any, ...]) -> None:
    corpus, share, start, earliest, largest, tokens, epochs, repeats = row
    weight = int(Fraction(share) * UNIT)
    chosen, first, most = paper_answers(corpus, weight, start)
    assert round(chosen.forecast.tokens / 1e9, 1) == tokens
    assert round(chosen.forecast.epochs, 3) == epochs
    assert chosen.forecast.first_repeat_step == repeats
    assert first.use.start == earliest
    assert (earliest <= start) == (repeats is None)
    assert (most.use.weight or 0) // 1000 == int(Fraction(largest) * 10**6)
    # the same from tokens alone, without a plan: within the two samples that it may be off
    samples = int(AVAILABLE[corpus] * 10**9) // 2048
    assert 0 <= earliest - max(0, 61_035 - Fraction(samples * UNIT, weight * 1024)) < 2
    assert abs((most.use.weight or 0) - min(UNIT, Fraction(samples * UNIT, (61_035 - start) * 1024))) < 500


def test_answers_come_at_any_scale() -> None:
    """10^9 steps of 4,096 samples, a ramp of thousands of pieces: as many plans, not more of anything else."""
    schedule = phases((0, {"c4": 1.0}), num_steps=10**9, batch=4096)
    solver = Solver(schedule, {"c4": [2**40] * 4, "math": [2**40]})
    ramp = Ramp(shape="cosine", length=500)
    answer = solver.earliest_start(Use(corpus="math", weight=UNIT // 2, ramp=ramp))
    assert answer is not None
    assert answer.use.start == 10**9 - 2**29 - 250
    assert answer.forecast.samples == 2**40


# -- what must be on disk


@given(schedule=schedules(max_steps=20), data=st.data(), window=st.integers(1, 4))
def test_what_is_needed_covers_what_is_read(schedule: Schedule, data: st.DataObject, window: int) -> None:
    corpora = {name: data.draw(shard_sizes(), label=name) for name in (*schedule.names, "unused")}
    plan = Plan(schedule, corpora, data_seed=3, shuffle_window=window)
    step = data.draw(st.integers(0, schedule.num_steps))
    shard_bytes = {name: [100 + size for size in sizes] for name, sizes in corpora.items() if name != "c4"}
    needs = needed_by(plan, step, shard_bytes)
    batches = [plan.batch(index) for index in range(step)]
    for index, name in enumerate(plan.names):
        need, sizes = needs[name], corpora[name]
        samples = {int(sample) for batch in batches for sample in batch.sample_id[batch.corpus == index]}
        touched = {int(np.searchsorted(np.cumsum(sizes), sample, side="right")) for sample in samples}
        assert need.samples == len(samples)
        assert (need.reads, need.tokens) == (plan.drawn_before(step)[name], plan.drawn_before(step)[name] * 8)
        assert len(touched) <= need.shards <= len(touched) + (window - 1) * bool(touched)
        assert need.num_shards == len(sizes)
        if need.epochs >= 1:
            assert need.shards == len(touched) == sum(size > 0 for size in sizes)
            assert name == "c4" or need.bytes == sum(100 + size for size in sizes if size)
        assert (need.bytes is None) == (name == "c4")
        assert need.bytes is None or need.bytes >= sum(100 + sizes[shard] for shard in touched)
