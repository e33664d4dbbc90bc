"""The state of one run's reading: its ledger and plan, the next step, and the frontier that it may not pass.

Every rank holds one and feeds it the same revisions at the same step; so every rank agrees on every step. What a
checkpoint keeps of it is small and enough: `state` and `restore`. No torch, no files.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixer.errors import FrontierError, MixerError, StateError
from mixer.ledger import Ledger, Revision
from mixer.plan import ORDER_VERSION, Corpus, Plan
from mixer.schedule import Schedule

_I64 = NDArray[np.int64]


class Reading:
    """What is read at which step.

    Args:
        ledger: the schedule and its revisions.
        corpora: name → what the plan needs to know of it.
        fingerprints: name → content of the corpus, compared on `restore`.
        bases: name → address of the corpus's first sample (see `mixer.reader.RowReader`).
        frontier: first step that may still change; None for a run without a live schedule.
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
        frontier: int | None = None,
    ) -> None:
        self.corpora, self.fingerprints = dict(corpora), dict(fingerprints)
        self.data_seed, self.shuffle_window = data_seed, shuffle_window
        self.next_step = 0
        self.overrides: list[str] = []
        self._adopt(ledger)
        self._bases = np.array([bases[name] for name in self.plan.names], np.int64)
        self._live = frontier is not None
        self.frontier = ledger.base.num_steps if frontier is None else frontier

    def follow(self, revisions: Iterable[Revision], frontier: int) -> None:
        """Take over what the service decided: new revisions, and the frontier, which never moves back."""
        ledger = self.ledger.extend(revisions)
        if ledger != self.ledger:
            self._adopt(ledger)
        self.frontier = max(self.frontier, min(frontier, ledger.base.num_steps))

    def addresses(self, step: int, rank: int = 0, num_ranks: int = 1) -> _I64:
        """Addresses of the contiguous slots of `step` that belong to `rank`: [global_batch_size / num_ranks].

        Raises FrontierError for a step whose schedule may still change.
        """
        if step >= self.frontier:
            raise FrontierError(
                f"step {step} was asked for, but the schedule is only fixed below step {self.frontier}",
                step=step,
                frontier=self.frontier,
            )
        size = rank_batch_size(self.plan.schedule.global_batch_size, num_ranks)
        batch = self.plan.batch(step)
        mine = slice(rank * size, (rank + 1) * size)
        addresses: _I64 = self._bases[batch.corpus[mine]] + batch.sample_id[mine]
        return addresses

    def state(self, step: int) -> dict[str, Any]:
        """What a checkpoint taken before `step` must keep. Reading it changes nothing."""
        return {
            "order_version": ORDER_VERSION,
            "step": step,
            "frontier": self.frontier if self._live else step,  # without a service nothing is promised to anybody
            "data_seed": self.data_seed,
            "shuffle_window": self.shuffle_window,
            "corpora": dict(self.fingerprints),
            "ledger": self.ledger.to_dict(),
            "overrides": list(self.overrides),
        }

    def restore(self, state: Mapping[str, Any], *, allow_different_data_and_lose_reproducibility: bool = False) -> None:
        """Go on where `state` was taken. Raises StateError, with both sides of each difference, if it was another run.

        A schedule that differs only from the saved step on is a legitimate edit and is taken as it stands now. The
        override accepts other data, and is written into every later state.
        """
        saved = Ledger.from_dict(state["ledger"])
        problems = list(self._differences(state, saved))
        if problems and not allow_different_data_and_lose_reproducibility:
            raise StateError(
                f"the checkpoint at step {state['step']} belongs to another run: {'; '.join(problems)}",
                problems=problems,
            )
        if saved.base == self.ledger.base:
            self._adopt(saved.extend(self.ledger.revisions) if self.ledger.number > saved.number else saved)
        self.overrides = [*state["overrides"], *problems]
        self.next_step = state["step"]
        self.frontier = max(self.frontier, state["frontier"])

    def _adopt(self, ledger: Ledger) -> None:
        self.plan = Plan(ledger.schedule, self.corpora, data_seed=self.data_seed, shuffle_window=self.shuffle_window)
        self.ledger = ledger

    def _differences(self, state: Mapping[str, Any], saved: Ledger) -> Iterable[str]:
        for name, ours in (
            ("order_version", ORDER_VERSION),
            ("data_seed", self.data_seed),
            ("shuffle_window", self.shuffle_window),
        ):
            if state[name] != ours:
                yield f"{name} was {state[name]}, is {ours}"
        for name in ("global_batch_size", "seq_len"):
            was, now = getattr(saved.base, name), getattr(self.ledger.base, name)
            if was != now:
                yield f"{name} was {was}, is {now}"
        for name, fingerprint in state["corpora"].items():
            if name not in self.fingerprints:
                yield f"corpus '{name}' is missing"
            elif self.fingerprints[name] != fingerprint:
                yield f"corpus '{name}' had the content {fingerprint[:12]}…, has {self.fingerprints[name][:12]}…"
        if saved.base != self.ledger.base:
            step = first_difference(saved.schedule, self.ledger.schedule, state["step"])
            if step is not None:
                was, now = saved.schedule.weights(step), self.ledger.schedule.weights(step)
                yield f"the mixture of step {step}, already trained on, was {was}, is {now}"


def first_difference(one: Schedule, other: Schedule, end: int) -> int | None:
    """The first step below `end` for which two schedules ask for different mixtures, or None."""
    for left, right in zip_longest(one.pieces(), other.pieces()):
        if left is None or right is None or (left.start, left.mixture) != (right.start, right.mixture):
            start = min(piece.start for piece in (left, right) if piece)
            return start if start < end else None
    return None


def rank_batch_size(global_batch_size: int, num_ranks: int) -> int:
    """Samples of each step that one rank reads. Raises MixerError unless it divides evenly."""
    if global_batch_size % num_ranks:
        raise MixerError(
            f"global_batch_size {global_batch_size} cannot be divided over {num_ranks} ranks: "
            f"choose a multiple of {num_ranks}"
        )
    return global_batch_size // num_ranks
