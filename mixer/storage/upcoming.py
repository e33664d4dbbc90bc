"""Which shards a run reads next, and from which step on: by arithmetic on its plan.

A corpus is read window by window (`mixer.epochs`), and a window's shards are in use together from the step of its first
sample to that of its last. So what will be needed, and in which order, is known as far ahead as anybody cares to look.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixer.groups import GroupedPlan, GroupShare
from mixer.plan import Plan
from mixer.storage.budget import NEVER, Needs

_I64 = NDArray[np.int64]


class Use(NamedTuple):
    """Shards [n] (see `Shelf`), ascending, that the steps `start` to `last` read from together, as `corpus`."""

    start: int
    last: int
    corpus: str
    shards: _I64


def uses_from(plan: Plan | GroupShare, step: int, firsts: Mapping[str, int]) -> Iterator[Use]:
    """What is used at `step` or later, by the step at which its use begins, to the end of the run.

    `plan` is that of a run, or what one of its node groups reads. `firsts` gives the number of the first shard of each
    corpus that has shards of its own; others are passed over.
    """
    ordinals = plan.drawn_before(step)
    known = {name: firsts[plan.origins[name]] for name in plan.names if plan.origins[name] in firsts}
    uses = (_uses_of(plan, name, ordinals[name], first) for name, first in known.items())
    return heapq.merge(*uses, key=lambda use: use[0])


def next_uses(plan: Plan | GroupShare, step: int, firsts: Mapping[str, int]) -> dict[str, Use]:
    """Of each corpus the window that it will enter next after `step`, unless the run ends before."""
    ordinals, found = plan.drawn_before(step), {}
    for name in plan.names:
        if plan.origins[name] in firsts and plan.step_of(name, ordinals[name]) is not None:
            following = plan.order_of(name).window_at(ordinals[name]).end
            use = next(_uses_of(plan, name, following, firsts[plan.origins[name]]), None)
            if use is not None:
                found[name] = use
    return found


def _uses_of(plan: Plan | GroupShare, name: str, ordinal: int, first_shard: int) -> Iterator[Use]:
    """The uses of one corpus under one of its names, from an ordinal on."""
    order = plan.order_of(name)
    while (start := plan.step_of(name, ordinal)) is not None:
        window = order.window_at(ordinal)
        last = plan.step_of(name, window.end - 1)
        yield Use(start, NEVER if last is None else last, name, window.shards + first_shard)
        ordinal = window.end


def shares_of(plan: Plan, ranks: range, num_ranks: int) -> Sequence[Plan | GroupShare]:
    """What is read by these of so many ranks: the whole plan, or the shares of the node groups in which they stand."""
    if not isinstance(plan, GroupedPlan):
        return [plan]
    return [plan.share_of(group) for group in sorted({g for rank in ranks for g in plan.groups_of(rank, num_ranks)})]


class Upcoming:
    """The uses of plans from a step on, looked up once each; `plans` and `firsts` as in `uses_from`."""

    def __init__(self, plans: Sequence[Plan | GroupShare], step: int, firsts: Mapping[str, int]) -> None:
        self._rest = heapq.merge(*(uses_from(plan, step, firsts) for plan in plans), key=lambda use: use[0])
        self._known: list[Use] = []
        self._following: Use | None = next(self._rest, None)
        self.num_known = 0

    @property
    def next_start(self) -> int:
        """The step at which the first use begins that was not looked at yet; NEVER if there is none."""
        return NEVER if self._following is None else self._following.start

    def pass_by(self, step: int) -> None:
        """Forget what is last used before `step`."""
        self._known = [use for use in self._known if use.last >= step]

    def until(self, step: int) -> list[Use]:
        """All uses that begin at `step` or before, and are not forgotten, by the step at which they begin."""
        while self.next_start <= step:
            self._look_further()
        return [use for use in self._known if use.start <= step]

    def needs(self, num_shards: int, *, num_ahead: int, keep_until: int) -> Needs:
        """When each of all shards is needed first, as far as uses of `num_ahead` shards reach."""
        first_step = np.full(num_shards, NEVER)
        ahead, index = 0, 0
        while ahead < num_ahead and (index < len(self._known) or self._following is not None):
            if index == len(self._known):
                self._look_further()
            use = self._known[index]
            first_step[use.shards] = np.minimum(first_step[use.shards], use.start)
            ahead, index = ahead + len(use.shards), index + 1
        return Needs(first_step, keep_until)

    def _look_further(self) -> None:
        assert self._following is not None
        self._known.append(self._following)
        self._following = next(self._rest, None)
        self.num_known += 1
