"""The learning rate against its closed form, and which parameters decay."""

import math

import pytest
import torch

from trainer.optimization.optimizer import build_optimizer, lr_at
from trainer.optimization.settings import OptimizerConfig

PAPER = {"num_steps": 61_035, "warmup_steps": 6_103, "peak": 3e-4, "floor": 1e-6}


def test_every_step_of_the_paper_s_run_lies_on_the_closed_form() -> None:
    warmup, steps, peak, floor = 6_103, 61_035, 3e-4, 1e-6
    for step in range(steps):
        done = step + 1
        if done <= warmup:
            expected = 3e-4 * (done / warmup)
        else:
            expected = floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * (done - warmup) / (steps - warmup)))
        assert math.isclose(lr_at(step, **PAPER), expected, rel_tol=1e-12), step


def test_the_marks_of_the_curve() -> None:
    assert lr_at(0, **PAPER) == pytest.approx(3e-4 / 6_103)
    assert lr_at(6_102, **PAPER) == 3e-4
    assert lr_at(6_103, **PAPER) < 3e-4
    assert lr_at(61_034, **PAPER) == 1e-6
    middle = 6_103 + (61_035 - 6_103) // 2 - 1
    assert lr_at(middle, **PAPER) == pytest.approx((3e-4 + 1e-6) / 2, rel=1e-3)


@pytest.mark.parametrize(("num_steps", "warmup_steps"), [(1, 1), (10, 10), (10, 1), (2, 1)])
def test_short_runs_have_a_rate_for_every_step(num_steps: int, warmup_steps: int) -> None:
    rates = [lr_at(s, num_steps=num_steps, warmup_steps=warmup_steps, peak=1.0, floor=0.1) for s in range(num_steps)]
    assert all(0 < rate <= 1.0 for rate in rates)
    assert rates[warmup_steps - 1] == 1.0


def test_norms_and_biases_do_not_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(8, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    decayed, others = build_optimizer(model, OptimizerConfig(), peak=1e-3).param_groups
    assert decayed["weight_decay"] == 0.1
    assert [tuple(p.shape) for p in decayed["params"]] == [(8, 4), (4, 4)]
    assert others["weight_decay"] == 0.0
    assert [tuple(p.shape) for p in others["params"]] == [(4,), (4,), (4,)]
    assert (decayed["betas"], decayed["eps"]) == ((0.9, 0.95), 1e-8)
