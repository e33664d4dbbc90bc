"""Dynamic mixing through the ledger: what becomes a revision, and that a run repeats from its ledger alone."""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer import Batch, Ledger, Plan, Ramp, Schedule
from mixer.errors import FrozenStepError, ProposingError
from mixer.proposers import Ado, ScalingLaw, Softmax
from mixer.proposing import Dynamic, Observation, Proposal, Proposer, State, listed, share_out
from mixer.rails import Rails
from mixer.weights import UNIT

TIME = "2026-11-21T00:00:00Z"
NUM_STEPS, LEAD = 240, 4
SIZES = {"c4": [3000] * 3, "code": [900] * 2, "math": [700]}
LAWS = {
    "c4": ScalingLaw(irreducible=2.6, coefficient=12, exponent=0.3),
    "code": ScalingLaw(irreducible=0.8, coefficient=10, exponent=0.15),
    "math": ScalingLaw(irreducible=1.5, coefficient=20, exponent=0.5),
}
THREE = {"c4": 0.6, "code": 0.2, "math": 0.2}
PLANNED = {"c4": 0.5, "code": 0.3, "math": 0.2}
RAILS = Rails(max_change=0.02, min_change=0.001, cool_down=15, ranges={"math": (0.1, 0.3)})


def run_of(*phases: dict[str, Any], num_steps: int = NUM_STEPS) -> Ledger:
    phases = phases or ({"start": 0, "mixture": THREE},)
    return Ledger(
        base=Schedule.from_dict({"phases": list(phases)}, num_steps=num_steps, global_batch_size=32, seq_len=8)
    )


def plan_of(ledger: Ledger) -> Plan:
    return Plan(ledger.schedule, SIZES, data_seed=17, shuffle_window=2)


def new_dynamic(proposer: Proposer | None = None, rails: Rails = RAILS, every: int = 10) -> Dynamic:
    return Dynamic(proposer or Ado(warmup=20, fit_interval=20), rails, every=every)


def train(dynamic: Dynamic, ledger: Ledger, steps: range) -> tuple[Ledger, list[Batch]]:
    """Train `steps`, reporting after each; the trainer holds batches of the next `LEAD` steps, so those are frozen.

    Losses depend on what was read, so another order of samples would lead to other revisions.
    """
    batches, plan = [], plan_of(ledger)
    for step in steps:
        batches.append(plan.batch(step))
        drawn = plan.drawn_before(step + 1)
        wobble = 1 + 0.002 * math.sin(float(batches[-1].sample_id.sum()))
        losses = {name: LAWS[name].loss(sum(drawn.values())) * wobble for name in plan.counts(step)}
        observation = Observation(step=step + 1, losses=losses, samples=drawn)
        longer = dynamic.consider(ledger, observation, frontier=step + 1 + LEAD, time=TIME)
        if longer is not ledger:
            ledger, plan = longer, plan_of(longer)
    return ledger, batches


def same(one: Batch, other: Batch) -> bool:
    """Slot by slot, in order."""
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("corpus", "ordinal", "epoch", "sample_id")
    )


@dataclass(frozen=True)
class Wilful:
    """Proposes a given list of mixtures, one an asking, whatever it is told."""

    wishes: tuple[Mapping[str, float], ...]
    name: str = "wilful"

    def start(self) -> State:
        return {"steps": 0}

    def observe(self, state: State, observation: Observation, mixture: Mapping[str, float]) -> State:
        return {"steps": state["steps"] + 1}

    def propose(self, state: State, mixture: Mapping[str, float]) -> Proposal | None:
        wish = self.wishes[state["steps"] % len(self.wishes)]
        return Proposal(weights={name: wish.get(name, 0.0) for name in mixture}, reason="I want it")


MORE_CODE = Wilful(({"c4": 0.1, "code": 0.8, "math": 0.1},))


def after(dynamic: Dynamic, ledger: Ledger, step: int, frontier: int = 0, **losses: float) -> Ledger:
    return dynamic.consider(ledger, Observation(step=step, losses=losses, samples={}), frontier=frontier, time=TIME)


@pytest.mark.parametrize("proposer", [Ado(warmup=20, fit_interval=20), Softmax(temperature=0.5)], ids=lambda p: p.name)
def test_a_dynamic_run_repeats_from_its_ledger_without_the_algorithm(proposer: Proposer) -> None:
    ledger, batches = train(new_dynamic(proposer), run_of(), range(NUM_STEPS))
    assert ledger.number >= 5
    assert len({json.dumps(revision.schedule) for revision in ledger.revisions}) == ledger.number
    alone = plan_of(Ledger.from_dict(json.loads(json.dumps(ledger.to_dict()))))
    assert len(batches) == NUM_STEPS
    assert all(same(batch, alone.batch(step)) for step, batch in enumerate(batches))


@cache
def whole_run() -> tuple[Ledger, list[Batch]]:
    return train(new_dynamic(), run_of(), range(NUM_STEPS))


@pytest.mark.parametrize("cut", [1, 19, 40, 63, 64, 150])
def test_resumed_anywhere_it_proposes_the_same(cut: int) -> None:
    whole, batches = whole_run()
    first = new_dynamic()
    ledger, _ = train(first, run_of(), range(cut))
    checkpoint = json.loads(json.dumps({"ledger": ledger.to_dict(), "dynamic": first.state()}, allow_nan=False))
    second = new_dynamic()
    second.restore(checkpoint["dynamic"])
    ledger, rest = train(second, Ledger.from_dict(checkpoint["ledger"]), range(cut, NUM_STEPS))
    assert ledger == whole
    assert all(same(one, other) for one, other in zip(rest, batches[cut:], strict=True))


def test_resumed_from_before_a_revision_that_the_ledger_has_it_makes_no_other() -> None:
    """The service kept what was decided; the trainer goes back to a checkpoint and reports some steps again."""
    dynamic = new_dynamic()
    ledger, _ = train(dynamic, run_of(), range(45))
    state = dynamic.state()
    ledger, _ = train(dynamic, ledger, range(45, 130))
    assert ledger.number > 3
    dynamic = new_dynamic()
    dynamic.restore(state)
    assert train(dynamic, ledger, range(45, 130))[0] == ledger


def test_ado_reads_more_of_what_is_learned_fastest() -> None:
    start = run_of({"start": 0, "mixture": {"c4": 0.4, "code": 0.3, "math": 0.3}})
    ledger, _ = train(new_dynamic(), start, range(NUM_STEPS))
    first, last = ledger.schedule.weights(0), ledger.schedule.weights(NUM_STEPS - 1)
    assert last["code"] > first["code"] + 0.03
    assert last["math"] < first["math"] - 0.1
    assert plan_of(ledger).drawn_before(NUM_STEPS)["code"] > plan_of(start).drawn_before(NUM_STEPS)["code"]


@settings(max_examples=40)
@given(st.data())
def test_no_algorithm_gets_past_the_rails(data: st.DataObject) -> None:
    sizes = st.fixed_dictionaries(dict.fromkeys(THREE, st.integers(0, 9)))
    wishes = data.draw(st.lists(sizes.filter(lambda wish: sum(wish.values()) > 0), min_size=1, max_size=7))
    ramp = data.draw(st.sampled_from([None, Ramp(shape="linear", length=12)]))
    rails = Rails(
        minimum=0.05, ranges={"code": (0.1, 0.5)}, max_change=0.04, min_change=0.01, ramp=ramp,
        cool_down=data.draw(st.integers(0, 20)), fixed=data.draw(st.sampled_from([(), ("math",)])),
    )  # fmt: skip
    ledger = run_of({"start": 0, "mixture": THREE}, {"start": 50, "mixture": PLANNED}, num_steps=80)
    dynamic = new_dynamic(Wilful(tuple(wishes)), rails, every=data.draw(st.integers(1, 20)))
    frontier = 0
    for step in range(1, 80, data.draw(st.integers(1, 7))):
        frontier = max(frontier, step + data.draw(st.integers(-3, 9)))
        longer = after(dynamic, ledger, step, frontier=frontier)
        if longer is not ledger:
            check_revision(ledger, longer, rails, step)
        ledger = longer
    pause = max(rails.cool_down, ramp.length if ramp else 1)
    when = [0, *(revision.effective_step for revision in ledger.revisions)]
    for earlier, later in pairwise(when):
        if not earlier < 50 <= later:  # the switchpoint that was planned ends a ramp that is under way
            assert later - earlier >= (pause if earlier else rails.cool_down)
    assert all(not 50 <= step < 50 + rails.cool_down for step in when)


def check_revision(before: Ledger, now: Ledger, rails: Rails, step: int) -> None:
    """That the newest revision keeps the rails against the mixture it follows."""
    revision = now.revisions[-1]
    assert now.revisions[:-1] == before.revisions
    assert (revision.author, revision.parent) == ("wilful", before.number)
    assert revision.effective_step >= step
    old = before.schedule.weights_ppb(revision.effective_step)
    new = next(phase.mixture for phase in now.schedule.phases if phase.start == revision.effective_step)
    assert sum(new.values()) == UNIT
    assert 0.01 * UNIT <= max(abs(new[name] - old[name]) for name in old) <= 0.04 * UNIT
    assert "math" not in rails.fixed or new["math"] == old["math"]
    assert UNIT // 10 <= new["code"] <= UNIT // 2
    assert new["c4"] >= UNIT // 20
    if revision.effective_step < 50:
        assert now.schedule.weights(50) == PLANNED


def test_batch_sizes_stay_as_planned_and_decide_where_draws_lie_not_what_is_proposed() -> None:
    ledger = run_of()
    grown = Ledger(base=ledger.base.with_batch_size(30, 8).with_batch_size(90, 48))
    longer, batches = train(new_dynamic(), grown, range(NUM_STEPS))
    assert longer.number > 2
    assert longer.schedule.batch_sizes == grown.base.batch_sizes
    assert [len(batches[step].corpus) for step in (29, 30, 89, 90)] == [32, 8, 8, 48]
    assert all(same(batch, plan_of(longer).batch(batch.step)) for batch in batches[::20])


def test_what_was_planned_stays_planned() -> None:
    ramp = {"shape": "cosine", "length": "30ba"}
    planned = [{"start": 100, "mixture": {"c4": 1}, "ramp": ramp}, {"start": 200, "mixture": THREE}]
    ledger = run_of({"start": 0, "mixture": THREE}, *planned)
    longer = after(new_dynamic(MORE_CODE), ledger, 50)
    assert longer.schedule.phases[2:] == ledger.schedule.phases[1:]
    assert longer.schedule.weights(60)["code"] == pytest.approx(0.22)
    assert after(new_dynamic(MORE_CODE), ledger, 160) is ledger, "one corpus alone has nothing to be mixed with"


def test_while_a_ramp_runs_it_waits() -> None:
    ledger = run_of(
        {"start": 0, "mixture": {"c4": 1, "code": 0}},
        {"start": 50, "mixture": {"c4": 0.5, "code": 0.5}, "ramp": {"shape": "linear", "length": "60ba"}},
    )
    assert after(new_dynamic(MORE_CODE), ledger, 109) is ledger
    assert after(new_dynamic(MORE_CODE), ledger, 110).number == 1


def test_an_edit_of_people_has_its_cool_down_too() -> None:
    by_hand = run_of().propose(
        {"mixture": {"c4": 0.4, "code": 0.4, "math": 0.2}},
        parent=0, effective_step=50, frontier=0, author="ada", reason="more code", time=TIME,
    )  # fmt: skip
    assert after(new_dynamic(MORE_CODE), by_hand, 64) is by_hand
    longer = after(new_dynamic(MORE_CODE), by_hand, 65)
    assert longer.revisions[1].parent == 1
    assert longer.schedule.weights(65)["code"] == pytest.approx(0.42)


def test_the_frontier_decides_when() -> None:
    assert after(new_dynamic(MORE_CODE), run_of(), 50, frontier=71).revisions[0].effective_step == 71
    assert after(new_dynamic(MORE_CODE), run_of(), 50, frontier=0).revisions[0].effective_step == 50
    ledger = run_of()
    assert after(new_dynamic(MORE_CODE), ledger, 50, frontier=NUM_STEPS) is ledger, "nothing is left to change"


def test_it_is_asked_every_so_often() -> None:
    dynamic, ledger = new_dynamic(MORE_CODE, Rails(cool_down=0, max_change=0.01), every=20), run_of()
    for step in range(3, 100, 3):
        ledger = after(dynamic, ledger, step)
    assert [revision.effective_step for revision in ledger.revisions] == [21, 42, 63, 84]


def test_a_step_reported_again_is_ignored() -> None:
    dynamic = new_dynamic(MORE_CODE, Rails(cool_down=0), every=1)
    ledger, state = after(dynamic, run_of(), 50), dynamic.state()
    assert after(dynamic, ledger, 50) is ledger
    assert after(dynamic, ledger, 7) is ledger
    assert dynamic.state() == state


def test_a_change_too_small_is_none() -> None:
    nearly = Wilful(({"c4": 0.609, "code": 0.2, "math": 0.191},))
    ledger = run_of()
    assert after(new_dynamic(nearly, Rails(min_change=0.0091)), ledger, 50) is ledger
    assert after(new_dynamic(nearly, Rails(min_change=0.009, cool_down=0)), ledger, 50).number == 1
    unmoved = Wilful((THREE,))
    assert after(new_dynamic(unmoved, Rails(min_change=0, cool_down=0)), ledger, 50) is ledger


def test_a_corpus_at_0_is_out_of_use() -> None:
    ledger = run_of({"start": 0, "mixture": {"c4": 0.5, "code": 0.5, "math": 0}})
    assert after(new_dynamic(MORE_CODE), ledger, 50).schedule.weights(60).keys() == {"c4", "code"}


def test_the_reason_says_what_was_wished_and_what_held() -> None:
    revision = after(new_dynamic(MORE_CODE), run_of(), 50).revisions[0]
    assert revision.reason == (
        "wilful: I want it; wished code 0.8, c4 0.1, math 0.1; limited by max_change (c4, code)"
    )  # fmt: skip
    ledger = after(new_dynamic(Softmax(smoothing=1)), run_of(), 50, c4=3.0, code=2.5, math=2.25)
    assert ledger.revisions[0].reason.startswith("softmax: loss c4 3, code 2.5, math 2.25; wished c4 0.481, ")


def test_an_edit_is_what_the_ledger_takes() -> None:
    observation = Observation(step=50, losses={}, samples={})
    edit = new_dynamic(MORE_CODE, Rails(ramp=Ramp(shape="linear", length=10), cool_down=0)).decide(
        run_of(), observation, frontier=60
    )
    assert edit is not None
    assert (edit.parent, edit.effective_step, edit.author) == (0, 60, "wilful")
    assert edit.change["schedule"]["phases"][0]["ramp"] == {"shape": "linear", "length": "10ba"}
    json.dumps(edit.change)
    with pytest.raises(FrozenStepError):
        run_of().propose(**vars(edit), frontier=61, time=TIME)


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ({"c4": 1, "code": 1}, "'wilful' proposed nothing for corpus 'math'"),
        ({**THREE, "cod": 1}, "'wilful' proposed corpus 'cod', which is not in use"),
        ({**THREE, "code": math.nan}, "'wilful' proposed the weight nan for corpus 'code', it must be finite"),
        ({**THREE, "code": math.inf}, "the weight inf"),
        ({**THREE, "code": -0.1}, "the weight -0.1"),
        (dict.fromkeys(THREE, 0.0), "'wilful' proposed no weight above 0"),
    ],
)
def test_what_is_no_mixture_is_refused(weights: dict[str, float], problem: str) -> None:
    class Careless(Wilful):
        def propose(self, state: State, mixture: Mapping[str, float]) -> Proposal:
            return Proposal(weights=weights, reason="?")

    with pytest.raises(ProposingError) as caught:
        after(new_dynamic(Careless(())), run_of(), 50)
    assert problem in str(caught.value)


def test_rails_that_cannot_be_kept_say_so() -> None:
    with pytest.raises(ProposingError, match=r"the minima of 3 corpora sum to 1\.2, more than 1: lower a minimum"):
        after(new_dynamic(MORE_CODE, Rails(minimum=0.4, cool_down=0)), run_of(), 50)
    for every in (0, 1.5, True):
        with pytest.raises(ProposingError, match="every must be a whole number of steps, at least 1"):
            Dynamic(MORE_CODE, RAILS, every=every)  # type: ignore[arg-type]


def test_the_state_of_another_algorithm_is_refused() -> None:
    with pytest.raises(ProposingError, match="the state is one of 'softmax', the proposer is 'ado'"):
        new_dynamic().restore(new_dynamic(Softmax()).state())


def test_shares_are_dealt_out_among_those_with_a_score() -> None:
    base = {"a": 2.0, "b": 1.0, "c": 1.0}
    assert share_out({"a": 1, "b": 3}, base) == {"a": 0.1875, "b": 0.5625, "c": 0.25}
    assert share_out({"a": 0, "b": 0}, base) == share_out({}, base) == {"a": 0.5, "b": 0.25, "c": 0.25}


def test_long_lists_are_cut() -> None:
    assert listed({"b": 0.25, "a": 0.25, "c": 1}, most=2) == "c 1, a 0.25 and 1 more"


def test_dynamic_mixing_needs_nothing_heavy() -> None:
    code = "import sys, mixer.proposing, mixer.proposers; print(*[m for m in ('torch', 'scipy') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
