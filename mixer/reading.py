"""The state of one run's reading: its ledger and plan, the next step, and the frontier that it may not pass.

Every rank holds one and feeds it the same revisions at the same step; so every rank agrees on every step. What a
checkpoint keeps of it is small and enough: `state` and `restore`. No torch, no files.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mixer.errors import CorpusError, FrontierError, MixerError, StateError
from mixer.groups import GroupedPast, GroupedPlan, make_plan
from mixer.kept import Kept
from mixer.ledger import Ledger, Revision
from mixer.plan import ORDER_VERSION, Corpus
from mixer.schedule import Schedule

SHOWN = 12  # hexadecimal digits of a fingerprint that a state keeps, and an error shows

_I64 = NDArray[np.int64]


class Reading:
    """What is read at which step.

    Args:
        ledger: the schedule and its revisions.
        corpora: name → what the plan needs to know of it.
        fingerprints: name → content of the corpus, compared on `restore`.
        fingerprint_of: (name, n) → content of its first n shards, if that is known: of a corpus that has grown since.
        bases: name → address of the corpus's first sample (see `mixer.reader.RowReader`).
        frontier: first step that may still change; None for a run without a live schedule.
        num_groups: node groups, each of which reads a part of its own of every corpus (`mixer.groups`).
    """

    def __init__(
        self,
        ledger: Ledger,
        corpora: Mapping[str, Corpus | Sequence[int]],
        *,
        fingerprints: Mapping[str, str],
        bases: Mapping[str, int],
        data_seed: int,
        shuffle_window: int,
        num_groups: int = 1,
        frontier: int | None = None,
        fingerprint_of: Callable[[str, int], str | None] = lambda name, num_shards: None,
    ) -> None:
        self.corpora, self.fingerprints, self._fingerprint_of = dict(corpora), dict(fingerprints), fingerprint_of
        self.data_seed, self.shuffle_window, self.num_groups = data_seed, shuffle_window, num_groups
        self.next_step = 0
        self.overrides: list[str] = []
        self._base_of = dict(bases)
        self._adopt(ledger)
        self._live = frontier is not None
        self.frontier = ledger.base.num_steps if frontier is None else frontier

    def follow(self, revisions: Iterable[Revision], frontier: int) -> None:
        """Take over what the service decided: new revisions, and the frontier, which never moves back."""
        ledger = self.ledger.extend(revisions)
        if ledger != self.ledger:
            self._adopt(ledger)
        self.frontier = max(self.frontier, min(frontier, ledger.base.num_steps))

    def addresses(self, step: int, rank: int = 0, num_ranks: int = 1) -> _I64:
        """Addresses of the contiguous slots of `step` that belong to `rank`: [batch size / num_ranks].

        Raises FrontierError for a step whose schedule may still change. With node groups, only what those groups read
        is worked out in which these slots lie.
        """
        if step >= self.frontier:
            raise FrontierError(
                f"step {step} was asked for, but the schedule is only fixed below step {self.frontier}",
                step=step,
                frontier=self.frontier,
            )
        size = rank_batch_size(self.plan.schedule.batch_size(step), num_ranks)
        corpus, sample_id = self._slots(step, rank * size, (rank + 1) * size)
        bases = self._bases[corpus]
        if bases.min() < 0:
            missing = self.plan.names[int(corpus[bases.argmin()])]
            raise CorpusError(
                f"step {step} reads the corpus '{missing}', which was added to the run after it began: name its folder "
                "under 'corpora' in the run's file, and go on from the last checkpoint",
                path=missing,
            )
        addresses: _I64 = bases + sample_id
        return addresses

    def check_divides(self, num_ranks: int) -> None:
        """Raises MixerError unless every batch still to come divides evenly over so many ranks."""
        for row in self.plan.schedule.batching.changes_from(self.next_step + 1):
            rank_batch_size(row.size, num_ranks)
        rank_batch_size(self.plan.schedule.batch_size(self.next_step), num_ranks)

    def step_after(self, num_samples: int, start: int) -> int:
        """The step that is next when `num_samples` samples, over all ranks, have been read since step `start`.

        Raises ValueError if they end within a step.
        """
        schedule = self.plan.schedule
        step, place = schedule.step_of_draw(schedule.first_draw(start) + num_samples)
        if place:
            raise ValueError(
                f"{num_samples} samples from step {start} on end within step {step}, after {place} of its "
                f"{schedule.batch_size(step)}"
            )
        return step

    def state(self, step: int) -> dict[str, Any]:
        """What a checkpoint taken before `step` must keep: under 1 kB, however long the run is. Changes nothing.

        Of the revisions it keeps what they left (`mixer.kept`); without any, the schedule of the file says it all. Node
        groups add up to 3 bytes for each group and corpus to what is kept.
        """
        base, kept = self.ledger.base, self.ledger.number > 0
        schedule = self.ledger.schedule
        past = self.plan.past(step) if kept else None
        state: dict[str, Any] = {
            "order_version": ORDER_VERSION,
            "step": step,
            "frontier": self.frontier if self._live else step,  # without a service nothing is promised to anybody
            "data_seed": self.data_seed,
            "shuffle_window": self.shuffle_window,
            "global_batch_size": schedule.global_batch_size,  # at step 0
            **({"batches": _last_batch(schedule, step)} if schedule.batch_sizes else {}),
            "seq_len": base.seq_len,
            "corpora": {name: self.fingerprints[name][:SHOWN] for name in sorted(self.fingerprints)},
            "base": _digest(base),
            "history": self.ledger.history(step),
            "read": None if kept else self._read_before(step),
            "kept": self.ledger.keep(past).to_dict(sorted(self.fingerprints)) if past else None,
            "overrides": list(self.overrides),
        }
        if self.num_groups > 1:
            state["num_groups"] = self.num_groups
            state["groups"] = past.to_list() if isinstance(past, GroupedPast) else None
        return state

    def restore(self, state: Mapping[str, Any], *, allow_different_data_and_lose_reproducibility: bool = False) -> None:
        """Go on where `state` was taken. Raises StateError, with both sides of each difference, if it was another run.

        A schedule that differs only from the saved step on is a legitimate edit and is taken as it stands now. The
        override accepts other data, and is written into every later state.
        """
        if state["order_version"] != ORDER_VERSION:
            self._refuse(state, [f"order_version was {state['order_version']}, is {ORDER_VERSION}"])
        ledger = self._ledger_of(state)
        problems = list(self._differences(state, ledger))
        if problems and not allow_different_data_and_lose_reproducibility:
            self._refuse(state, problems)
        if ledger is not None and ledger != self.ledger:
            self._adopt(ledger)
        self.overrides = [*state["overrides"], *problems]
        self.next_step = state["step"]
        self.frontier = max(self.frontier, state["frontier"])

    def _slots(self, step: int, start: int, end: int) -> tuple[_I64, _I64]:
        """Corpus and sample_id in the slots [start, end) of a step."""
        plan = self.plan
        if not isinstance(plan, GroupedPlan):
            batch = plan.batch(step)
            return batch.corpus[start:end], batch.sample_id[start:end]
        num_slots = plan.num_slots(step)
        first = start // num_slots
        shares = [plan.batch_of_group(step, group) for group in range(first, -(-end // num_slots))]
        mine = slice(start - first * num_slots, end - first * num_slots)
        corpus, sample_id = (np.concatenate([getattr(one, c) for one in shares])[mine] for c in ("corpus", "sample_id"))
        return corpus, sample_id

    def _adopt(self, ledger: Ledger) -> None:
        self.plan = make_plan(
            ledger.schedule,
            self.corpora,
            data_seed=self.data_seed,
            shuffle_window=self.shuffle_window,
            num_groups=self.num_groups,
            past=ledger.past,
        )
        self.ledger = ledger
        bases = [self._base_of.get(self.plan.origins[name], -1) for name in self.plan.names]
        self._bases = np.array(bases, np.int64)

    def _ledger_of(self, state: Mapping[str, Any]) -> Ledger | None:
        """The ledger to go on with: the saved one, where this run has the same base, else this run's own.

        None if neither will do: this run's own asks for other steps below the saved one.
        """
        ours = self.ledger
        if state["kept"] is not None and state["base"] == _digest(ours.base):
            sizes = replace(ours.base, global_batch_size=state["global_batch_size"], batch_sizes=())
            kept = Kept.from_dict(state["kept"], list(state["corpora"]), sizes)
            if state.get("num_groups", 1) > 1:
                kept = replace(kept, past=GroupedPast.of(kept.past, state["groups"]))
            return Ledger(base=ours.base, kept=kept).extend(ours.revisions)
        return ours if ours.history(min(state["step"], ours.base.num_steps)) == state["history"] else None

    def _differences(self, state: Mapping[str, Any], ledger: Ledger | None) -> Iterable[str]:
        base = self.ledger.base
        for name, ours in (
            ("data_seed", self.data_seed),
            ("shuffle_window", self.shuffle_window),
            ("seq_len", base.seq_len),
        ):
            if state[name] != ours:
                yield f"{name} was {state[name]}, is {ours}"
        if (groups := state.get("num_groups", 1)) != self.num_groups:
            yield f"num_groups was {groups}, is {self.num_groups}"
        yield from self._other_sizes(state, ledger)
        for name, fingerprint in state["corpora"].items():
            if name not in self.fingerprints:
                yield f"corpus '{name}' is missing"
            elif fingerprint not in self._contents(name, ledger):
                yield f"corpus '{name}' had the content {fingerprint}…, has {self.fingerprints[name][:SHOWN]}…"
        if ledger is None:
            step = min(state["step"], base.num_steps)
            was = "live revisions that it lacks" if state["read"] is None else f"they read {state['read']}"
            yield (
                f"the steps below {step}, already trained on, had another schedule: {was}, "
                f"as it stands now they would have read {self._read_before(step)}"
            )

    def _other_sizes(self, state: Mapping[str, Any], ledger: Ledger | None) -> Iterable[str]:
        step, schedule = state["step"], (ledger or self.ledger).schedule
        remedy = (
            f"the steps trained keep their size; name a new one under schedule.batch_sizes, from {step}ba on or later"
        )
        was, ours = state["global_batch_size"], schedule.global_batch_size
        if was != ours:
            yield f"global_batch_size was {was}, is {ours}: {remedy}"
        elif ledger is None and step <= schedule.num_steps:
            last, samples = state.get("batches", [was, step * was])
            our_last, our_samples = _last_batch(schedule, step)
            if (last, samples) != (our_last, our_samples):
                yield (
                    f"the steps below {step} had {samples} samples, {last} in the last of them, as it stands now they "
                    f"would have had {our_samples}, {our_last} in the last: {remedy}"
                )

    def _contents(self, name: str, ledger: Ledger | None) -> set[str]:
        """What the content of a corpus is, and was before each of the times that the ledger lets it grow."""
        changes = (*(change for change, _ in ledger.past.changes), *ledger.schedule.changes) if ledger else ()
        firsts = [c.arguments["first_shard"] for c in changes if c.name == name and c.verb == "grow"]
        known = [self.fingerprints[name], *(self._fingerprint_of(name, first) for first in firsts)]
        return {fingerprint[:SHOWN] for fingerprint in known if fingerprint}

    def _read_before(self, step: int) -> dict[str, int]:
        return {name: count for name, count in self.plan.drawn_before(step).items() if count}

    def _refuse(self, state: Mapping[str, Any], problems: list[str]) -> NoReturn:
        raise StateError(
            f"the checkpoint at step {state['step']} belongs to another run: {'; '.join(problems)}", problems=problems
        )


def _digest(base: Schedule) -> str:
    sizes = [base.num_steps, base.global_batch_size, base.seq_len]
    return sha256(json.dumps([sizes, base.to_dict()], sort_keys=True).encode()).hexdigest()[:32]


def _last_batch(schedule: Schedule, step: int) -> list[int]:
    """Samples of the last step below `step`, and of all of them."""
    return [schedule.batch_size(max(step - 1, 0)), schedule.first_draw(step)]


def rank_batch_size(global_batch_size: int, num_ranks: int) -> int:
    """Samples of each step that one rank reads. Raises MixerError unless it divides evenly."""
    if global_batch_size % num_ranks:
        raise MixerError(
            f"global_batch_size {global_batch_size} cannot be divided over {num_ranks} ranks: "
            f"choose a multiple of {num_ranks}"
        )
    return global_batch_size // num_ranks
