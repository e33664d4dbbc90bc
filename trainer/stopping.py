"""Ending on request: a signal lets the step under way end, a checkpoint is written, and the processes end.

SIGTERM is what Slurm, Kubernetes and the launcher `composer` send, SIGUSR1 what `sbatch --signal=USR1@120` sends,
SIGINT is Ctrl-C. A signal to any one rank counts for all of them: at the end of each step the ranks agree by one
all-reduce of one number, so all end after the same step, at most one step after the signal. The same signal again,
more than `TOGETHER_S` later, ends the process at once. Another one changes nothing: Slurm sends SIGTERM after SIGUSR1
while the checkpoint is on its way.
"""

import logging
import os
import signal
import time
from types import FrameType

import torch
from composer import Callback, Logger, State
from composer.utils import dist

from mixer.dataset import end_with_parent

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
TOGETHER_S = 1.0  # within which a signal that comes again is the same request: a launcher passes on what all got


class Stopping(Callback):
    """`signal` is the name of what ended the run, on all ranks alike, as soon as they agree; None: nothing has."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._asked = 0  # the signal that this rank got
        self._first_at: dict[int, float] = {}

    def fit_start(self, state: State, logger: Logger) -> None:
        for number in SIGNALS:
            signal.signal(number, self._ask)

    def batch_end(self, state: State, logger: Logger) -> None:
        asked = state.device.tensor_to_device(torch.tensor(self._asked))
        dist.all_reduce(asked, reduce_operation="MAX")
        if number := int(asked.item()):
            self.signal = signal.Signals(number).name
            state.stop_training()

    def fit_end(self, state: State, logger: Logger) -> None:
        """All is written: a signal means nothing more to a run that was asked to end, and ends any other at once."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN if self.signal else signal.SIG_DFL)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._first_at.setdefault(number, now) > TOGETHER_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if not self._asked:
            self._asked = number
            log.info("%s: ending after this step; the same again ends at once", signal.Signals(number).name)


def begin_worker(worker: int) -> None:
    """Give this to a DataLoader as `worker_init_fn`: it ends with its process, and by nothing else.

    In a process group of its own it gets no signal that is meant for the ranks, such as Ctrl-C or what Slurm sends: a
    worker that ended by it would end its rank in the middle of a step.
    """
    os.setpgid(0, 0)
    end_with_parent(worker)
