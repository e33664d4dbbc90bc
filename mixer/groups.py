"""A plan for node groups: each group reads its own part of every corpus, so that a node fetches no more than that.

What is drawn is what the plan without groups draws, whatever their number: which corpus how often in which step. The
draws are dealt out to the groups (`mixer.dealing`), each of which reads its *part* of the corpus (`mixer.parts`) in an
order of its own. Of `num_groups` groups, group g stands in the slots [g·n, (g+1)·n), n = batch size / num_groups.
The number of groups decides the order, as `shuffle_window` does: it belongs to the run, not to the machines that it
happens to run on. Any number of ranks reads the same.

Ordinals and epochs are those of the group's part: what a group reads of a corpus is counted from 0 in each group.
sample_ids are those of the corpus. docs/DETERMINISM.md says what is guaranteed.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from mixer.building import BEGINNING, Past
from mixer.changes import MAKES_A_NAME, Change
from mixer.corpora import Corpus, Domain
from mixer.dealing import Deal
from mixer.epochs import CorpusOrder, Window, sample_ids
from mixer.errors import MixerError, ScheduleError
from mixer.keys import derive_key, random_words
from mixer.parts import Parts
from mixer.plan import Batch, Forecast, Plan
from mixer.ranges import Ranges
from mixer.schedule import Schedule

_I64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class GroupedPast(Past):
    """A `Past` with what each group had: `read` of each corpus, and `taken` before each of `changes` [num_groups]."""

    read: Mapping[str, Sequence[int]]
    taken: Sequence[Sequence[int]] = ()

    def to_list(self) -> list[list[int]]:
        """JSON-able and small: of each corpus, then of each change, by how much each group is off an even share."""
        totals = [*self.drawn.values(), *(ordinal for _, ordinal in self.changes)]
        rows = zip([*self.read.values(), *self.taken], totals, strict=True)
        return [[count - total // len(row) for count in row] for row, total in rows]

    @classmethod
    def of(cls, past: Past, rows: Sequence[Sequence[int]]) -> "GroupedPast":
        """The past of which `to_list` made `rows`."""
        totals = [*past.drawn.values(), *(ordinal for _, ordinal in past.changes)]
        counts = [[off + total // len(row) for off in row] for row, total in zip(rows, totals, strict=True)]
        read = dict(zip(past.drawn, counts, strict=False))
        return cls(**vars(past), read=read, taken=counts[len(read) :])


def make_plan(
    schedule: Schedule,
    corpora: Mapping[str, Sequence[int] | _I64 | Corpus],
    *,
    data_seed: int,
    shuffle_window: int = 16,
    num_groups: int = 1,
    past: Past = BEGINNING,
) -> Plan:
    """The `Plan` of a run without groups, with `num_groups` above 1 its `GroupedPlan`. They take the same arguments."""
    if num_groups == 1:
        return Plan(schedule, corpora, data_seed=data_seed, shuffle_window=shuffle_window, past=past)
    return GroupedPlan(
        schedule, corpora, data_seed=data_seed, shuffle_window=shuffle_window, num_groups=num_groups, past=past
    )


class GroupedPlan(Plan):
    """Which sample stands in each slot of each step, for two or more node groups. Arguments as of `Plan`.

    Raises what `Plan` raises; MixerError where `num_groups` does not divide a batch, CorpusError for a corpus with
    fewer samples than groups, ScheduleError for changes of corpora that groups cannot make (skip, split, a quarantine
    that leaves one group nothing).
    """

    def __init__(
        self,
        schedule: Schedule,
        corpora: Mapping[str, Sequence[int] | _I64 | Corpus],
        *,
        data_seed: int,
        shuffle_window: int = 16,
        num_groups: int,
        past: Past = BEGINNING,
    ) -> None:
        for batches in schedule.batching.rows:
            if num_groups < 2 or batches.size % num_groups:
                raise MixerError(
                    f"num_groups={num_groups} does not divide the batch size {batches.size} from step {batches.start} "
                    "on: choose another"
                )
        super().__init__(schedule, corpora, data_seed=data_seed, shuffle_window=shuffle_window, past=past)
        self.num_groups = num_groups
        self._read_at = lru_cache(maxsize=4)(self._read_before)
        self._deals: list[Deal] = []
        self._deal_out(past, data_seed)
        seeds = [derive_key(data_seed, "groups", str(group)) for group in range(num_groups)]
        self._slots_keys = [derive_key(seed, "slots") for seed in seeds]
        every = [change for change, _ in self._changes]
        members = _Members(corpora, every, seeds=seeds, shuffle_window=shuffle_window, data_seed=data_seed)
        self._taken = [*past.taken] if isinstance(past, GroupedPast) else []
        for index, change in enumerate(every):
            if index == len(self._taken):
                source = self.names.index(members.source(change))
                self._taken.append(self._read_at(change.step)[source].tolist())
            members.apply(change, self._taken[index])
        self._members = members

    def num_slots(self, step: int) -> int:
        """Samples of `step` that each group reads."""
        return self.schedule.batch_size(step) // self.num_groups

    def batch(self, step: int) -> Batch:
        """What stands in each slot of `step`."""
        shares = [self.batch_of_group(step, group) for group in range(self.num_groups)]
        columns = ("corpus", "ordinal", "epoch", "sample_id")
        return Batch(step=step, **{name: np.concatenate([getattr(one, name) for one in shares]) for name in columns})

    def batch_of_group(self, step: int, group: int) -> Batch:
        """What stands in the slots of one group [num_slots]. Costs no more than these."""
        self._check_step(step)
        firsts, lasts = (self._read_at(border)[:, group] for border in (step, step + 1))
        corpora = np.flatnonzero(lasts > firsts)
        runs = [
            run
            for corpus in corpora.tolist()
            for run in self._members.order(corpus, group).runs(int(firsts[corpus]), int(lasts[corpus]))
        ]
        lengths, numbers, where = (lasts - firsts)[corpora], sample_ids(runs), self._draw_of_slot(step, group)
        by_corpus = zip(corpora.tolist(), np.split(numbers, lengths.cumsum()[:-1]), strict=True)
        samples = [self._members.parts(self.names[corpus]).to_corpus(group, own) for corpus, own in by_corpus]
        return Batch(
            step=step,
            corpus=np.repeat(corpora, lengths)[where],
            ordinal=np.concatenate([np.arange(firsts[c], lasts[c]) for c in corpora])[where],
            epoch=np.repeat([run.epoch for run in runs], [run.length for run in runs])[where],
            sample_id=np.concatenate(samples)[where],
        )

    def steps_of(self, corpus: str, sample_id: int, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
        """Every (step, slot) in steps [start, end) that reads this sample, in order."""
        super().steps_of(corpus, sample_id, start, start)  # refuses what there is not
        end = self.schedule.num_steps if end is None else end
        self._check_step(end, end=True)
        index = self._index(corpus)
        group, number = self._members.parts(corpus).to_part(sample_id)
        first, last = (int(self._read_at(step)[index, group]) for step in (start, end))
        ordinals = self._members.order(index, group).ordinals_of(number, first, last)
        return [self._slot_in_group(index, group, ordinal) for ordinal in ordinals]

    def step_of(self, corpus: str, ordinal: int) -> int | None:
        """The step that makes the ordinal-th draw (from 0) of `corpus`, all groups together, or None."""
        index = self._index(corpus)
        if not 0 <= ordinal < self._drawn(self.schedule.num_steps)[index]:
            return None
        return self._first_step_after(ordinal, lambda step: self._drawn(step)[index])

    def order_of(self, corpus: str) -> CorpusOrder:
        """Refused: there is one order a group (`order_of_group`)."""
        raise MixerError(
            f"'{corpus}' is read in {self.num_groups} orders, one a node group: what is asked for is known of runs "
            "without num_groups only"
        )

    def num_readable(self, corpus: str) -> int:
        """Samples of a whole epoch of a corpus, of all groups together."""
        return sum(self.order_of_group(corpus, group).num_readable for group in range(self.num_groups))

    def order_of_group(self, corpus: str, group: int) -> CorpusOrder:
        """The order in which the group reads its part of a corpus, by ordinal; in numbers within the part."""
        return self._members.order(self._index(corpus), group)

    def share_of(self, group: int) -> "GroupShare":
        """What the group reads, for those who ask which shards come next (`mixer.storage.upcoming`)."""
        return GroupShare(self, group)

    def groups_of(self, rank: int, num_ranks: int) -> range:
        """The groups in which the slots of a rank lie, in every step."""
        return range(rank * self.num_groups // num_ranks, -(-(rank + 1) * self.num_groups // num_ranks))

    def step_in_group(self, corpus: str, group: int, ordinal: int) -> int | None:
        """The step in which the group makes its ordinal-th draw (from 0) of `corpus`; None if the run ends before."""
        index = self._index(corpus)
        if not 0 <= ordinal < self._read_at(self.schedule.num_steps)[index, group]:
            return None
        return self._step_in_group(index, group, ordinal)

    def parts_of(self, corpus: str) -> Parts:
        """Which samples, and shards, each group reads of a corpus."""
        self._index(corpus)
        return self._members.parts(corpus)

    def read_before(self, step: int) -> dict[str, list[int]]:
        """Samples of each corpus that each group has read in all steps below `step` [num_groups]."""
        self._check_step(step, end=True)
        return dict(zip(self.names, self._read_at(step).tolist(), strict=True))

    def forecast(self, step: int | None = None) -> dict[str, Forecast]:
        """Per corpus, what is read in all steps below `step` (default: the whole run), and where a group repeats."""
        step = self.schedule.num_steps if step is None else step
        self._check_step(step, end=True)
        read, total = (self._read_at(end).tolist() for end in (step, self.schedule.num_steps))
        return {name: self._forecast_of(i, read[i], total[i]) for i, name in enumerate(self.names)}

    def past(self, step: int) -> GroupedPast:
        """As `Plan.past`, with what each group had read."""
        past = super().past(step)
        return GroupedPast(**vars(past), read=self.read_before(past.step), taken=self._taken[: len(past.changes)])

    def _deal_out(self, past: Past, data_seed: int) -> None:
        """One deal a segment, each with what the one before it left."""
        nothing = [0] * self.num_groups
        known = past.read if isinstance(past, GroupedPast) else {}
        dealt = np.array([known.get(name, nothing) for name in self.names], np.int64)
        turns = np.array([_turns(name, data_seed, self.num_groups) for name in self.names])
        for segment in self._segments:
            if self._deals:
                dealt = self._deals[-1].counts(segment.start)
            self._deals.append(Deal(segment, self.schedule, dealt, turns))

    def _read_before(self, step: int) -> _I64:
        """[num_corpora, num_groups], in all steps below."""
        index = max(bisect_right(self._starts, step - 1) - 1, 0)
        return self._deals[index].counts(step)

    def _drawn(self, step: int) -> list[int]:
        drawn: list[int] = self._read_at(step).sum(axis=1).tolist()
        return drawn

    def _forecast_of(self, index: int, read: list[int], total: list[int]) -> Forecast:
        """Of the groups that read samples again, the first to do so and the one that should wait longest count."""
        orders = [self._members.order(index, g) for g in range(self.num_groups)]
        unread = [order.start_of(1) for order in orders]
        again = [group for group in range(self.num_groups) if total[group] > unread[group]]
        usable = [self._step_in_group(index, group, total[group] - unread[group] - 1) + 1 for group in again]
        first_used = [self._step_in_group(index, group, 0) for group in again]
        slots = [self.schedule.num_samples - self.schedule.first_draw(step) for step in first_used]
        weights = [unread[group] * self.num_groups / number for group, number in zip(again, slots, strict=True)]
        return Forecast(
            samples=sum(read),
            tokens=sum(read) * self.row_tokens(self.names[index]),
            epochs=sum(order.epochs(count) for order, count in zip(orders, read, strict=True)) / self.num_groups,
            first_repeat_step=min((self._step_in_group(index, group, unread[group]) for group in again), default=None),
            earliest_start=max(usable, default=None),
            largest_weight=min(weights, default=None),
        )

    def _step_in_group(self, index: int, group: int, ordinal: int) -> int:
        """The step in which the group makes this draw, which it does make."""
        return self._first_step_after(ordinal, lambda step: int(self._read_at(step)[index, group]))

    def _first_step_after(self, ordinal: int, read_before: Callable[[int], int]) -> int:
        """The step before which at most, and after which more than `ordinal` draws have been made."""
        return bisect_right(range(self._first_step, self.schedule.num_steps), ordinal, key=read_before) + (
            self._first_step - 1
        )

    def _slot_in_group(self, index: int, group: int, ordinal: int) -> tuple[int, int]:
        step = self._step_in_group(index, group, ordinal)
        before, after = self._read_at(step)[:, group], self._read_at(step + 1)[:, group]
        draw = int((after - before)[:index].sum()) + ordinal - int(before[index])
        return step, group * self.num_slots(step) + int(np.flatnonzero(self._draw_of_slot(step, group) == draw)[0])

    def _draw_of_slot(self, step: int, group: int) -> _I64:
        """Which of the group's draws in the step, by corpus, stands in each of its slots: a keyed permutation."""
        return np.argsort(random_words(self._slots_keys[group], step, self.num_slots(step)), kind="stable")


class GroupShare:
    """One group's share of a plan, asked as a `Plan` is. Ordinals are the group's, shards those of the corpus."""

    def __init__(self, plan: GroupedPlan, group: int) -> None:
        self._plan, self._group = plan, group
        self.names, self.origins = plan.names, plan.origins

    def drawn_before(self, step: int) -> dict[str, int]:
        """Samples of each corpus that the group has read in all steps below `step`."""
        return {name: read[self._group] for name, read in self._plan.read_before(step).items()}

    def step_of(self, corpus: str, ordinal: int) -> int | None:
        """The step in which the group makes this draw, or None if the run ends before."""
        return self._plan.step_in_group(corpus, self._group, ordinal)

    def order_of(self, corpus: str) -> "_PartOrder":
        """What of a corpus is in use together."""
        order = self._plan.order_of_group(corpus, self._group)
        return _PartOrder(order, self._plan.parts_of(corpus), self._group)


class _PartOrder(NamedTuple):
    order: CorpusOrder
    parts: Parts
    group: int

    def window_at(self, ordinal: int) -> Window:
        """As `CorpusOrder.window_at`, in shards of the corpus."""
        end, pieces = self.order.window_at(ordinal)
        return Window(end, self.parts.shards_of(self.group, pieces))


class _Members:
    """The corpora of each group as they stand, changed as the run's are: parts, and their order by group."""

    def __init__(
        self,
        corpora: Mapping[str, Sequence[int] | _I64 | Corpus],
        changes: Sequence[Change],
        *,
        seeds: Sequence[int],
        shuffle_window: int,
        data_seed: int,
    ) -> None:
        self._as_parts = {"data_seed": data_seed, "num_groups": len(seeds)}
        first_new = {c.name: c.arguments["first_shard"] for c in reversed(changes) if c.verb == "grow"}
        self._parts: dict[str, Parts] = {}
        for name, corpus in corpora.items():
            sizes = corpus.shard_sizes if isinstance(corpus, Corpus) else corpus
            self._parts[name] = Parts(name, sizes[: first_new.get(name)], **self._as_parts)
        names = [change for change in changes if change.verb in MAKES_A_NAME]
        self._domains = [
            Domain(
                {name: parts.sizes(group) for name, parts in self._parts.items()},
                names,
                data_seed=seed,
                shuffle_window=shuffle_window,
            )
            for group, seed in enumerate(seeds)
        ]

    def parts(self, name: str) -> Parts:
        return self._parts[name]

    def order(self, index: int, group: int) -> CorpusOrder:
        return self._domains[group].order(index)

    def source(self, change: Change) -> str:
        return self._domains[0].source(change)

    def apply(self, change: Change, taken: Sequence[int]) -> None:
        """Do it in each group, which has `taken` so many [num_groups]. The run's own `Domain` has accepted it."""
        for domain, own, ordinal in zip(self._domains, self._translate(change), taken, strict=True):
            if own is not None:
                domain.apply(own, ordinal)
        if change.verb == "quarantine":
            readable = [domain.order(domain.index[change.name]).num_readable for domain in self._domains]
            if any(readable) and not all(readable):
                _refuse(
                    change,
                    f"this leaves node group {readable.index(0)} nothing of '{change.name}', and others do read it: "
                    "put less into quarantine, or remove the corpus",
                )

    def _translate(self, change: Change) -> list[Change | None]:
        """The change as each group makes it; None for one that it does not concern."""
        name, given, num_groups = change.name, change.arguments, len(self._domains)
        if change.verb in ("skip", "split"):
            _refuse(change, f"a run with num_groups={num_groups} cannot {change.verb}: quarantine, or add a corpus")
        if change.verb == "rename":
            self._parts[name] = self._parts[given["from"]]
        if change.verb == "add" and name not in self._parts:
            self._parts[name] = Parts(name, given["shard_sizes"], **self._as_parts)
        parts = self._parts[name]
        arguments: list[dict[str, Any]]
        if change.verb == "add":
            arguments = [{"shard_sizes": parts.sizes(group)} for group in range(num_groups)]
        elif change.verb == "grow":
            firsts = [len(parts.sizes(group)) for group in range(num_groups)]
            added = parts.grow(given["shard_sizes"])
            arguments = [{"first_shard": f, "shard_sizes": sizes} for f, sizes in zip(firsts, added, strict=True)]
        elif change.verb == "quarantine":
            out = Ranges(given.get("samples", ())).union(parts.samples_of(Ranges(given.get("shards", ()))))
            ranges = [parts.within(group, out) for group in range(num_groups)]
            return [replace(change, arguments={"samples": own}) if own else None for own in ranges]
        else:
            return [change] * num_groups
        return [replace(change, arguments=own) for own in arguments]


def _turns(name: str, data_seed: int, num_groups: int) -> _I64:
    """The groups in the order in which they take the draws of a corpus, all else being equal, as ranks."""
    words = random_words(derive_key(data_seed, "turns", name), 0, num_groups)
    return np.argsort(np.argsort(words, kind="stable"), kind="stable")


def _refuse(change: Change, message: str) -> NoReturn:
    raise ScheduleError.of([f"{message} @ {change.place}"])
