"""AdamW and its groups, by hand; the rate of each group at each step; what a checkpoint does not decide."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.errors import ConfigError
from trainer.optimization.optimizer import LearningRate, build_optimizer
from trainer.optimization.schedules import Piece
from trainer.optimization.settings import OptimizerConfig

PIECES = (Piece(start=0, end=4, first=0.0, last=1e-2, shape="warmup"),)


def tiny() -> torch.nn.Module:
    return torch.nn.ModuleDict(
        {"embed_in": torch.nn.Embedding(8, 4), "body": torch.nn.Linear(4, 4), "norm": torch.nn.LayerNorm(4)}
    )


def groups_of(**values: Any) -> list[tuple[list[str], float, float]]:
    """(names, decay, factor) of each group."""
    model = tiny()
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, OptimizerConfig.model_validate(values))
    return [
        ([names[id(p)] for p in group["params"]], group["weight_decay"], group.get("lr_scale", 1.0))
        for group in optimizer.param_groups
    ]


OTHERS = ["body.bias", "norm.weight", "norm.bias"]


def test_norms_and_biases_do_not_decay() -> None:
    assert groups_of() == [(["embed_in.weight", "body.weight"], 0.1, 1.0), (OTHERS, 0.0, 1.0)]
    (group, _) = build_optimizer(tiny(), OptimizerConfig()).param_groups
    assert (group["betas"], group["eps"]) == ((0.9, 0.95), 1e-8)


def test_embeddings_need_not_decay() -> None:
    assert groups_of(decay_embeddings=False) == [(["body.weight"], 0.1, 1.0), (["embed_in.weight", *OTHERS], 0.0, 1.0)]


def test_groups_by_name_come_first_in_their_order() -> None:
    groups = [{"match": "^embed_in", "weight_decay": 0.0, "lr_scale": 0.5}, {"match": "weight$", "lr_scale": 2.0}]
    assert groups_of(groups=groups) == [
        ([], 0.1, 1.0),
        (["body.bias", "norm.bias"], 0.0, 1.0),
        (["embed_in.weight"], 0.0, 0.5),
        (["body.weight"], 0.1, 2.0),
        (["norm.weight"], 0.0, 2.0),
    ]


@pytest.mark.parametrize("groups", [[{"match": "embed_out"}], [{"match": "embed_in"}, {"match": "embed"}]])
def test_a_group_that_matches_nothing_is_refused(groups: list[dict[str, Any]]) -> None:
    with pytest.raises(ConfigError) as caught:
        groups_of(groups=groups)
    (problem,) = caught.value.problems
    assert problem.endswith(f"@ $.optimizer.groups[{len(groups) - 1}].match")


def test_two_steps_by_hand() -> None:
    """Adam with bias correction; the decay is lr x weight_decay x weight, and lr is the group's own."""
    model = tiny()
    config = OptimizerConfig.model_validate({"groups": [{"match": "body.weight", "lr_scale": 0.5}]})
    optimizer = build_optimizer(model, config)
    state: Any = SimpleNamespace(optimizers=[optimizer], timestamp=SimpleNamespace(batch=0))
    logger: Any = SimpleNamespace(log_metrics=lambda metrics: None)
    rates = LearningRate(PIECES)
    weights = {"embed_in.weight": (0.1, 1.0), "body.weight": (0.1, 0.5), "body.bias": (0.0, 1.0)}
    parameters = dict(model.named_parameters())
    expected = {name: parameters[name].detach().double().clone() for name in weights}
    moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in expected.items()}
    for step in range(2):
        state.timestamp.batch = step
        rates.batch_start(state, logger)
        for p in parameters.values():
            p.grad = torch.randn_like(p)
        for name, (decay, scale) in weights.items():
            grad, (mean, square) = parameters[name].grad.double(), moments[name]
            moments[name] = mean, square = 0.9 * mean + 0.1 * grad, 0.95 * square + 0.05 * grad**2
            rate = scale * 1e-2 * (step + 1) / 4
            update = mean / (1 - 0.9 ** (step + 1)) / ((square / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8)
            expected[name] = expected[name] * (1 - rate * decay) - rate * update
        optimizer.step()
    for name, weight in expected.items():
        torch.testing.assert_close(parameters[name].detach().double(), weight, rtol=1e-5, atol=1e-7)


def test_what_a_checkpoint_says_of_a_group_does_not_count() -> None:
    saved = build_optimizer(tiny(), OptimizerConfig()).state_dict()
    optimizer = build_optimizer(tiny(), OptimizerConfig(weight_decay=0.3, betas=(0.8, 0.9)))
    state: Any = SimpleNamespace(optimizers=[optimizer])
    rates = LearningRate(PIECES)
    rates.init(state, None)
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    rates.after_load(state, None)
    assert optimizer.param_groups[0]["weight_decay"] == 0.3
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
