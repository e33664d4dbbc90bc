"""The corpora of a run as they stand at some step: who is there, under which name, and read in which order.

A `Domain` moves forward, change by change, while a plan is built. It decides whether a change fits (`mixer.changes`
only parses them), which corpus a mixture's name means, and where a cap on repetition lies.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mixer.changes import MAKES_A_NAME, Change
from mixer.epochs import CorpusOrder
from mixer.errors import CorpusError, ScheduleError, UnknownCorpusError
from mixer.ranges import Ranges
from mixer.weights import Mixture

_I64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """What the plan needs to know of a corpus: the samples of each shard, and how often it may be read.

    `max_epochs` None is unlimited. At the cap, `then` says what happens: "refuse" the schedule, or the name of the
    corpus that takes over the share from the first step that would exceed the cap. `seq_len`: the tokens of each of its
    samples, None for the run's.
    """

    shard_sizes: Sequence[int] | _I64
    max_epochs: int | None = None
    then: Literal["refuse"] | str = "refuse"
    seq_len: int | None = None


class Domain:
    """The corpora at a step. `names` are all that ever are corpora in this run, sorted; an index is a place in it.

    Args:
        corpora: what the run begins with, by name; shards that a later change appends may be among them.
        changes: all that will be applied (to know the names).
    """

    def __init__(
        self,
        corpora: Mapping[str, Sequence[int] | _I64 | Corpus],
        changes: Iterable[Change],
        *,
        data_seed: int,
        shuffle_window: int,
    ) -> None:
        changes = tuple(changes)
        born = {change.name for change in changes if change.verb in MAKES_A_NAME}
        self.names = tuple(sorted(born | corpora.keys()))
        self.index = {name: index for index, name in enumerate(self.names)}
        self.origins: dict[str, str] = {}
        """Name → the corpus whose shards and sample_ids it has; differs for what was renamed or split off."""
        self._keys = {"data_seed": data_seed, "shuffle_window": shuffle_window}
        self._corpora: dict[str, Corpus] = {}
        self._orders: dict[int, CorpusOrder] = {}
        self._present: set[str] = set()
        self._meant: dict[str, str] = {}  # a name that was given up → the name that took its place
        grown = {change.name: change for change in reversed(changes) if change.verb == "grow"}
        for name, value in corpora.items():
            self._begin(name, _without_later_shards(_as_corpus(name, value, self.names), grown.get(name)))

    def __contains__(self, name: str) -> bool:
        """Whether it is a corpus now."""
        return name in self._present

    def order(self, index: int) -> CorpusOrder:
        return self._orders[index]

    def corpus(self, name: str) -> Corpus:
        """As it stands, with the shards that it has by now."""
        return replace(self._corpora[name], shard_sizes=self._orders[self.index[name]].shard_sizes)

    def weights(self, mixture: Mixture, step: int) -> dict[int, int]:
        """Weights above 0 by index, ascending. Raises for a corpus that is not there at `step`, or has no samples."""
        weights: dict[int, int] = {}
        for name, weight in mixture.items():
            if weight:
                index = self.index[self.meant(name)]
                self.check_readable(self.names[index], weight, step)
                weights[index] = weights.get(index, 0) + weight
        return dict(sorted(weights.items()))

    def meant(self, name: str) -> str:
        """The name that a corpus goes by now."""
        while name in self._meant:
            name = self._meant[name]
        return name

    def limit(self, index: int) -> int | None:
        """The first ordinal beyond the corpus's cap, as it is read now; None without a cap."""
        cap = self._corpora[self.names[index]].max_epochs
        return None if cap is None else self._orders[index].start_of(cap)

    def heir(self, index: int) -> int:
        """The corpus that takes over the share of this one at its cap; it must have a `then` that names one."""
        return self.index[self.meant(self._corpora[self.names[index]].then)]

    def check_readable(self, name: str, weight: int, step: int) -> None:
        """Raise ScheduleError for a corpus that is not there at `step`, CorpusError for one without samples."""
        if name not in self._present:
            raise ScheduleError.of(
                [
                    f"corpus '{name}' has weight {weight / 1e9:g} at step {step}, but is not part of the run there: "
                    "change the mixture in the revision that removes it, or in one that comes after it was added"
                ]
            )
        if not self._orders[self.index[name]].num_readable:
            raise CorpusError(
                f"corpus '{name}' has no samples (left) at step {step}: leave it out of the schedule", path=name
            )

    def source(self, change: Change) -> str:
        """The corpus at whose place a change acts: for a name that is new, the one it comes from."""
        return str(change.arguments.get("from", change.name))

    def apply(self, change: Change, ordinal: int) -> None:
        """Do it, `ordinal` samples of its source having been taken. Raises ScheduleError if it does not fit."""
        source = self.source(change)
        if change.verb == "add":
            return self._add(change)
        if source not in self._present:
            self._refuse(change, f"there is no corpus '{source}' at step {change.step}")
        order = self._orders[self.index[source]]
        if change.verb == "remove":
            self._present.remove(source)
        elif change.verb == "skip":
            order.skip(ordinal, change.arguments["samples"])
        elif change.verb == "quarantine":
            order.quarantine(ordinal, self._left_out(change, order))
        elif change.verb == "grow":
            self._grow(change, order, ordinal)
        else:
            self._rename_or_split(change, order, ordinal)
        return None

    def _begin(self, name: str, corpus: Corpus) -> None:
        self._corpora[name] = corpus
        self._orders[self.index[name]] = CorpusOrder(corpus.shard_sizes, name=name, **self._keys)
        self._present.add(name)
        self.origins[name] = name

    def _add(self, change: Change) -> None:
        name, corpus = change.name, _as_corpus(change.name, Corpus(**change.arguments), self.names)
        if name not in self._corpora:
            self._begin(name, corpus)
        elif name in self._meant:
            self._refuse(change, f"the name '{name}' was given up for '{self.meant(name)}', choose another")
        elif self._orders[self.index[name]].shard_sizes.tolist() != corpus.shard_sizes:
            self._refuse(change, f"there was a corpus '{name}' with other shards: choose another name")
        elif name not in self._present:  # else the run was begun with it already
            self._corpora[name] = corpus
            self._present.add(name)

    def _grow(self, change: Change, order: CorpusOrder, ordinal: int) -> None:
        if (origin := self.origins[change.name]) != change.name:  # whose shards would the new ones follow?
            self._refuse(
                change, f"'{change.name}' lies in the shards of '{origin}', it cannot grow: add what is new as a corpus"
            )
        if (num_shards := len(order.shard_sizes)) != change.arguments["first_shard"]:
            self._refuse(
                change, f"'{change.name}' has {num_shards} shards, the first new one is {num_shards}", ".first_shard"
            )
        order.grow(ordinal, change.arguments["shard_sizes"])

    def _rename_or_split(self, change: Change, order: CorpusOrder, ordinal: int) -> None:
        name, source = change.name, self.source(change)
        if name in self._corpora:
            self._refuse(change, f"the name '{name}' is in use, choose another")
        shards = None
        if change.verb == "split":
            shards = self._within(change, "shards", len(order.shard_sizes))
        self._orders[self.index[name]] = order.part(ordinal, shards)
        self._corpora[name], self.origins[name] = self._corpora[source], self.origins[source]
        self._present.add(name)
        if shards is None:
            self._present.remove(source)
            self._meant[source] = name
        else:
            order.quarantine(ordinal, order.samples_of(shards))

    def _left_out(self, change: Change, order: CorpusOrder) -> Ranges:
        samples = self._within(change, "samples", order.num_samples)
        shards = self._within(change, "shards", len(order.shard_sizes))
        return samples.union(order.samples_of(shards))

    def _within(self, change: Change, key: str, end: int) -> Ranges:
        ranges = Ranges(change.arguments.get(key, ()))
        if len(ranges) and ranges.ends[-1] > end:
            self._refuse(
                change, f"'{self.source(change)}' has {key} 0 to {end - 1}, found {ranges.ends[-1] - 1}", f".{key}"
            )
        return ranges

    def _refuse(self, change: Change, message: str, key: str = "") -> None:
        raise ScheduleError.of([f"{message} @ {change.place}{key}"])


def _without_later_shards(corpus: Corpus, growth: Change | None) -> Corpus:
    """The corpus before its first growth, where it was given with the shards that this appends."""
    if growth is None:
        return corpus
    first, added = growth.arguments["first_shard"], growth.arguments["shard_sizes"]
    later = [int(size) for size in corpus.shard_sizes[first : first + len(added)]]
    if later != added[: len(later)]:
        raise ScheduleError.of(
            [f"the shards from {first} on have {later[:3]}… samples on disk, {added[:3]}… here @ {growth.place}"]
        )
    return replace(corpus, shard_sizes=corpus.shard_sizes[:first])


def _as_corpus(name: str, value: Sequence[int] | _I64 | Corpus, names: tuple[str, ...]) -> Corpus:
    corpus = value if isinstance(value, Corpus) else Corpus(shard_sizes=value)
    sizes = np.asarray(corpus.shard_sizes)
    if sizes.ndim != 1 or sizes.size == 0 or sizes.dtype.kind not in "iu" or (sizes < 0).any():
        raise CorpusError(f"corpus '{name}': shard sizes are a non-empty list of whole numbers of samples", path=name)
    if corpus.max_epochs is not None and corpus.max_epochs < 1:
        raise ScheduleError.of(
            [f"max_epochs must be at least 1, found {corpus.max_epochs} @ $.corpora.{name}.max_epochs"]
        )
    if corpus.then not in ("refuse", *names):
        problem = f"unknown corpus '{corpus.then}', known are {', '.join(names)}, or 'refuse' @ $.corpora.{name}.then"
        raise UnknownCorpusError.of([problem], names=[corpus.then])
    return corpus
