"""A run's life as a state machine: edits, changes of its corpora, forks and resumes, in any order, against lists.

After whatever happened, the plan says slot by slot what the plain oracle reads from its lists, what is below the
frontier stays as it was, every count agrees with reading everything, and what does not fit is refused and changes
nothing.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from mixer import (
    Corpus,
    FrozenStepError,
    Ledger,
    LedgerError,
    MixerError,
    Plan,
    Schedule,
    ScheduleError,
    StaleParentError,
)
from mixer.changes import Change
from mixer.comparing import compare
from mixer.forking import Replay, fork
from mixer.reading import Reading
from tests.oracles import Refused, SlowRun, slow_batch_size, slow_plan
from tests.strategies import NAMES, batch_sizes, corpus_changes, mixtures, phase_lists

Slot = tuple[str, int, int, int]  # corpus, ordinal, epoch, sample_id

VERBS = ("quarantine", "skip", "grow", "split", "rename", "add", "remove")


@dataclass
class Run:
    """A run as it stands. `slots` [num_steps][batch size of the step] is everything it reads, by its plan."""

    ledger: Ledger
    plan: Plan
    slots: list[list[Slot]]
    frontier: int = 0
    resumed: Ledger | None = None
    """What a process that resumed it goes by: of the past, it has only what a checkpoint kept."""


class Lifecycle(RuleBasedStateMachine):
    runs: list[Run]

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        names = NAMES[: data.draw(st.integers(1, 3))]
        self.seed, self.window = data.draw(st.integers(0, 2**70)), data.draw(st.integers(1, 4))
        self.corpora = {name: data.draw(corpora(names)) for name in names}
        num_steps, batch = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 12))
        phases = data.draw(phase_lists(names, 0, num_steps, 3))
        obj = {"phases": phases, "batch_sizes": data.draw(batch_sizes(num_steps, 12))}
        schedule = Schedule.from_dict(obj, num_steps=num_steps, global_batch_size=batch, seq_len=8)
        self.runs = []
        if not self.accept(None, Ledger(base=schedule)):
            self.corpora = {name: Corpus(shard_sizes=corpus.shard_sizes) for name, corpus in self.corpora.items()}
            assert self.accept(None, Ledger(base=schedule))

    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        """Steps are read, and so fixed for ever; nor can anybody change what he has not looked at."""
        run = self.run(data)
        run.frontier += data.draw(st.integers(0, min(10, run.ledger.base.num_steps - run.frontier)))
        before, change = run.ledger.to_dict(), {"mixture": {"nobody": 1}}
        stale = data.draw(st.integers(-1, run.ledger.number + 1).filter(lambda n: n != run.ledger.in_force))
        with pytest.raises(StaleParentError):
            propose(run.ledger, change, run.frontier, parent=stale, frontier=run.frontier)
        if run.frontier:
            step = data.draw(st.integers(0, run.frontier - 1))
            with pytest.raises(FrozenStepError):
                propose(run.ledger, change, step, frontier=run.frontier)
        assert run.ledger.to_dict() == before

    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        """Another mixture from some step on, at once or by a ramp, or several phases."""
        run, step = self.run_and_step(data)
        names = tuple(sorted({*self.shapes(run, step)[0], *data.draw(st.sets(st.sampled_from(NAMES), max_size=1))}))
        phases = data.draw(phase_lists(names, step, run.ledger.base.num_steps, 3))
        if step == 0:
            phases[0].pop("ramp", None)
        change = {"schedule": {"phases": phases}}
        if len(phases) == 1:
            change = {key: value for key, value in phases[0].items() if key != "start"}
        self.propose(run, change, step)

    @rule(data=st.data(), at_once=st.booleans())
    def go_on_as_before(self, data: st.DataObject, at_once: bool) -> None:
        """The mixture of an earlier step; that of the step before lets its stretch go on."""
        run, step = self.run_and_step(data)
        earlier = max(step - 1, 0) if at_once else data.draw(st.integers(0, run.ledger.base.num_steps - 1))
        self.propose(run, {"mixture": run.ledger.schedule.weights(earlier)}, step)

    @rule(data=st.data(), size=st.integers(1, 12), with_mixture=st.booleans())
    def change_the_batch_size(self, data: st.DataObject, size: int, with_mixture: bool) -> None:
        """From some step on, in place of what was planned there."""
        run, step = self.run_and_step(data)
        change: dict[str, Any] = {"global_batch_size": size}
        if with_mixture:
            change["mixture"] = data.draw(mixtures(tuple(sorted(self.shapes(run, step)[0]))))
        self.propose(run, change, step)

    @rule(data=st.data(), verb=st.sampled_from(["quarantine", "skip"]))
    def leave_out(self, data: st.DataObject, verb: str) -> None:
        self.change(data, verb)

    @rule(data=st.data())
    def grow(self, data: st.DataObject) -> None:
        self.change(data, "grow")

    @rule(data=st.data(), verb=st.sampled_from(["split", "rename"]))
    def give_a_new_name(self, data: st.DataObject, verb: str) -> None:
        self.change(data, verb)

    @rule(data=st.data(), verbs=st.lists(st.sampled_from(VERBS), min_size=1, max_size=3))
    def change_with_the_mixture(self, data: st.DataObject, verbs: list[str]) -> None:
        """Several corpora at once, and a mixture of those that are there then."""
        run, step = self.run_and_step(data)
        shapes, gone = self.shapes(run, step)
        changes: dict[str, Any] = {}
        for verb in verbs:
            changes |= data.draw(corpus_changes(verb, shapes, gone))
        removed = {name for name, change in changes.items() if "remove" in change}
        names = tuple(sorted({*shapes, *changes} - removed))
        if names:
            self.propose(run, {"corpora": changes, "mixture": data.draw(mixtures(names))}, step)

    @precondition(lambda self: any(map(still_open, self.runs)))
    @rule(data=st.data())
    def supersede(self, data: st.DataObject) -> None:
        """What the trainer never got to know, since it had passed the step by then, never came into force."""
        run = data.draw(st.sampled_from([number for number, run in enumerate(self.runs) if still_open(run)]))
        number = data.draw(st.sampled_from(still_open(self.runs[run])))
        self.accept(self.runs[run], self.runs[run].ledger.supersede([number], "too late"))

    @precondition(lambda self: len(self.runs) < 4)
    @rule(data=st.data(), replay=st.sampled_from(["continue", "unseen"]))
    def fork(self, data: st.DataObject, replay: Replay) -> None:
        """Another run with the same past, which lives on beside this one."""
        run = self.run(data)
        step = data.draw(st.integers(0, run.ledger.base.num_steps - 1))
        until = data.draw(st.integers(step, run.ledger.base.num_steps))
        try:
            ledger = fork(run.ledger, run.plan, step=step, replay=replay, until=until, author="ada", time="-")
        except LedgerError:
            assert replay == "unseen"
            assert changes_between(run, step, until) or reads_across_epochs(run, step, until)
            return
        assert replay == "continue" or not reads_across_epochs(run, step, until)
        child = Run(run.ledger, run.plan, run.slots, step)
        if self.accept(child, ledger):
            if replay == "unseen":
                seen = {slot[:1] + slot[2:] for batch in run.slots[step:until] for slot in batch}
                assert not seen & {slot[:1] + slot[2:] for batch in child.slots[step:] for slot in batch}
            self.runs.append(child)

    @rule(data=st.data())
    def compare(self, data: st.DataObject) -> None:
        """Two runs beside each other: what both have read."""
        run, other = self.run(data), self.run(data)
        step = data.draw(st.integers(0, run.ledger.base.num_steps))
        found = compare(run.plan, other.plan, step=step)
        assert run.slots[: found.same_below] == other.slots[: found.same_below]
        ours, theirs = (Counter((n, e, s) for batch in r.slots[:step] for n, _, e, s in batch) for r in (run, other))
        common = Counter(name for name, _, _ in (ours & theirs).elements())
        assert {n: reads.common for n, reads in found.corpora.items() if reads.common is not None} == {
            n: common[n] for n, reads in found.corpora.items() if reads.common is not None
        }

    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """From a checkpoint, which keeps of the past only what it left."""
        run = self.run(data)
        known = run.resumed or run.ledger
        last = max(run.frontier, known.past.step)
        step = data.draw(st.just(last) | st.integers(known.past.step, last))
        state = json.loads(json.dumps(self.reading(known, run.frontier).state(step)))
        resumed = self.reading(Ledger(base=run.ledger.base), 0)
        resumed.restore(state)
        assert (resumed.next_step, resumed.frontier) == (step, run.frontier)
        assert resumed.step_after(sum(map(len, run.slots[:step])), 0) == step
        assert len(resumed.plan.schedule.batch_sizes) <= len(run.plan.schedule.batch_sizes)
        assert everything(resumed.plan, resumed.ledger.past.step) == run.slots[resumed.ledger.past.step :]
        run.resumed = resumed.ledger

    def change(self, data: st.DataObject, verb: str) -> None:
        """Of one corpus; the weights stay as they are."""
        run, step = self.run_and_step(data)
        self.propose(run, {"corpora": data.draw(corpus_changes(verb, *self.shapes(run, step)))}, step)

    def run(self, data: st.DataObject) -> Run:
        return self.runs[data.draw(st.integers(0, len(self.runs) - 1))]

    def run_and_step(self, data: st.DataObject) -> tuple[Run, int]:
        """A run and a step from which on it may be changed."""
        run = self.run(data)
        last = run.ledger.base.num_steps - 1
        first = min(run.frontier, last)
        return run, data.draw(st.just(first) | st.integers(first, last))

    def shapes(self, run: Run, step: int) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Shard sizes of the corpora that are in the run at `step`, and of those that were."""
        slow = SlowRun(self.corpora, set(), self.seed, self.window)
        for change in run.ledger.schedule.changes:
            if change.step <= step:
                slow.act(change)
        sizes = {name: order.sizes for name, order in slow.orders.items()}
        present = {name: sizes[name] for name in slow.present}
        return present, {name: sizes[name] for name in sizes.keys() - present.keys()}

    def propose(self, run: Run, change: Mapping[str, Any], step: int) -> None:
        """One more revision, if it fits."""
        if step < run.frontier:
            with pytest.raises(FrozenStepError):
                propose(run.ledger, change, step, frontier=run.frontier)
        else:
            self.accept(run, propose(run.ledger, change, step, frontier=run.frontier))

    def accept(self, run: Run | None, ledger: Ledger) -> bool:
        """Let the run go on by this ledger, or the first run begin; False where oracle and plan refuse it."""
        check_ledger(ledger)
        facts = (self.corpora, self.seed, self.window)
        try:
            slots = list(slow_plan(ledger.schedule, *facts))
        except Refused:
            with pytest.raises(MixerError):
                self.plan(ledger)
            return False
        plan = self.plan(ledger)
        assert everything(plan) == slots
        check_counts(plan, slots)
        if any(change.verb == "grow" for change in ledger.schedule.changes):
            grown = {
                name: replace(self.corpora[name], shard_sizes=plan.corpora[name].shard_sizes) for name in self.corpora
            }
            assert everything(self.plan(ledger, grown)) == slots
        if run is None:
            self.runs.append(Run(ledger, plan, slots))
        else:
            check_what_stays(run, ledger, slots, capped=any(c.max_epochs for c in self.corpora.values()))
            run.ledger, run.plan, run.slots = ledger, plan, slots
            self.follow(run)
        return True

    def follow(self, run: Run) -> None:
        """Who resumed the run is told the new revisions, and reads the same; what it has merely kept must stand."""
        kept = run.resumed.kept if run.resumed else None
        if kept and {r.number for r in run.ledger.revisions[: kept.number] if r.superseded} != {*kept.superseded}:
            run.resumed = None
        if run.resumed:
            run.resumed = run.resumed.extend(run.ledger.revisions)
            start = run.resumed.past.step
            assert everything(self.plan(run.resumed), start) == run.slots[start:]

    def reading(self, ledger: Ledger, frontier: int) -> Reading:
        return Reading(
            ledger,
            self.corpora,
            fingerprints=dict.fromkeys(self.corpora, "same"),
            bases=dict.fromkeys(self.corpora, 0),
            data_seed=self.seed,
            shuffle_window=self.window,
            frontier=frontier,
        )

    def plan(self, ledger: Ledger, corpora: Mapping[str, Corpus] | None = None) -> Plan:
        return Plan(
            ledger.schedule, corpora or self.corpora, data_seed=self.seed, shuffle_window=self.window, past=ledger.past
        )


@st.composite
def corpora(draw: st.DrawFn, names: tuple[str, ...]) -> Corpus:
    """A small corpus; every second one may not be repeated for ever."""
    sizes = [*draw(st.lists(st.integers(0, 12), max_size=5)), draw(st.integers(1, 12))]
    if draw(st.booleans()):
        return Corpus(shard_sizes=sizes)
    return Corpus(shard_sizes=sizes, max_epochs=draw(st.integers(1, 3)), then=draw(st.sampled_from(names)))


def propose(
    ledger: Ledger, change: Mapping[str, Any], step: int, *, frontier: int, parent: int | None = None
) -> Ledger:
    parent = ledger.in_force if parent is None else parent
    by = {"author": "ada", "reason": "a better mixture", "time": "2026-11-21T00:00:00Z"}
    return ledger.propose(change, parent=parent, effective_step=step, frontier=frontier, **by)


def still_open(run: Run) -> list[int]:
    """The revisions in force that change nothing below the frontier."""
    return [r.number for r in run.ledger.revisions if not r.superseded and r.effective_step >= run.frontier]


def changes_between(run: Run, start: int, end: int) -> bool:
    return any(start < change.step < end for change in run.ledger.schedule.changes)


def reads_across_epochs(run: Run, start: int, end: int) -> bool:
    epochs = {(name, epoch) for batch in run.slots[start:end] for name, _, epoch, _ in batch}
    return len(epochs) > len({name for name, _ in epochs})


def everything(plan: Plan, start: int = 0) -> list[list[Slot]]:
    """Every slot of every step from `start` on, in order."""
    found = []
    for step in range(start, plan.schedule.num_steps):
        batch = plan.batch(step)
        columns = (batch.corpus, batch.ordinal, batch.epoch, batch.sample_id)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        found.append([(plan.names[corpus], *rest) for corpus, *rest in rows])
    return found


def sequence(corpus: str, slots: list[list[Slot]]) -> list[Slot]:
    """What is read of a corpus, in the order in which it is drawn."""
    return sorted(slot for step in slots for slot in step if slot[0] == corpus)


def check_ledger(ledger: Ledger) -> None:
    """At each step the newest revision from there or before says what is read, and every change is made in order."""
    assert Ledger.from_dict(json.loads(json.dumps(ledger.to_dict()))) == ledger
    in_force = [revision for revision in ledger.revisions if revision.superseded is None]
    says = [(0, ledger.base.to_dict()), *((r.effective_step, r.schedule) for r in in_force if r.schedule)]
    for step in range(ledger.base.num_steps):
        _, schedule = [said for said in says if said[0] <= step][-1]
        phase = [phase for phase in schedule["phases"] if steps_in(phase["start"]) <= step][-1]
        if "ramp" not in phase or steps_in(phase["start"]) + steps_in(phase["ramp"]["length"]) <= step:
            assert ledger.schedule.weights(step) == phase["mixture"]
        sizes = [r.global_batch_size for r in in_force if r.effective_step <= step and r.global_batch_size]
        assert ledger.schedule.batch_size(step) == (sizes[-1] if sizes else slow_batch_size(ledger.base, step))
    made = [(r.effective_step, r.number, name) for r in in_force for name in r.corpora]
    assert [(change.step, change.name) for change in ledger.schedule.changes] == [(s, n) for s, _, n in sorted(made)]


def steps_in(time: str) -> int:
    return int(time.removesuffix("ba"))


def check_counts(plan: Plan, slots: list[list[Slot]]) -> None:
    """What the plan counts, inverts and forecasts is what reading everything finds."""
    drawn = Counter[str]()
    steps: dict[str, list[int]] = {}
    repeats: dict[str, int] = {}
    places: dict[tuple[str, int], list[tuple[int, int, int]]] = {}
    for step, batch in enumerate(slots):
        assert plan.drawn_before(step) == {name: drawn[name] for name in plan.names}
        counts = Counter(name for name, *_ in batch)
        assert plan.counts(step) == counts
        assert {name for name, weight in plan.weights(step).items() if weight} >= counts.keys()
        drawn += counts
        for slot, (name, ordinal, epoch, sample) in enumerate(batch):
            places.setdefault((name, sample), []).append((ordinal, step, slot))
            if epoch:
                repeats.setdefault(name, step)
        for name, count in counts.items():
            steps.setdefault(name, []).extend([step] * count)
    for name, forecast in plan.forecast().items():
        assert (forecast.samples, forecast.tokens) == (drawn[name], drawn[name] * 8)
        assert forecast.first_repeat_step == repeats.get(name)
        ordinals = range(0, drawn[name] + 1, 7)
        assert [plan.step_of(name, o) for o in ordinals] == [[*steps.get(name, []), None][o] for o in ordinals]
        last = sum(plan.corpora[name].shard_sizes) - 1
        for sample in {0, last // 3, last}:
            assert plan.steps_of(name, sample) == [place[1:] for place in sorted(places.get((name, sample), []))]


def check_what_stays(run: Run, ledger: Ledger, slots: list[list[Slot]], *, capped: bool) -> None:
    """A new ledger moves nothing that was read, no sequence of a corpus that it does not change, and what is drawn
    where only by other weights."""
    assert slots[: run.frontier] == run.slots[: run.frontier]
    old, new = run.ledger.schedule.changes, ledger.schedule.changes
    changed = [change for change in (*old, *new) if old.count(change) != new.count(change)]
    touched = reached(changed, (*old, *new))
    firsts = [(change.step, reached([change], (*old, *new))) for change in (*old, *new)]
    for name in {name for step in slots for name, *_ in step} - touched:
        # another mixture may let a change, already made, act at another ordinal: until then there is one sequence
        end = min((step for step, names in firsts if name in names), default=len(slots))
        before, after = (sequence(name, part[:end]) for part in (run.slots, slots))
        shared = min(len(before), len(after))
        assert before[:shared] == after[:shared], name
    silent = {"quarantine", "skip", "grow", "split"} >= {change.verb for change in changed}
    same_steps = ledger.schedule.batching == run.ledger.schedule.batching
    if silent and same_steps and not capped and ledger.schedule.phases == run.ledger.schedule.phases:
        seen = [[slot[: 2 if slot[0] in touched else 4] for slot in step] for step in slots]
        assert seen == [[slot[: 2 if slot[0] in touched else 4] for slot in step] for step in run.slots]


def reached(changed: Iterable[Change], changes: Iterable[Change]) -> set[str]:
    """The corpora that `changed` are made to, and those that come from one of them by `changes`."""
    names = {name for change in changed for name in (change.name, change.arguments.get("from")) if name}
    for change in sorted(changes, key=lambda change: change.step):
        if change.arguments.get("from") in names:
            names.add(change.name)
    return names


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(max_examples=settings.default.max_examples * 2 // 5, stateful_step_count=20)


# what the machine has found, or seldom comes to


def test_a_stretch_may_go_on_from_the_step_of_the_checkpoint() -> None:
    """A revision at the very step returns to the mixture before: for who resumed there, too, the stretch goes on."""
    mixtures = [
        {"a": 0.31, "b": 0.2, "c": 0.2, "e": 0.29},
        {"a": 0.0001, "c": 0.4999, "d": 0.5},
        {"a": 3 / 12, "b": 2 / 12, "c": 5 / 12, "d": 2 / 12},
        {"a": 0.3, "b": 0.7},
    ]
    phases = [{"start": start, "mixture": mixture} for start, mixture in zip((0, 3, 4, 7), mixtures, strict=True)]
    base = Schedule.from_dict({"phases": phases}, num_steps=20, global_batch_size=3, seq_len=8)
    facts = {"data_seed": 1, "shuffle_window": 2}
    corpora = {name: [9, 5] for name in "abcde"}
    names = {"fingerprints": dict.fromkeys(corpora, "same"), "bases": dict.fromkeys(corpora, 0)}
    ledger = propose(Ledger(base=base), {"mixture": {"b": 1}}, 15, frontier=7)
    resumed = Reading(Ledger(base=base), corpora, **facts, **names, frontier=0)
    resumed.restore(Reading(ledger, corpora, **facts, **names, frontier=7).state(7))
    ledger = propose(ledger, {"mixture": mixtures[2]}, 7, frontier=7)
    resumed.follow(ledger.revisions, 7)
    assert everything(resumed.plan, 7) == everything(Plan(ledger.schedule, corpora, **facts), 7)


def test_a_share_is_not_handed_to_a_corpus_that_was_removed() -> None:
    base = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": {"a": 1}}]}, num_steps=9, global_batch_size=2, seq_len=8
    )
    corpora = {"a": Corpus(shard_sizes=[9], max_epochs=1, then="b"), "b": [9]}
    assert Plan(base, corpora, data_seed=1).drawn_before(9) == {"a": 8, "b": 10}
    ledger = propose(Ledger(base=base), {"corpora": {"b": {"remove": {}}}}, 2, frontier=0)
    with pytest.raises(ScheduleError, match="'b' has weight 1 at step 4, but is not part of the run"):
        Plan(ledger.schedule, corpora, data_seed=1)


def test_a_split_in_between_leaves_no_unseen_part_to_fork() -> None:
    base = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": {"a": 1}}]}, num_steps=20, global_batch_size=2, seq_len=8
    )
    ledger = propose(Ledger(base=base), {"corpora": {"b": {"split": {"from": "a", "shards": [0]}}}}, 5, frontier=0)
    plan = Plan(ledger.schedule, {"a": [20, 20, 20]}, data_seed=1)
    with pytest.raises(LedgerError, match="'a' was changed between step 2 and step 9"):
        fork(ledger, plan, step=2, replay="unseen", until=9, author="ada", time="-")
    fork(ledger, plan, step=5, replay="unseen", until=9, author="ada", time="-")


def test_a_corpus_that_grows_is_read_again_up_to_its_cap() -> None:
    base = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": {"a": 1}}]}, num_steps=9, global_batch_size=2, seq_len=8
    )
    corpora = {"a": Corpus(shard_sizes=[9], max_epochs=1, then="b"), "b": [9]}
    change = {"corpora": {"a": {"grow": {"first_shard": 1, "shard_sizes": [4]}}}}
    plan = Plan(propose(Ledger(base=base), change, 6, frontier=0).schedule, corpora, data_seed=1)
    assert [plan.counts(step) for step in range(9)] == [{"a": 2}] * 4 + [{"b": 2}] * 2 + [{"a": 2}] * 2 + [{"b": 2}]
    assert len({slot for step in everything(plan) for slot in step if slot[0] == "a"}) == 12
