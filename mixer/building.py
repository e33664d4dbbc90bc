"""Building a plan: the run as segments of constant weights, each beginning with what those before it left.

Which corpus stands at which draw depends on the weights at each draw alone. A change of the corpora acts before the
first draw of its step and begins no new segment, unless another corpus gets the weight (a rename, a cap). Nor does
another batch size, which only cuts the draws into steps elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mixer.apportion import Stretch
from mixer.changes import Change
from mixer.corpora import Domain
from mixer.errors import RepetitionError
from mixer.schedule import Schedule
from mixer.weights import UNIT, Mixture


@dataclass(frozen=True, kw_only=True)
class Past:
    """What the steps below `step` leave to those from it on; with it a plan needs nothing else of them.

    `drawn` samples and `errors` (target minus drawn, in 1/10^9 samples) of each corpus, the names of those at their
    cap, and the changes of corpora so far, each with the samples taken until then of the corpus at whose place it acts.
    """

    step: int
    drawn: Mapping[str, int]
    errors: Mapping[str, int]
    spent: tuple[str, ...] = ()
    changes: tuple[tuple[Change, int], ...] = ()


BEGINNING = Past(step=0, drawn={}, errors={})


@dataclass(frozen=True)
class Segment:
    """Steps from `start` on, of one stretch, and what stood before it [num_corpora]; `num_changes` had been made.

    `first_draw` is the run's first draw that belongs to it.
    """

    start: int
    first_draw: int
    stretch: Stretch
    drawn: list[int]
    errors: list[int]
    spent: frozenset[int]
    num_changes: int


class Builder:
    """Builds `segments`, and makes the changes (to `domain`, as it goes; `made` keeps each with its ordinal)."""

    def __init__(self, schedule: Schedule, domain: Domain, past: Past) -> None:
        self._schedule, self._domain, self._past = schedule, domain, past
        self._due = list(schedule.changes)[::-1]  # the next is the last
        self._drawn = [past.drawn.get(name, 0) for name in domain.names]
        self._spent = {domain.index[name] for name in past.spent}
        self.segments: list[Segment] = []
        self.made: list[tuple[Change, int]] = []

    def build(self) -> list[Segment]:
        """The segments from the past's step to the end of the run. Raises what `Domain` and the caps refuse."""
        for change, ordinal in self._past.changes:
            self._make(change, ordinal)
        for piece in self._schedule.pieces():
            if piece.end > self._past.step:
                self._add(max(piece.start, self._past.step), piece.end, piece.mixture)
        return self.segments

    def _add(self, step: int, end: int, mixture: Mixture) -> None:
        """Steps [step, end) of one mixture."""
        while step < end:
            self._make_due(step)
            segment = self._segment_at(step, self._in_force(mixture, step))
            stop = min(end, self._due[-1].step) if self._due else end
            stop = self._first_over_cap(segment, stop, step)
            if stop == step:  # a corpus is spent now: somebody else has the weight from this very step on
                continue
            if not self.segments or segment is not self.segments[-1]:
                self.segments.append(segment)
            counts = segment.stretch.counts(self._schedule.first_draw(stop) - segment.first_draw)
            self._drawn = [d + n for d, n in zip(segment.drawn, counts, strict=True)]
            step = stop

    def _segment_at(self, step: int, weights: dict[int, int]) -> Segment:
        """The last segment if it has these weights, else one that begins here with what that leaves."""
        first_draw = self._schedule.first_draw(step)
        if not self.segments:
            errors = [self._past.errors.get(name, 0) for name in self._domain.names]
        else:
            last = self.segments[-1]
            if last.stretch.weights == weights:
                return last
            num_draws = first_draw - last.first_draw
            errors = [
                error + last.stretch.weights.get(c, 0) * num_draws - UNIT * (self._drawn[c] - last.drawn[c])
                for c, error in enumerate(last.errors)
            ]
        # the stretch may end earlier: what it begins with does not depend on that
        stretch = Stretch(weights, errors, self._schedule.num_samples - first_draw)
        return Segment(step, first_draw, stretch, self._drawn, errors, frozenset(self._spent), len(self.made))

    def _make_due(self, step: int) -> None:
        while self._due and self._due[-1].step <= step:
            change = self._due.pop()
            source = self._domain.index.get(self._domain.source(change))
            if change.verb == "grow" or (change.verb == "add" and change.name not in self._domain):
                self._spent.discard(self._domain.index.get(change.name, -1))  # more to read, or another cap
            self._make(change, self._drawn[source] if source is not None else 0)

    def _make(self, change: Change, ordinal: int) -> None:
        self._domain.apply(change, ordinal)
        self.made.append((change, ordinal))

    def _in_force(self, mixture: Mixture, step: int) -> dict[int, int]:
        """Weights above 0 by corpus index, with the share of spent corpora handed on."""
        weights = self._domain.weights(mixture, step)
        if not self._spent:
            return weights
        handed: dict[int, int] = {}
        for index, weight in weights.items():
            heir = self._heir(index, weight, step)
            handed[heir] = handed.get(heir, 0) + weight
        return dict(sorted(handed.items()))

    def _heir(self, index: int, weight: int, step: int) -> int:
        names, seen = self._domain.names, {index}
        heir = index
        while heir in self._spent:
            heir = self._domain.heir(heir)
            if heir in seen:
                raise RepetitionError(
                    f"every corpus that could take over the share of '{names[index]}' at step {step} has reached "
                    "its max_epochs too: raise a cap, or name another corpus in 'then'",
                    corpus=names[index],
                    step=step,
                )
            seen.add(heir)
            self._domain.check_readable(names[heir], weight, step)
        return heir

    def _first_over_cap(self, segment: Segment, stop: int, step: int) -> int:
        """`stop`, or the first step from `step` on that would read a corpus beyond its cap, which is then spent."""
        total: list[int] | None = None
        over: list[tuple[int, int]] = []
        for index in segment.stretch.weights:
            limit = self._domain.limit(index)
            if limit is None:
                continue
            if total is None:
                total = segment.stretch.counts(self._schedule.first_draw(stop) - segment.first_draw)
            if segment.drawn[index] + total[index] > limit:
                allowed = max(limit - segment.drawn[index], 0)
                draw = segment.stretch.draw_of(index, allowed)
                exceeding, _ = self._schedule.step_of_draw(segment.first_draw + draw)
                over.append((max(exceeding, step), index))
        if not over:
            return stop
        cut, index = min(over)
        self._refuse_unless_handed_on(cut, index)
        self._spent.add(index)
        return cut

    def _refuse_unless_handed_on(self, step: int, index: int) -> None:
        name = self._domain.names[index]
        corpus = self._domain.corpus(name)
        if corpus.then == "refuse":
            size = self._domain.order(index).num_readable
            raise RepetitionError(
                f"corpus '{name}' would be read more than max_epochs={corpus.max_epochs} times from step {step} on "
                f"(it has {size} samples): start it later, lower its weight, raise the cap, or let 'then' name a "
                "corpus to take over",
                corpus=name,
                step=step,
            )
