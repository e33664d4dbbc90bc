"""The callback that sets the model's positions to what the schedule in force says of each step.

A pure function of the step, like the learning rate: nothing is in the checkpoint, a resumed run has it at its first
step, and an edit of a live schedule takes effect where it says. An evaluation uses what the last step was trained with.
"""

import logging
from collections.abc import Callable, Iterable

from composer import Callback, Logger, State
from composer.utils import dist
from torch import nn

from mixer.context import PLAIN, Context
from trainer.context.rotary import Rotary

log = logging.getLogger(__name__)


class ContextLength(Callback):
    """Sets `model` (of Hugging Face), made for rows of `seq_len` tokens, to `context` of each step before it.

    Raises ConfigError at once where it cannot be set to what is `planned`.
    """

    def __init__(
        self, model: nn.Module, context: Callable[[int], Context], *, planned: Iterable[Context], seq_len: int
    ) -> None:
        self._rotary = Rotary(model, seq_len=seq_len)
        for one in planned:
            self._rotary.check(one)
        self._context = context
        self._now = Context(seq_len, PLAIN)

    def batch_start(self, state: State, logger: Logger) -> None:
        step = int(state.timestamp.batch)
        context = self._context(step)
        if context == self._now:
            return
        self._rotary.set(context)
        self._now = context
        if dist.get_global_rank() == 0:
            log.info("step %d  rows of %d tokens, rope %s", step, context.seq_len, context.rope.to_dict())
