"""The batch size of every step: which steps have which size, which draws of the run belong to which step.

The run's draws are numbered through, from 0. Batch sizes cut them into steps, and decide nothing else: a run whose size
changes reads the same samples in the same order as one of constant size, as long as the weights are the same.
Everything is a whole number of any size; a question costs the logarithm of the number of changes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from operator import attrgetter
from typing import Any, NamedTuple

from mixer.context import varies
from mixer.duration import parse_time, split_time
from mixer.errors import ScheduleError


class Batches(NamedTuple):
    """Steps from `start` on, of `size` samples each, over all ranks; `first_draw` samples lie before them."""

    start: int
    size: int
    first_draw: int


@dataclass(frozen=True)
class Batching:
    """`rows` ascend, the first begins at step 0, and each has another size than the one before."""

    rows: tuple[Batches, ...]

    @classmethod
    def of(cls, global_batch_size: int) -> "Batching":
        """One size from step 0 on."""
        return cls((Batches(start=0, size=global_batch_size, first_draw=0),))

    def size(self, step: int) -> int:
        return self._row(step).size

    def first_draw(self, step: int) -> int:
        """Samples of all steps below `step`."""
        row = self._row(step)
        return row.first_draw + (step - row.start) * row.size

    def step_of_draw(self, draw: int) -> tuple[int, int]:
        """The step that a draw of the run belongs to, and its place among the draws of that step."""
        row = self.rows[bisect_right(self.rows, draw, key=attrgetter("first_draw")) - 1]
        steps, place = divmod(draw - row.first_draw, row.size)
        return row.start + steps, place

    def step_after(self, num_samples: int) -> int:
        """The first step before which `num_samples` samples, or more, have been read."""
        step, place = self.step_of_draw(num_samples)
        return step + (place > 0)

    def then(self, step: int, size: int) -> "Batching":
        """These sizes below `step`, and `size` from there on."""
        before = self.rows[: bisect_left(self.rows, step, key=attrgetter("start"))]
        if before and before[-1].size == size:
            return Batching(before)
        return Batching((*before, Batches(start=step, size=size, first_draw=self.first_draw(step))))

    def changes_from(self, step: int) -> tuple[Batches, ...]:
        """What must be known, beside the first size, for the steps from the one before `step` on."""
        return self.rows[1:][max(bisect_left(self.rows, step, key=attrgetter("start")) - 2, 0) :]

    def _row(self, step: int) -> Batches:
        return self.rows[bisect_right(self.rows, step, key=attrgetter("start")) - 1]


def parse_batch_sizes(
    obj: Any, first: Batching, *, seq_len: int, num_steps: int | None, place: str, problems: list[str]
) -> Batching:
    """`first`, then [{"start": time, "global_batch_size": samples}, ...], or a warm-up in short (`_warm_up`).

    A start in tokens is reached with the sizes before it. Appends to `problems` what is wrong, each with its place, and
    leaves that out. `num_steps` is None where the run's length is still to be found; no start is then a share of it.
    """
    if isinstance(obj, Mapping):
        obj = _warm_up(obj, first.rows[0].size, place, problems)
    if not isinstance(obj, list | tuple):
        problems.append(f"expected a list of {{start: 1000ba, global_batch_size: 512}}, found {obj!r} @ {place}")
        return first
    batching, last = first, 0
    for index, row in enumerate(obj):
        where = f"{place}[{index}]"
        if not isinstance(row, Mapping) or row.keys() != {"start", "global_batch_size"}:
            problems.append(
                f"a batch size has exactly the keys 'start' and 'global_batch_size', found {row!r} @ {where}"
            )
            continue
        size = parse_size(row["global_batch_size"], f"{where}.global_batch_size", problems)
        start = _parse_start(row["start"], batching, seq_len, num_steps, f"{where}.start", problems)
        if start is None:
            continue
        if num_steps is not None and start >= num_steps:
            problems.append(f"starts at step {start}, but the run ends after {num_steps} steps @ {where}.start")
        elif start <= last:
            before = f"the size before it ({last})" if index else "step 0, whose size is the run's global_batch_size"
            problems.append(f"starts at step {start}, not after {before} @ {where}.start")
        elif size:
            batching = batching.then(start, size)
        last = max(start, last)
    return batching


def _warm_up(obj: Mapping[Any, Any], size: int, place: str, problems: list[str]) -> list[dict[str, Any]]:
    """{"to": samples, "length": time, "increments": count} as a list of batch sizes; empty, and problems, where wrong.

    From `size` up (or down) in equal increments at equal distances; the last of them, to `to`, is at `length`, which is
    steps or tokens.
    """
    if obj.keys() != {"to", "length", "increments"}:
        problems.append(
            f"a warm-up has exactly the keys 'to', 'length' and 'increments', found {dict(obj)!r} @ {place}"
        )
        return []
    number, unit = split_time(obj["length"])
    target, count = parse_size(obj["to"], f"{place}.to", problems), obj["increments"]
    if unit not in ("ba", "tok") or number <= 0:
        problems.append(f"expected a length like '6000ba' or '12.6e9tok', found {obj['length']!r} @ {place}.length")
    elif isinstance(count, bool) or not isinstance(count, int) or count < 1:
        problems.append(f"expected a whole number of at least 1, found {count!r} @ {place}.increments")
    elif target and (target == size or (target - size) % count):
        problems.append(
            f"from {size} to {target} samples is no whole number of samples in each of {count} increments @ {place}"
        )
    elif target:
        return [
            {
                "start": f"{ceil(number * step / count)}{unit}",
                "global_batch_size": size + (target - size) * step // count,
            }
            for step in range(1, count + 1)
        ]
    return []


def parse_size(value: Any, place: str, problems: list[str]) -> int:
    """A batch size in samples; 0, and a problem, where it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        problems.append(f"a global_batch_size is a whole number of samples, at least 1, found {value!r} @ {place}")
        return 0
    return value


def parse_num_steps(
    max_duration: object, *, global_batch_size: int, seq_len: int, batch_sizes: object = (), phases: object = ()
) -> int:
    """Steps of a run: `max_duration` in steps or tokens, which are reached with the batch sizes of its file.

    `batch_sizes` and `phases` are what stands under these names in `schedule`, as read from the file. Raises ValueError
    (a message without a place) where `max_duration` is no length, or one in tokens with rows of several lengths;
    ScheduleError where it is one in tokens and the batch sizes are wrong.
    """
    problems: list[str] = []
    if isinstance(max_duration, str) and max_duration.strip().endswith("tok") and varies(phases, seq_len):
        raise ValueError(f"'{max_duration}' is in tokens, and phases have rows of another length: give it in ba")
    batching = Batching.of(global_batch_size)

    def step_at(num_samples: int) -> int:
        where = "$.schedule.batch_sizes"
        sizes = parse_batch_sizes(
            batch_sizes, batching, seq_len=seq_len, num_steps=None, place=where, problems=problems
        )
        return sizes.step_after(num_samples)

    num_steps = parse_time(max_duration, step_at=lambda tokens: step_at(ceil(tokens / seq_len)), num_steps=None)
    if problems:
        raise ScheduleError.of(problems)
    return num_steps


def _parse_start(
    value: Any, batching: Batching, seq_len: int, num_steps: int | None, place: str, problems: list[str]
) -> int | None:
    if num_steps is None and isinstance(value, str) and value.strip().endswith("dur"):
        problems.append(
            f"'{value}' is a share of the run, whose length in tokens depends on it: give it in ba or tok @ {place}"
        )
        return None
    try:
        return parse_time(
            value, step_at=lambda tokens: batching.step_after(ceil(tokens / seq_len)), num_steps=num_steps
        )
    except ValueError as error:
        problems.append(f"{error} @ {place}")
        return None
