"""Guard rails: what a proposed mixture may change, and the nearest mixture that keeps to them.

Weights are integers, parts per 10^9, as in `mixer.weights`; so a mixture that leaves here sums to exactly 1 and keeps
every rail exactly. Standard library only; knows neither ledgers nor algorithms.
"""

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from mixer.errors import ProposingError
from mixer.ramp import SHAPES, Ramp
from mixer.schedule import Schedule
from mixer.weights import UNIT, Mixture, apportion, blend

Box = Mapping[str, tuple[int, int]]
"""Corpus name → the least and the greatest weight it may have, in parts per 10^9."""


@dataclass(frozen=True, kw_only=True)
class Rails:
    """What an algorithm may do to a mixture. Weights are shares from 0 to 1, times are steps.

    Args:
        minimum, maximum: weight of every corpus in use. A corpus at 0 is out of use, and no algorithm brings it back.
        ranges: corpus → its own (minimum, maximum).
        fixed: corpora whose weight never moves.
        max_change: the most by which any weight may differ from the mixture in force, in one revision.
        min_change: a revision is made only if some weight moves at least that far.
        cool_down: steps from the last switchpoint, whoever made it, to the next revision.
        ramp: how the change comes about; None is at once. While a ramp runs, nothing else is proposed.

    Raises ProposingError, with every problem, for rails that no mixture could keep.
    """

    minimum: float = 0.01
    maximum: float = 1.0
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    fixed: Collection[str] = ()
    max_change: float = 0.05
    min_change: float = 0.005
    cool_down: int = 500
    ramp: Ramp | None = None

    def __post_init__(self) -> None:
        problems = [*self._wrong_numbers(), *self._wrong_ranges()]
        if problems:
            raise ProposingError.of(problems)

    def check(self, schedule: Schedule) -> None:
        """Raise ProposingError if the rails cannot be kept with the corpora of some phase of `schedule`."""
        problems = []
        for phase in schedule.phases:
            mixture = {name: weight for name, weight in phase.mixture.items() if weight}
            problems += [f"{problem} (phase from step {phase.start})" for problem in self._impossible(mixture)]
        if problems:
            raise ProposingError.of(problems)

    def movable(self, mixture: Mixture) -> set[str]:
        """The corpora whose weight may change: none where fewer than two could."""
        names = {name for name, weight in mixture.items() if weight} - set(self.fixed)
        return names if len(names) > 1 else set()

    def limit(self, wish: Mixture, old: Mixture) -> dict[str, int]:
        """The mixture nearest to `wish` that may follow `old`; both name the same corpora, and see `nearest`.

        If `old` itself lies outside of the minima and maxima (people put it there), the nearest mixture inside is
        approached in a straight line, as far as `max_change` lets it. Raises ProposingError if there is none inside.
        """
        problems = self._impossible(old)
        if problems:
            raise ProposingError.of(problems)
        change = parts(self.max_change)
        box = self._box(old)
        if all(low <= old[name] <= high for name, (low, high) in box.items()):
            near = {n: (max(low, old[n] - change), min(high, old[n] + change)) for n, (low, high) in box.items()}
            return nearest(wish, near)
        inside = nearest(wish, box)
        distance = max(abs(inside[name] - old[name]) for name in old)
        return inside if distance <= change else blend(old, inside, change * UNIT // distance)

    def holding(self, wish: Mixture, old: Mixture, new: Mixture) -> dict[str, list[str]]:
        """Rail → the corpora that it kept from their wish."""
        held: dict[str, list[str]] = {}
        change, box = parts(self.max_change), self._box(old)
        for name in sorted(name for name in new if wish[name] != new[name]):
            end, rail = (1, "maximum") if wish[name] > new[name] else (0, "minimum")
            if name in self.fixed:
                held.setdefault("fixed", []).append(name)
            elif new[name] == box[name][end]:
                held.setdefault(rail, []).append(name)
            elif abs(new[name] - old[name]) == change:
                held.setdefault("max_change", []).append(name)
        return held

    def _box(self, old: Mixture) -> dict[str, tuple[int, int]]:
        """The weights each corpus may have, however far away they are."""
        box = {}
        for name, weight in old.items():
            low, high = self.ranges.get(name, (self.minimum, self.maximum))
            box[name] = (weight, weight) if name in self.fixed else (parts(low), parts(high))
        return box

    def _impossible(self, old: Mixture) -> list[str]:
        """Why no mixture of these corpora keeps the rails."""
        if not self.movable(old):
            return []
        box = self._box(old)
        least, most = (sum(bounds[end] for bounds in box.values()) for end in (0, 1))
        advice = "lower a minimum, raise a maximum, or free a fixed corpus"
        if least > UNIT:
            return [f"the minima of {len(box)} corpora sum to {least / UNIT:.9g}, more than 1: {advice}"]
        if most < UNIT:
            return [f"the maxima of {len(box)} corpora sum to {most / UNIT:.9g}, less than 1: {advice}"]
        return []

    def _wrong_numbers(self) -> list[str]:
        problems = []
        for name in ("max_change", "min_change"):
            if not _is_share(getattr(self, name)):
                problems.append(f"{name} must be from 0 to 1, found {getattr(self, name)!r}")
        if self.max_change == 0:
            problems.append("max_change 0 would let nothing change, it must be above 0")
        elif not problems and self.min_change > self.max_change:
            problems.append(f"min_change {self.min_change} is above max_change {self.max_change}: nothing could change")
        if isinstance(self.cool_down, bool) or not isinstance(self.cool_down, int) or self.cool_down < 0:
            problems.append(f"cool_down must be a whole number of steps, 0 or more, found {self.cool_down!r}")
        if self.ramp and (self.ramp.shape not in SHAPES or self.ramp.length < 1):
            problems.append(f"a ramp is {' or '.join(SHAPES)} over at least one step, found {self.ramp}")
        return problems

    def _wrong_ranges(self) -> list[str]:
        problems = []
        for name, (low, high) in {"every corpus": (self.minimum, self.maximum), **self.ranges}.items():
            if not (_is_share(low) and _is_share(high) and low <= high):
                problems.append(f"the range of {name} must be 0 ≤ minimum ≤ maximum ≤ 1, found {low!r} to {high!r}")
        for name in sorted(set(self.fixed) & self.ranges.keys()):
            problems.append(f"corpus '{name}' is fixed, so it cannot have a range: leave one of them out")
        if not problems and sum(parts(low) for low, _ in self.ranges.values()) > UNIT:
            total = sum(parts(low) for low, _ in self.ranges.values()) / UNIT
            problems.append(f"the minima in ranges sum to {total:.9g}, more than 1: lower some")
        return problems


def nearest(wish: Mixture, box: Box) -> dict[str, int]:
    """The mixture within `box`, with the sum of `wish`, that has the least relative entropy Σ w·log(w / wish) to it.

    That is `wish` times a common factor, held to its bounds: what the rails leave free is shared in the proportions
    wished. (The least Euclidean distance adds the same amount to each, and so takes half of a small corpus because a
    third one is fixed.) A wish of 0 counts as 10^−18: it rises only when nothing else can. The factor is exact, and
    rounding (largest remainder, ties by name) passes no bound, as bounds are whole. Needs lower bounds that sum to no
    more, upper bounds that sum to no less, than `wish`.
    """
    total = sum(wish.values())
    pull = {name: wish[name] * UNIT + 1 for name in box}

    def scaled(factor: Fraction) -> dict[str, Fraction]:
        return {name: min(max(pull[name] * factor, Fraction(low)), Fraction(high)) for name, (low, high) in box.items()}

    def size(factor: Fraction) -> Fraction:
        return sum(scaled(factor).values(), Fraction(0))

    corners = sorted({Fraction(bound, pull[name]) for name, bounds in box.items() for bound in bounds})
    index = bisect_right(corners, Fraction(total), key=size) - 1
    factor = corners[index]
    if size(factor) < total:
        following = corners[index + 1]
        factor += (following - factor) * (total - size(factor)) / (size(following) - size(factor))
    return apportion(scaled(factor), total)


def parts(share: float) -> int:
    """A share as written in decimal, in parts per 10^9."""
    return round(Fraction(str(share)) * UNIT)


def _is_share(value: float) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= 1  # holds for no NaN
