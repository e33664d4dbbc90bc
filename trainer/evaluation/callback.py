"""Held-out loss of every corpus while training: at intervals, at each switchpoint and at the end of the run.

An evaluation "at step s" uses the model after s steps: at a switchpoint, the model that has not seen the new mixture. A
run that branches off from a checkpoint exactly at a switchpoint is evaluated there before its first step, since its
parent had none there.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from composer import Callback, Logger, State
from composer.utils import dist

from trainer.evaluation.forgetting import Forgetting
from trainer.evaluation.measuring import HeldOutLoss, HeldOutRows, measure
from trainer.evaluation.settings import EvalConfig, batch_size_of
from trainer.record import MetricsFile
from trainer.sources import Sources

log = logging.getLogger(__name__)


class HeldOut(Callback):
    """Evaluates `rows`, by corpus, and logs `eval/<corpus>/loss` and what else `metrics_of` gives.

    `switchpoints` is asked each step, since a live schedule changes them. `last`: the newest values, for the service.
    """

    def __init__(
        self,
        rows: Mapping[str, HeldOutRows],
        *,
        file: MetricsFile,
        interval: int,
        num_steps: int,
        reference: str,
        switchpoints: Callable[[], Collection[int]],
    ) -> None:
        self.last: dict[str, float] = {}
        self._rows = rows
        self._file = file
        self._interval = interval
        self._num_steps = num_steps
        self._switchpoints = switchpoints
        self._forgetting = Forgetting(reference)

    def state_dict(self) -> dict[str, Any]:
        return {"forgetting": self._forgetting.state_dict(), "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._forgetting.load_state_dict(state.get("forgetting", {}))
        self.last = dict(state.get("last", {}))

    def fit_start(self, state: State, logger: Logger) -> None:
        step = int(state.timestamp.batch)
        if step in self._switchpoints() and not self._forgetting.knows(step):
            self._evaluate(step, state, logger)

    def batch_end(self, state: State, logger: Logger) -> None:
        step = int(state.timestamp.batch)
        if step % self._interval == 0 or step == self._num_steps or step in self._switchpoints():
            self._evaluate(step, state, logger)

    def _evaluate(self, step: int, state: State, logger: Logger) -> None:
        found = {
            name: measure(state.model, rows, device=state.device, precision=state.precision)
            for name, rows in self._rows.items()
        }
        losses = {name: loss.token_mean for name, loss in found.items()}
        if step in self._switchpoints():
            self._forgetting.at_switchpoint(step, losses)
        forgetting = self._forgetting.metrics(losses)
        self.last = {**metrics_of(found), **forgetting}
        logger.log_metrics(self.last)
        self._file.write(self._line(step, found))
        if dist.get_global_rank() == 0:
            shown = "  ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
            since = [f"  forgotten of {self._forgetting.reference} {value:+.4f}" for value in forgetting.values()][:1]
            log.info("step %d  held-out loss  %s%s", step, shown, *since or [""])

    def _line(self, step: int, found: Mapping[str, HeldOutLoss]) -> dict[str, Any]:
        """The line of the metrics file (`trainer.record`)."""
        losses = {name: loss.token_mean for name, loss in found.items()}
        line = {
            "step": step,
            "eval": losses,
            "eval_batch_means": {name: loss.batch_mean for name, loss in found.items()},
        }
        since = {str(at): forgotten for at, forgotten in self._forgetting.since(losses).items()}
        return {**line, "forgetting": {self._forgetting.reference: since}} if since else line


def rows_of_rank(sources: Sources, config: EvalConfig, *, rank: int, num_ranks: int) -> dict[str, HeldOutRows]:
    """What this rank evaluates of each corpus, read from the held-out splits."""
    return {
        name: HeldOutRows.of_rank(
            partial(sources.held_out_rows, name),
            sources.num_held_out(name, config.num_samples),
            batch_size=batch_size_of(sources.config),
            rank=rank,
            num_ranks=num_ranks,
        )
        for name in sorted(sources.held_out)
    }


def metrics_of(found: Mapping[str, HeldOutLoss]) -> dict[str, float]:
    """What was measured of each corpus, by the names under which loggers and the service have it."""
    return {
        f"eval/{name}/{what}": value
        for name, loss in found.items()
        for what, value in (
            ("loss", loss.token_mean),
            ("perplexity", loss.perplexity),
            ("loss_batch_mean", loss.batch_mean),
        )
    }
