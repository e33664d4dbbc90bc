"""ADO: one update against the formulas written out plainly, known laws found again, and what odd reports do to it."""

import json
import math
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.errors import ProposingError
from mixer.proposers import Ado, ScalingLaw
from mixer.proposing import Observation, Proposal, State

LAWS = {
    "c4": ScalingLaw(irreducible=2.6, coefficient=12, exponent=0.3),
    "code": ScalingLaw(irreducible=0.8, coefficient=10, exponent=0.15),
    "math": ScalingLaw(irreducible=1.5, coefficient=20, exponent=0.5),
}
MIXTURE = {"c4": 0.6, "code": 0.2, "math": 0.2}
BATCH = 100


def train(
    ado: Ado, steps: range, *, state: State | None = None, laws: dict[str, ScalingLaw] = LAWS, **odd: float
) -> State:
    """The state after reports of `steps`, with losses that follow `laws`; those in `odd` are what it says instead."""
    state = ado.start() if state is None else state
    for step in steps:
        samples = {name: round(step * BATCH * share) for name, share in MIXTURE.items()}
        own = ado.count == "own"
        losses = {name: law.loss(samples[name] if own else step * BATCH) for name, law in laws.items()}
        state = ado.observe(state, Observation(step=step, losses=losses | odd, samples=samples), MIXTURE)
    return state


@cache
def trained(ado: Ado) -> State:
    return train(ado, range(1, 111))


def proposal_of(ado: Ado, state: State) -> Proposal:
    proposal = ado.propose(state, MIXTURE)
    assert proposal is not None
    return proposal


def plain_update(ado: Ado, before: State, observation: Observation) -> tuple[dict[str, float], ...]:
    """h, π and ρ̄ after one report, from the formulas at the top of mixer/proposers/ado.py; all corpora have a law."""
    names, steps = list(before["prior"]), observation.step - before["step"]
    read = {k: observation.samples[k] - before["samples"][k] for k in names}
    credit, potential = {}, {}
    for k in names:
        credit[k] = before["credit"][k]
        for _ in range(steps):
            credit[k] = ado.credit_rate * read[k] / sum(read.values()) + (1 - ado.credit_rate) * credit[k]
        epsilon, beta, alpha = before["laws"][k]
        n = observation.samples[k] if ado.count == "own" else sum(observation.samples.values())
        potential[k] = alpha * ((epsilon + beta * n**-alpha) - epsilon) / n
    raw = {k: before["prior"][k] * credit[k] ** ado.credit_power * potential[k] for k in names}
    clipped = {k: max(raw[k] / sum(raw.values()), ado.floor) for k in names}
    preference = {k: clipped[k] / sum(clipped.values()) for k in names}
    rate, old = ado.preference_rate, before["average"]
    policy = {k: rate * preference[k] + (1 - rate) * old[k] for k in names}
    part = steps / observation.step
    return credit, policy, {k: part * preference[k] + (1 - part) * old[k] for k in names}


@pytest.mark.parametrize("count", ["all", "own"])
@given(read=st.tuples(*[st.integers(1, 5000)] * 3), steps=st.integers(1, 30), floor=st.sampled_from([0, 0.01, 0.2]))
def test_one_update_is_the_formulas(count: Any, read: tuple[int, ...], steps: int, floor: float) -> None:
    ado = Ado(warmup=10, fit_interval=100, count=count, floor=floor)
    before = trained(ado)
    samples = {name: before["samples"][name] + new for name, new in zip(MIXTURE, read, strict=True)}
    observation = Observation(step=110 + steps, losses={}, samples=samples)
    after = ado.observe(before, observation, MIXTURE)
    for found, expected in zip(
        (after["credit"], after["policy"], after["average"]), plain_update(ado, before, observation), strict=True
    ):
        assert found == pytest.approx(expected, rel=1e-9)
    assert proposal_of(ado, after).weights == after["policy"]
    assert sum(after["policy"].values()) == pytest.approx(1)


@pytest.mark.parametrize("count", ["all", "own"])
def test_known_laws_are_found_again(count: Any) -> None:
    state = train(Ado(warmup=20, fit_interval=200, count=count), range(1, 221))
    for name, law in LAWS.items():
        irreducible, coefficient, exponent = state["laws"][name]
        assert exponent == pytest.approx(law.exponent, abs=1e-3)
        assert irreducible == pytest.approx(law.irreducible, abs=0.01)
        assert coefficient == pytest.approx(law.coefficient, rel=0.01)


def test_of_equals_the_one_with_more_to_learn_gets_more() -> None:
    ado = Ado(prior={"c4": 1, "code": 1, "math": 1}, warmup=20, fit_interval=200, credit_power=0)
    weights = proposal_of(ado, train(ado, range(1, 400))).weights
    speed = {name: law.exponent * law.reducible(400 * BATCH) for name, law in LAWS.items()}
    assert sorted(weights, key=lambda name: weights[name]) == sorted(speed, key=lambda name: speed[name])
    assert weights["code"] > 1 / 3 > weights["math"]


def test_the_reason_names_the_potentials_and_what_was_ignored() -> None:
    ado = Ado(warmup=20, fit_interval=200)
    state = train(ado, range(1, 221))
    assert proposal_of(ado, state).reason.startswith("learning potential code 0.")
    state = train(ado, range(221, 224), state=state, code=math.inf, math=-1.0)
    assert proposal_of(ado, state).reason.endswith("(losses ignored, not usable: code 3, math 3)")
    assert state["ignored"] == {"code": 3, "math": 3}


def test_no_opinion_before_the_first_fit() -> None:
    ado = Ado(warmup=20, fit_interval=200)
    assert ado.propose(ado.start(), MIXTURE) is None
    assert ado.propose(train(ado, range(1, 220)), MIXTURE) is None
    assert ado.propose(train(ado, range(1, 221)), MIXTURE) is not None


def test_a_corpus_without_a_law_keeps_its_prior_share() -> None:
    """Its losses are no losses; so are those of all, in the end, and then nothing at all is proposed."""
    ado = Ado(warmup=20, fit_interval=200)
    for nothing in (math.nan, math.inf, 0.0):
        weights = proposal_of(ado, train(ado, range(1, 300), math=nothing)).weights
        assert weights["math"] == pytest.approx(MIXTURE["math"])
        assert weights["code"] > MIXTURE["code"]
    assert ado.propose(train(ado, range(1, 300), laws={}), MIXTURE) is None


def test_where_nothing_is_learned_any_more_the_prior_stays() -> None:
    flat = {name: ScalingLaw(irreducible=3, coefficient=0, exponent=0.5) for name in LAWS}
    ado = Ado(warmup=20, fit_interval=200)
    assert proposal_of(ado, train(ado, range(1, 300), laws=flat)).weights == pytest.approx(MIXTURE, abs=0.01)


def test_one_wild_report_hardly_matters() -> None:
    ado = Ado(warmup=20, fit_interval=200)
    calm = proposal_of(ado, train(ado, range(1, 221))).weights
    state = train(ado, range(121, 221), state=train(ado, range(120, 121), state=train(ado, range(1, 120)), code=900.0))
    assert proposal_of(ado, state).weights == pytest.approx(calm, abs=1e-3)


def test_when_a_corpus_comes_prior_and_average_start_again_and_laws_stay() -> None:
    ado = Ado(warmup=20, fit_interval=200)
    state = train(ado, range(1, 300))
    more = {"c4": 0.5, "code": 0.2, "math": 0.2, "wiki": 0.1}
    samples = {**state["samples"], "wiki": 7}
    after = ado.observe(state, Observation(step=300, losses={}, samples=samples), more)
    assert after["prior"] == pytest.approx(more)
    assert after["policy"]["wiki"] == pytest.approx(0.1)
    assert after["laws"] == state["laws"]


def test_the_state_changes_nothing_it_was_made_from() -> None:
    ado = Ado(warmup=20, fit_interval=200)
    before = train(ado, range(1, 221))
    text = json.dumps(before)
    train(ado, range(221, 240), state=before, code=math.nan)
    assert json.dumps(before) == text


def test_json_keeps_the_state_whole() -> None:
    ado = Ado(warmup=20, fit_interval=100)
    there = train(ado, range(1, 400))
    back = json.loads(json.dumps(train(ado, range(1, 173)), allow_nan=False))
    assert train(ado, range(173, 400), state=back) == there


def test_state_and_work_stay_small_however_long_the_run() -> None:
    ado = Ado(warmup=500, fit_interval=3000, max_points=32)
    state = train(ado, range(1, 8001))
    assert len(json.dumps(state)) < 8000
    for curve in state["curves"].values():
        assert 16 <= len(curve["logs"]) == len(curve["losses"]) < 32
        assert curve["stride"] * len(curve["logs"]) + curve["open"][0] == 7500
    assert state["laws"]["code"][2] == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"credit_rate": 1.5}, "credit_rate must be from 0 to 1, found 1.5"),
        ({"floor": math.nan}, "floor must be from 0 to 1, found nan"),
        ({"fit_interval": 0}, "fit_interval must be a whole number of at least 1, found 0"),
        ({"max_points": 33}, "max_points must be even"),
        ({"count": "tokens"}, "count is 'all' or 'own', found 'tokens'"),
        ({"prior": {"c4": 0}}, "the prior of 'c4' must be above 0, found 0"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ProposingError) as caught:
        Ado(**given)
    assert problem in str(caught.value)
