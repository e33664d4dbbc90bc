"""Measuring the loss of a model on held-out rows, over all ranks.

The rows of a corpus are cut into batches of `batch_size` in their order, and the batches dealt to the ranks in turn;
each rank reads its own once and keeps them. So neither of the two means depends on the number of ranks:
the mean over tokens, sum of all losses / number of targets; and the mean of batch means, which the paper
(arXiv 2510.14865) reports, (1/B) Σ_b (sum of losses in b / targets in b). They differ where rows have unequally many
targets ("loss_mask"), or the last batch is smaller. Batches without a target count in neither.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from composer.core import Precision, get_precision_context
from composer.devices import Device
from composer.utils import dist, model_eval_mode

from trainer.models.causal_lm import targets_of, token_losses

Batch = dict[str, torch.Tensor]
Rows = Mapping[str, np.ndarray]  # "tokens" [n, T], and, where not every token is a target, "loss_mask" bool [n, T]
ReadRows = Callable[[np.ndarray], Rows]  # row numbers, ascending -> those rows


@dataclass(frozen=True, kw_only=True)
class HeldOutLoss:
    """Losses in nats; NaN without a target."""

    token_mean: float
    batch_mean: float
    num_tokens: int  # targets

    @property
    def perplexity(self) -> float:
        """exp(token_mean); infinite where that is beyond a float."""
        return math.exp(self.token_mean) if not self.token_mean > 709 else math.inf


@dataclass(frozen=True, kw_only=True)
class HeldOutRows:
    """One rank's part of a held-out split: its batches, and whether it has that many of its own (else a filler)."""

    batches: Sequence[Batch]
    weights: Sequence[float]

    @classmethod
    def of_rank(
        cls, read: ReadRows, num_samples: int, *, batch_size: int, rank: int = 0, num_ranks: int = 1
    ) -> "HeldOutRows":
        """Read the part of `rank`: batches rank, rank + num_ranks, … of the first `num_samples` rows, at least one.

        Every rank has equally many, since all take part in the collectives of a forward pass.
        """
        starts = range(0, num_samples, batch_size * num_ranks)
        mine = [np.arange(start + rank * batch_size, num_samples)[:batch_size] for start in starts]
        chosen = [rows if len(rows) else np.arange(1) for rows in mine]
        batches = [{name: torch.from_numpy(part) for name, part in read(rows).items()} for rows in chosen]
        return cls(batches=batches, weights=[float(len(rows) > 0) for rows in mine])


def measure(
    model: Any, rows: HeldOutRows, *, device: Device, precision: Precision | str, alone: bool = False
) -> HeldOutLoss:
    """The loss of `model`, a CausalLM, over the rows of all ranks; no gradients, the precision of training.

    `alone`: nothing is trained afterwards, so that inference mode can be used. While training it cannot: what a model
    caches in it (rotary tables, gathered weights) could not take part in a backward pass later.
    """
    with torch.inference_mode() if alone else torch.no_grad(), model_eval_mode(model):
        total = sums(model, rows, device=device, precision=precision)
    dist.all_reduce(total, reduce_operation="SUM")
    return loss_of(total)


def sums(model: Any, rows: HeldOutRows, *, device: Device, precision: Precision | str) -> torch.Tensor:
    """What the rows of this rank add to both means, [4] float64: losses, targets, means of batches, batches."""
    total = device.tensor_to_device(torch.zeros(4, dtype=torch.float64))
    for batch, weight in zip(rows.batches, rows.weights, strict=True):
        there = device.batch_to_device(batch)
        with get_precision_context(precision):
            losses = token_losses(model(there), there)
        total += weight * _terms(losses.double().sum(), targets_of(there).sum())
    return total


def loss_of(total: torch.Tensor) -> HeldOutLoss:
    """The means that the `sums` of all ranks, added up, give."""
    losses, targets, means, batches = total.tolist()
    return HeldOutLoss(
        token_mean=losses / targets if targets else math.nan,
        batch_mean=means / batches if batches else math.nan,
        num_tokens=int(targets),
    )


def _terms(losses: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """One batch's part of the sums, [4] float64, without waiting for the device."""
    return torch.stack([losses, targets.double(), losses / targets.clamp(min=1), (targets > 0).double()])
