"""What is forgotten since the first and the newest switchpoint, also after a resume."""

import json

import pytest

from trainer.evaluation.forgetting import Forgetting


def test_nothing_is_forgotten_before_a_switchpoint() -> None:
    forgetting = Forgetting("c4")
    assert forgetting.metrics({"c4": 3.0}) == {}
    assert forgetting.since({"c4": 3.0}) == {}


def test_it_is_the_loss_minus_the_loss_at_the_switchpoints() -> None:
    forgetting = Forgetting("c4")
    forgetting.at_switchpoint(9, {"c4": 3.0, "code": 5.0})
    assert forgetting.metrics({"c4": 3.0}) == {"eval/c4/forgetting": 0.0}
    assert forgetting.metrics({"c4": 3.25}) == {"eval/c4/forgetting": 0.25}
    for step, loss in ((15, 3.5), (20, 2.75)):
        forgetting.at_switchpoint(step, {"c4": loss})
    assert forgetting.since({"c4": 3.0}) == {9: 0.0, 20: 0.25}
    assert forgetting.metrics({"c4": 3.0}) == {"eval/c4/forgetting": 0.0, "eval/c4/forgetting_since_last": 0.25}
    assert [forgetting.knows(step) for step in (9, 15, 20)] == [True, False, True]


def test_a_corpus_that_is_not_evaluated_is_passed_over() -> None:
    forgetting = Forgetting("c4")
    forgetting.at_switchpoint(9, {"code": 3.0})
    assert forgetting.first is None
    forgetting.at_switchpoint(10, {"c4": 3.0})
    assert forgetting.metrics({"code": 3.0}) == {}


@pytest.mark.parametrize("switchpoints", [[], [9], [9, 15]])
def test_it_goes_on_from_what_a_checkpoint_kept(switchpoints: list[int]) -> None:
    forgetting, resumed = Forgetting("c4"), Forgetting("c4")
    for step in switchpoints:
        forgetting.at_switchpoint(step, {"c4": step / 4})
    resumed.load_state_dict(json.loads(json.dumps(forgetting.state_dict())))
    assert resumed.since({"c4": 3.0}) == forgetting.since({"c4": 3.0})
    assert resumed.state_dict() == forgetting.state_dict()
    other = Forgetting("code")
    other.load_state_dict(forgetting.state_dict())
    assert other.first is None
