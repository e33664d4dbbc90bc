"""Held-out loss of every corpus: at intervals, at each switchpoint and at the end of the run.

The loss is the mean over tokens (not over batches) of the next-token cross-entropy in nats, over the first
`num_samples` rows of the corpus' held-out split, the same rows each time and with any number of ranks. An
evaluation "at step s" uses the model after s steps: at a switchpoint, the model that has not seen the new mixture.
"""

import logging
from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from composer import Callback, Logger, State
from composer.core import get_precision_context
from composer.utils import dist, model_eval_mode

from trainer.models.causal_lm import token_losses
from trainer.record import MetricsFile

log = logging.getLogger(__name__)


class HeldOut(Callback):
    """Evaluates `rows` {corpus: token ids [n, seq_len]} and logs `eval/<corpus>/loss`.

    `switchpoints` is asked each step, since a live schedule changes them; `batch_size` is samples per rank.
    """

    def __init__(
        self,
        rows: Mapping[str, np.ndarray],
        *,
        file: MetricsFile,
        interval: int,
        num_steps: int,
        batch_size: int,
        switchpoints: Callable[[], Collection[int]],
    ) -> None:
        self.last: dict[str, float] = {}
        self._rows = rows
        self._file = file
        self._interval = interval
        self._num_steps = num_steps
        self._batch_size = batch_size
        self._switchpoints = switchpoints

    def batch_end(self, state: State, logger: Logger) -> None:
        step = int(state.timestamp.batch)
        if step % self._interval and step != self._num_steps and step not in self._switchpoints():
            return
        self.last = {name: self._loss(state, rows) for name, rows in self._rows.items()}
        logger.log_metrics({f"eval/{name}/loss": loss for name, loss in self.last.items()})
        self._file.write({"step": step, "eval": self.last})
        if dist.get_global_rank() == 0:
            log.info("step %d  held-out loss  %s", step, "  ".join(f"{k} {v:.4f}" for k, v in self.last.items()))

    def _loss(self, state: State, rows: np.ndarray) -> float:
        """Mean loss over the tokens of all `rows`, over all ranks; every rank runs equally many batches."""
        world, rank = dist.get_world_size(), dist.get_global_rank()
        total = torch.zeros(2, dtype=torch.float64)  # sum of losses, number of tokens
        with torch.no_grad(), model_eval_mode(state.model):
            for start in range(0, len(rows), self._batch_size * world):
                mine = rows[start + rank * self._batch_size :][: self._batch_size]
                weight = 1.0 if len(mine) else 0.0  # a rank without rows still takes part in the collectives
                batch = state.device.batch_to_device({"tokens": torch.from_numpy(mine if len(mine) else rows[:1])})
                with get_precision_context(state.precision):
                    losses = token_losses(state.model(batch), batch)
                total += weight * torch.tensor([losses.double().sum().item(), losses.numel()], dtype=torch.float64)
        total = state.device.tensor_to_device(total)
        dist.all_reduce(total, reduce_operation="SUM")
        return float(total[0] / total[1])
