"""The optimizer, and the learning rate as a pure function of the step.

One curve and one optimizer state run through every switchpoint: a switchpoint changes the data only. The rate is
never state: it is computed from the step before each step, so a resumed run cannot be off by one.
"""

import math

import torch
from composer import Callback, Logger, State

from trainer.optimization.settings import OptimizerConfig


def lr_at(step: int, *, num_steps: int, warmup_steps: int, peak: float, floor: float) -> float:
    """The learning rate of `step` in [0, num_steps): linear warm-up to `peak`, then a cosine to `floor`.

    With s = step + 1 (the rate of the first step is not zero), W = warmup_steps and N = num_steps:
    s <= W: peak * s / W;  otherwise floor + (peak - floor) * (1 + cos(pi * (s - W) / (N - W))) / 2.
    So step W - 1 has exactly the peak and the last step exactly the floor (arXiv 2510.14865, appendix; litgpt).
    """
    done = step + 1
    if done <= warmup_steps:
        return peak * done / warmup_steps
    progress = min(1.0, (done - warmup_steps) / (num_steps - warmup_steps))
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2


class LearningRate(Callback):
    """Sets the learning rate of every step from `lr_at`; keyword arguments are those of `lr_at`."""

    def __init__(self, *, num_steps: int, warmup_steps: int, peak: float, floor: float) -> None:
        self._curve = {"num_steps": num_steps, "warmup_steps": warmup_steps, "peak": peak, "floor": floor}

    def batch_start(self, state: State, logger: Logger) -> None:
        rate = lr_at(int(state.timestamp.batch), **self._curve)  # type: ignore[arg-type]
        for group in state.optimizers[0].param_groups:
            group["lr"] = rate
        logger.log_metrics({"lr": rate})


def build_optimizer(model: torch.nn.Module, config: OptimizerConfig, *, peak: float) -> torch.optim.AdamW:
    """AdamW with decoupled decay (lr x weight_decay) on matrices; norms and biases do not decay."""
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=peak, betas=config.betas, eps=config.eps)
