"""How fast a run is: tokens/s, MFU, the share of time that training waits for data, memory, time left.

A step takes from the moment its batch is asked for to the end of its optimizer step; evaluation and checkpoints lie
outside. Composer reads the loss of a step from the device once all work of the step is done, so the host's clock is
right at that moment and nothing more is synchronised here. Rates are means over the last `NUM_STEPS` steps, over all
ranks. MFU (arXiv 2204.02311, appendix B) is the FLOPs that the model needs, forward and backward without any that are
done twice, per second, as a share of what the devices can do at most. Imports neither torch nor composer.
"""

import resource
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

NUM_STEPS = 50


class Step(NamedTuple):
    """What one step did, over all ranks, and how long it took."""

    seconds: float
    wait_s: float
    samples: int
    tokens: int
    flops: float


class Speed:
    """Takes the time of each step; `num_tokens` are those of the whole run.

    `flops_per_token` of the model at a sequence length, and `peak_flops` of one device, are None where there is none:
    then there is no MFU.
    """

    def __init__(
        self,
        *,
        num_devices: int,
        num_tokens: int,
        flops_per_token: Callable[[int], float] | None = None,
        peak_flops: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._num_devices = num_devices
        self._num_tokens = num_tokens
        self._flops_per_token = flops_per_token
        self._peak_flops = peak_flops
        self._clock = clock
        self._steps: deque[Step] = deque(maxlen=NUM_STEPS)
        self._begin = 0.0
        self._first: tuple[float, int] | None = None  # when the first step had ended, and the run's tokens by then
        self._time_left: float | None = None

    def begin(self) -> None:
        """The batch of a step is asked for now."""
        self._begin = self._clock()

    def end(self, *, samples: int, tokens: int, seq_len: int, wait_s: float, tokens_so_far: int) -> None:
        """The step has ended, after which the run has read `tokens_so_far`."""
        now = self._clock()
        flops = tokens * self._flops_per_token(seq_len) if self._flops_per_token else 0.0
        self._steps.append(Step(now - self._begin, wait_s, samples, tokens, flops))
        if self._first is None:
            self._first = now, tokens_so_far
            return
        then, before = self._first  # the first step, which compiles and fills caches, says nothing of the others
        self._time_left = (self._num_tokens - tokens_so_far) * (now - then) / (tokens_so_far - before)

    @property
    def metrics(self) -> dict[str, float]:
        """By their names at loggers and service; without those that cannot be known."""
        if not self._steps:
            return {}
        seconds, wait_s, samples, tokens, flops = (sum(column) for column in zip(*self._steps, strict=True))
        seconds = max(seconds, 1e-9)
        found = {
            "speed/step_s": seconds / len(self._steps),
            "speed/tokens_per_s": tokens / seconds,
            "speed/samples_per_s": samples / seconds,
            "speed/tokens_per_s_per_device": tokens / seconds / self._num_devices,
            "speed/data_wait_share": wait_s / seconds,
        }
        if flops and self._peak_flops:
            found["speed/mfu"] = flops / seconds / self._num_devices / self._peak_flops
        if self._time_left is not None:
            found["speed/time_left_s"] = self._time_left
        return found


def memory_bytes() -> dict[str, float]:
    """The most memory that this process has had: on its GPU (tensors alone; with torch's cache), else in all."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return {
            "memory/peak_allocated_bytes": float(torch.cuda.max_memory_allocated()),
            "memory/peak_reserved_bytes": float(torch.cuda.max_memory_reserved()),
        }
    unit = 1 if sys.platform == "darwin" else 1024
    return {"memory/peak_rss_bytes": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)}


def in_words(seconds: float) -> str:
    """A length of time, as in 2d 3:04:05."""
    days, rest = divmod(round(seconds), 86_400)
    return f"{f'{days}d ' if days else ''}{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
