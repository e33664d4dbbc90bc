"""AdamW with its parameter groups, and the callback that sets the learning rate of every step.

One curve and one optimizer state run through every switchpoint: a switchpoint changes the data only. The rate is
never state: it is computed from the step before each step, so a resumed run cannot be off by one. What the
configuration says of a group (decay, factor, betas, eps) is in force from the start on, also where the optimizer's
state comes from a checkpoint of a run that said something else.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from composer import Callback, Logger, State

from trainer.errors import ConfigError
from trainer.optimization.schedules import Piece, lr_at
from trainer.optimization.settings import OptimizerConfig

OWN = ("weight_decay", "lr_scale", "betas", "eps")  # of a group: what the configuration says, and no checkpoint


class LearningRate(Callback):
    """Sets the learning rate of every step, that of `pieces` at the step times the factor of each group."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        self._own: list[dict[str, Any]] = []

    def init(self, state: State, logger: Logger) -> None:
        self._own = [{key: group[key] for key in OWN if key in group} for group in state.optimizers[0].param_groups]

    def after_load(self, state: State, logger: Logger) -> None:
        for group, own in zip(state.optimizers[0].param_groups, self._own, strict=True):
            group |= own

    def batch_start(self, state: State, logger: Logger) -> None:
        rate = lr_at(int(state.timestamp.batch), self._pieces)
        for group in state.optimizers[0].param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        logger.log_metrics({"lr": rate})


def build_optimizer(model: torch.nn.Module, config: OptimizerConfig, *, fused: bool = False) -> torch.optim.AdamW:
    """AdamW over the parameters that are trained; its rate is 0 until `LearningRate` sets it.

    `fused`: one kernel for all tensors of a group, on GPUs. Raises ConfigError for a group that matches nothing.
    """
    return torch.optim.AdamW(list(_groups(model, config)), lr=0.0, betas=config.betas, eps=config.eps, fused=fused)


def _groups(model: torch.nn.Module, config: OptimizerConfig) -> Iterator[dict[str, Any]]:
    """What decays, what does not, then each group of the configuration, where the decay may differ likewise."""
    rest = {name: p for name, p in model.named_parameters() if p.requires_grad}
    of_groups, problems = [], []
    for index, group in enumerate(config.groups):
        names = [name for name in rest if group.match.search(name)]
        if not names:
            problems.append(
                f"no parameter that no earlier group has matches '{group.match.pattern}'; there are, for example, "
                f"{', '.join([*rest][:3])} @ $.optimizer.groups[{index}].match"
            )
        of_groups.append((group, {name: rest.pop(name) for name in names}))
    if problems:
        raise ConfigError(problems)
    decays = _decaying(model, config)
    yield {"params": [p for name, p in rest.items() if name in decays], "weight_decay": config.weight_decay}
    yield {"params": [p for name, p in rest.items() if name not in decays], "weight_decay": 0.0}
    for group, found in of_groups:
        if group.weight_decay is not None:
            yield {"params": [*found.values()], "weight_decay": group.weight_decay, "lr_scale": group.lr_scale}
            continue
        for decay, wanted in ((config.weight_decay, True), (0.0, False)):
            if params := [p for name, p in found.items() if (name in decays) is wanted]:
                yield {"params": params, "weight_decay": decay, "lr_scale": group.lr_scale}


def _decaying(model: torch.nn.Module, config: OptimizerConfig) -> set[str]:
    """Names of the parameters that decay: matrices, without the tables of embeddings if these shall not."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    return {
        name
        for name, p in model.named_parameters()
        if p.ndim >= 2 and (config.decay_embeddings or id(p) not in embeddings)
    }
