"""Loss-proportional softmax, against its closed form."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.errors import ProposingError
from mixer.proposers import Softmax
from mixer.proposing import Observation, Proposal

EVEN = {"c4": 0.5, "code": 0.25, "math": 0.25}


def proposed(softmax: Softmax, *losses: dict[str, float], mixture: dict[str, float] = EVEN) -> Proposal | None:
    state = softmax.start()
    for step, values in enumerate(losses, start=1):
        state = softmax.observe(state, Observation(step=step, losses=values, samples={}), mixture)
        state = json.loads(json.dumps(state, allow_nan=False))
    return softmax.propose(state, mixture)


def weights(softmax: Softmax, *losses: dict[str, float], mixture: dict[str, float] = EVEN) -> dict[str, float]:
    proposal = proposed(softmax, *losses, mixture=mixture)
    assert proposal is not None
    assert sum(proposal.weights.values()) == pytest.approx(1)
    return dict(proposal.weights)


@given(st.tuples(*[st.floats(0, 20)] * 3), st.floats(0.05, 50))
def test_the_closed_form(losses: tuple[float, ...], temperature: float) -> None:
    found = weights(Softmax(temperature=temperature), dict(zip(EVEN, losses, strict=True)))
    raised = [math.exp(loss / temperature - max(losses) / temperature) for loss in losses]
    assert list(found.values()) == pytest.approx([value / sum(raised) for value in raised])


def test_the_prior_is_what_a_high_temperature_leaves() -> None:
    found = weights(Softmax(temperature=1e9, prior={"c4": 6, "code": 3}), {"c4": 3, "code": 2, "math": 1})
    assert found == pytest.approx({"c4": 0.6, "code": 0.3, "math": 0.1})


def test_with_references_the_excess_counts_and_none_of_it_is_negative() -> None:
    softmax = Softmax(temperature=0.5, references={"c4": 2.5, "code": 1.5, "math": 9})
    proposal = proposed(softmax, {"c4": 3, "code": 2.5, "math": 2})
    assert proposal is not None
    raised = [math.exp(0.5 / 0.5), math.exp(1 / 0.5), math.exp(0)]
    assert list(proposal.weights.values()) == pytest.approx([value / sum(raised) for value in raised])
    assert proposal.reason == "excess loss code 1, c4 0.5, math 0"


def test_a_corpus_without_loss_or_reference_keeps_its_weight() -> None:
    found = weights(Softmax(), {"c4": 3, "code": 3, "math": math.nan})
    assert found == pytest.approx({"c4": 0.375, "code": 0.375, "math": 0.25})
    found = weights(Softmax(references={"c4": 1, "math": 1}), {"c4": 3, "code": 9, "math": 3})
    assert found == pytest.approx({"c4": 0.375, "code": 0.25, "math": 0.375})


def test_losses_are_averaged_and_what_is_not_finite_is_ignored() -> None:
    one = weights(Softmax(smoothing=0.5), {"c4": 4, "code": 1}, {"c4": 2, "code": math.inf}, {"c4": math.nan})
    assert one == pytest.approx(weights(Softmax(), {"c4": 3, "code": 1}))


def test_what_is_out_of_use_is_left_out() -> None:
    state = Softmax().observe(Softmax().start(), Observation(step=1, losses={"c4": 3, "old": 2}, samples={}), EVEN)
    assert "old" not in state["losses"]
    state = Softmax().observe(state, Observation(step=2, losses={"code": 3, "math": 1}, samples={}), EVEN)
    proposal = Softmax().propose(state, {"c4": 0.5, "code": 0.5})
    assert proposal is not None
    assert proposal.weights.keys() == {"c4", "code"}


def test_no_opinion_before_two_corpora_were_seen() -> None:
    assert proposed(Softmax()) is None
    assert proposed(Softmax(), {"c4": 3}) is None
    assert proposed(Softmax(references={"c4": 1}), {"c4": 3, "code": 2}) is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"temperature": 0}, "temperature must be above 0, found 0"),
        ({"temperature": math.nan}, "temperature must be above 0, found nan"),
        ({"smoothing": 1.5}, "smoothing must be above 0 and at most 1, found 1.5"),
        ({"prior": {"c4": -1}}, "the prior of 'c4' must be above 0, found -1"),
        ({"references": {"c4": math.inf}}, "the reference of 'c4' must be above 0, found inf"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ProposingError) as caught:
        Softmax(**given)
    assert problem in str(caught.value)
