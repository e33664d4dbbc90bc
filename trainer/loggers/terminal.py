"""What a person sees of a run: on a terminal one line that moves, elsewhere a line every so many steps."""

import contextlib
import logging
import sys

from composer import Callback, Logger, State
from composer.utils import dist

from trainer.record import Record, shares
from trainer.speed import in_words

log = logging.getLogger(__name__)


class StepLines(Callback):
    """One line every `interval` steps through logging."""

    def __init__(self, record: Record, *, interval: int, num_steps: int) -> None:
        self._record = record
        self._interval = interval
        self._num_steps = num_steps

    def batch_end(self, state: State, logger: Logger) -> None:
        done = int(state.timestamp.batch)
        if done % self._interval and done != self._num_steps:
            return
        last = self._record.last
        mixture = " ".join(f"{name} {share:.3f}" for name, share in shares(last["counts"]).items())
        log.info(
            "step %d/%d  loss %.4f  lr %.3g  %s  %s",
            done, self._num_steps, last["loss"], last["lr"], mixture, pace(self._record.speed.metrics),
        )  # fmt: skip


class Bar(Callback):
    """How much of the run is done, with loss, rate, tokens/s and time left; what is logged stands above it."""

    def __init__(self, record: Record, *, num_steps: int) -> None:
        self._record = record
        self._num_steps = num_steps
        self._open = contextlib.ExitStack()

    def fit_start(self, state: State, logger: Logger) -> None:
        if dist.get_global_rank() != 0:
            return
        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        form = "{percentage:3.0f}% {bar} {n_fmt}/{total_fmt}{postfix}"
        done = int(state.timestamp.batch)
        bar = tqdm(total=self._num_steps, initial=done, bar_format=form, dynamic_ncols=True, file=sys.stderr)
        self._bar = self._open.enter_context(bar)
        self._open.enter_context(logging_redirect_tqdm())

    def batch_end(self, state: State, logger: Logger) -> None:
        if dist.get_global_rank() == 0:
            last = self._record.last
            text = f"loss {last['loss']:.4f}  lr {last['lr']:.3g}  {pace(self._record.speed.metrics)}"
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(1)

    def close(self, state: State, logger: Logger) -> None:
        self._open.close()


def pace(metrics: dict[str, float]) -> str:
    """Tokens/s, MFU and time left, as far as they are known."""
    parts = [f"{metrics['speed/tokens_per_s']:,.0f} tokens/s"]
    if "speed/mfu" in metrics:
        parts.append(f"MFU {metrics['speed/mfu']:.1%}")
    if "speed/time_left_s" in metrics:
        parts.append(f"{in_words(metrics['speed/time_left_s'])} left")
    return "  ".join(parts)
