"""What all destinations of metrics have in common: when they open and close, and which run they go on with.

A destination writes on rank 0 alone. It opens when training begins, so after a checkpoint was loaded: the checkpoint
holds the identity that the run has at the destination, and a resumed run goes on there. A run of another name, which
branches off, and one that starts anew get a new identity. Metrics of one step are written together, as soon as a
metric of another step comes; steps that are trained again after a crash are written again, with the same numbers.

Composer's own loggers open before the checkpoint is read, and so make a new run at each start; its TensorBoard logger
begins a new file every 100 steps, and its MLflow logger fails where a run goes on with another parameter.
"""

import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from composer import Logger, State
from composer.loggers import LoggerDestination
from composer.utils import dist


class Destination(LoggerDestination):
    """Writes the metrics of a run; `run_name` is the run's own, `run_id` what the destination calls it."""

    def __init__(self, run_name: str) -> None:
        self.run_name = run_name
        self.run_id: str | None = None
        self._open = False
        self._complete = False
        self._step = 0
        self._pending: dict[str, float] = {}

    @abstractmethod
    def start(self, step: int) -> None:
        """Begin the run, or go on with `run_id`, with `step` steps done; sets `run_id` where that is of use later."""

    @abstractmethod
    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """All metrics of a step."""

    def sync(self) -> None:
        """Return when a crash can take away nothing that was written."""

    @abstractmethod
    def finish(self, *, complete: bool) -> None:
        """The last word; not `complete` where training ended by an error."""

    def fit_start(self, state: State, logger: Logger) -> None:
        if dist.get_global_rank() == 0:
            self.start(int(state.timestamp.batch))
            self._open = True

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if not self._open or step is None:
            return
        if step != self._step:
            self._flush()
            self._step = step
        self._pending |= {name: float(value) for name, value in metrics.items() if not isinstance(value, str)}

    def fit_end(self, state: State, logger: Logger) -> None:
        self._complete = True

    def post_close(self) -> None:
        if self._open:
            self._flush()
            self._open = False
            self.finish(complete=self._complete)

    def state_dict(self) -> dict[str, Any]:
        if self._open:  # steps that a checkpoint has are not trained again: their metrics must be kept before
            self._flush()
            self.sync()
        return {"run_name": self.run_name, "run_id": self.run_id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["run_name"] == self.run_name:
            self.run_id = state["run_id"]

    def _flush(self) -> None:
        if self._pending:
            self.write(self._step, self._pending)
            self._pending = {}


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
