"""Which node group reads which draws: what a stretch draws of each corpus, dealt out to the groups, by random access.

After any number of steps every group has read as many samples as it has slots, and all groups together (but for what
waits, see below) as many of each corpus as the stretch has drawn. Both are to hold at once, so not every corpus can be
dealt evenly by itself. All but the heaviest are: each of their draws goes to the group that has had the fewest, so no
two groups differ by more than one. The heaviest takes the slots that are left, and in it the differences of all others
meet. A group may be dealt more draws in one step than it has slots; what does not fit waits, first come first served,
and the heaviest corpus is read in its stead elsewhere. That happens only where a group has few slots.

Corpora out of use keep the differences that they have, and corpora that are hardly used keep theirs for long. The
heavier ones share in making up for these, alike.

Integers throughout. How many draws had been read after t steps is a minimum over the steps before t (Lindley 1952, "The
theory of queues with a single server"), and only over the last few, since the draws that arrive in many steps are less
than the slots of these by the heaviest corpus's share.
"""

import numpy as np
from numpy.typing import NDArray

from mixer.building import Segment
from mixer.schedule import Schedule
from mixer.weights import UNIT

_I64 = NDArray[np.int64]

ONE = 1 << 20
SOON = 64
"""Draws of a group within which the differences in a corpus are made up for, or else count as those that stay."""
SWAY = 8
"""Between two steps of a stretch no corpus is drawn these many times more often than its weight says: at most 4."""


class Deal:
    """The draws of one stretch by group.

    Args:
        segment: what is drawn, and where in the run.
        schedule: how many draws each step has, which `num_groups` divides.
        dealt: what each group has read of each corpus before [num_corpora, num_groups].
        turns: who comes first of groups that have had as much [num_corpora, num_groups], each row a permutation.
    """

    def __init__(self, segment: Segment, schedule: Schedule, dealt: _I64, turns: _I64) -> None:
        self._segment, self._schedule, self._dealt = segment, schedule, dealt
        weights, num_groups = segment.stretch.weights, dealt.shape[1]
        self._heaviest = max(weights, key=lambda corpus: (weights[corpus], -corpus))
        self._others = sorted(weights.keys() - {self._heaviest}, key=lambda corpus: (weights[corpus], corpus))
        out_of_use = np.delete(dealt, list(weights), axis=0)
        surplus = ONE * (num_groups * out_of_use - out_of_use.sum(axis=1, keepdims=True)).sum(axis=0) // num_groups
        self._takers: list[_Takers] = []
        for index, corpus in enumerate(self._others):
            share = surplus // (len(weights) - index)
            self._takers.append(_Takers(ONE * dealt[corpus] + share, turns[corpus]))
            num_soon = weights[corpus] * SOON * num_groups // UNIT
            surplus = surplus - share + self._takers[-1].above(num_soon)
        self._before = dealt.sum(axis=1)
        waiting = np.maximum(segment.drawn - self._before, 0)[self._others]
        beyond = sum(1 + takers.spread for takers in self._takers) + int((-(-(SWAY + waiting) // num_groups)).sum())
        self._longest_wait = beyond * UNIT // weights[self._heaviest]  # in slots of one group

    def counts(self, step: int) -> _I64:
        """What each group has read of each corpus before `step` [num_corpora, num_groups].

        Counted from the beginning of the run, as `dealt` is; the step is one of the stretch, or its end.
        """
        steps = np.arange(self._last_free(step), step + 1)
        num_draws = np.array([self._schedule.first_draw(int(s)) for s in steps]) - self._segment.first_draw
        drawn = np.array([self._segment.stretch.counts(int(n)) for n in num_draws]) + self._segment.drawn
        open_draws = np.where(num_draws[:, None] > 0, np.maximum(drawn - self._before, 0), 0)
        due = [takers.of(open_draws[:, corpus]) for takers, corpus in zip(self._takers, self._others, strict=True)]
        num_slots, result = num_draws // self._dealt.shape[1], self._dealt.copy()
        result[self._heaviest] += num_slots[-1]
        if due:
            read = self._served(np.array(due), num_slots[-1] - num_slots)
            result[self._others] += read
            result[self._heaviest] -= read.sum(axis=0)
        return result

    def _last_free(self, step: int) -> int:
        """A step before which nothing waits that has not been read before `step`."""
        draw = self._schedule.first_draw(step) - self._longest_wait * self._dealt.shape[1]
        if draw <= self._segment.first_draw:
            return self._segment.start
        return self._schedule.batching.step_after(draw)

    def _served(self, due: _I64, slots_left: _I64) -> _I64:
        """Of the draws `due` before some steps [others, steps, groups], those read before the last [others, groups].

        `slots_left` [steps] are those of a group from each of the steps on.
        """
        arrived = due.sum(axis=0)
        read = (arrived + slots_left[:, None]).min(axis=0)
        groups = np.arange(len(read))
        served = (arrived <= read).sum(axis=0) - 1  # the last step of which all has been read
        following = np.minimum(served + 1, len(arrived) - 1)
        whole = due[:, served, groups]
        partly = due[:, following, groups] - whole
        room = (read - arrived[served, groups]) - (partly.cumsum(axis=0) - partly)
        taken: _I64 = whole + np.minimum(np.maximum(room, 0), partly)
        return taken


class _Takers:
    """Draws of one corpus, each taken by the group that stands lowest and rises by one with it; ties by turn.

    Args:
        heights: where each group stands [num_groups], in parts of which `ONE` make one.
        turns: a permutation of the groups.
    """

    def __init__(self, heights: _I64, turns: _I64) -> None:
        self._heights, self._floors = heights, heights // ONE
        order = np.lexsort((turns, heights % ONE))
        low, high = int(self._floors.min()), int(self._floors.max())
        self.spread = high - low
        self._levels = np.arange(low, high + 1)
        self._filled = np.maximum(self._levels[:, None] - self._floors, 0).sum(axis=1)  # draws until all stand there
        is_low = self._floors[order] <= self._levels[:, None]
        self._ranks = np.empty((len(self._levels), len(order)), np.int64)  # who takes the next draws at each level
        self._ranks[:, order] = np.where(is_low, is_low.cumsum(axis=1) - 1, len(order))

    def of(self, num_draws: _I64) -> _I64:
        """How many of the first `num_draws` [n] each group takes [n, num_groups]."""
        level = np.searchsorted(self._filled, num_draws, side="right") - 1
        rounds, rest = np.divmod(num_draws - self._filled[level], len(self._floors))
        risen = np.maximum(self._levels[level][:, None] - self._floors, 0)
        taken: _I64 = risen + rounds[:, None] + (self._ranks[level] < rest[:, None])
        return taken

    def above(self, num_draws: int) -> _I64:
        """By how much each group still stands out above the others after so many draws [num_groups]."""
        level = self._levels[int(np.searchsorted(self._filled, num_draws, side="right")) - 1]
        higher: _I64 = np.maximum(self._heights - ONE * (level + 1), 0)
        return higher
