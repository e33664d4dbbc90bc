"""The learning rate of a step, as a pure function of the step: pieces of curves, one after the other.

A piece covers steps [start, end) and goes from the rate before it, `first`, to `last`, which its last step has
exactly. With d = step + 1 - start, n = end - start and p = d / n in (0, 1] the rate of a step is

    warmup           first + (last - first) * d / n
    linear           last + (first - last) * (1 - p)
    cosine           last + (first - last) * (1 + cos(pi * p)) / 2       (arXiv 1608.03983, one period)
    one_minus_sqrt   last + (first - last) * (1 - sqrt(p))               (arXiv 2405.18392, section 3)
    exponential      first * (last / first) ** p                         (as much smaller in each step)
    constant         last

So pieces join without a jump, the first step of a run has not a rate of zero, and the last step has exactly the
floor. Nothing is state: a resumed run cannot be off by one. Imports neither torch nor composer.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

Shape = Literal["linear", "cosine", "exponential", "one_minus_sqrt"]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Steps [start, end) from the rate `first`, which the step before has, to `last`; `end` may lie past the run."""

    start: int
    end: int
    first: float
    last: float
    shape: Shape | Literal["warmup", "constant"]

    def at(self, step: int) -> float:
        """The rate of a step of this piece."""
        done, length = step + 1 - self.start, self.end - self.start
        if self.shape == "warmup":
            return self.first + (self.last - self.first) * done / length
        if self.shape == "constant" or done >= length:
            return self.last
        if self.shape == "exponential":
            return self.first * (self.last / self.first) ** (done / length)
        return self.last + (self.first - self.last) * _left(self.shape, done, length)


def _left(shape: str, done: int, length: int) -> float:
    """How much of the way is still to go: from 1 before the first step of a piece to 0 in its last."""
    if shape == "cosine":
        return (1 + math.cos(math.pi * (done / length))) / 2
    if shape == "one_minus_sqrt":
        return 1 - math.sqrt(done / length)
    return (length - done) / length


def lr_at(step: int, pieces: Sequence[Piece]) -> float:
    """The learning rate of `step` on a curve: `pieces` ascend without a gap, the first begins at step 0."""
    return pieces[bisect_right(pieces, step, key=attrgetter("start")) - 1].at(step)
