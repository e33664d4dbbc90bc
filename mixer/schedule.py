"""The schedule: gap-free phases from step 0 to the end of the run, each with one mixture or a ramp to it.

It may also say what changes of the corpora themselves, and when (`mixer.changes`), from which step on a step has
another number of samples (`mixer.batching`), and with a phase how long its rows are (`mixer.context`). A `Schedule` is
an immutable value. It knows nothing of corpora beyond their names, of seeds or of revisions. `Schedule.from_dict` is
the only parser; it reports every problem at once, each with its place.
"""

import difflib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from math import ceil
from typing import Any

from mixer.batching import Batches, Batching, parse_batch_sizes
from mixer.changes import Change, parse_changes
from mixer.context import PLAIN, Context, Rope, contexts, parse_rope, parse_seq_len, refuse_tokens, varies
from mixer.duration import parse_time
from mixer.errors import ScheduleError, StepError, UnknownCorpusError
from mixer.ramp import SHAPES, Ramp
from mixer.weights import UNIT, Mixture, blend, parse_mixture

PHASE_KEYS = ("start", "end", "mixture", "ramp", "seq_len", "rope")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Steps [start, end) with one mixture, reached through `ramp` from what stood before. `start` is a switchpoint.

    `seq_len` and `rope` are None where they go on as in the phase before (`mixer.context`).
    """

    start: int
    end: int
    mixture: Mixture
    ramp: Ramp | None = None
    seq_len: int | None = None
    rope: Rope | None = None

    def to_dict(self) -> dict[str, Any]:
        mixture = {name: weight / UNIT for name, weight in sorted(self.mixture.items())}
        result: dict[str, Any] = {"start": f"{self.start}ba", "mixture": mixture}
        if self.ramp:
            result["ramp"] = {"shape": self.ramp.shape, "length": f"{self.ramp.length}ba"}
        return result | self.own_context()

    def own_context(self) -> dict[str, Any]:
        """What the phase itself says of its context, as written: nothing, where that goes on."""
        seq_len = {"seq_len": self.seq_len} if self.seq_len else {}
        return seq_len | ({"rope": self.rope.to_dict()} if self.rope else {})


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Steps [start, end) in which the weights do not change at all."""

    start: int
    end: int
    mixture: Mixture


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Phases that cover steps [0, num_steps) of a run of `global_batch_size` samples of `seq_len` tokens a step.

    `changes` of the corpora are in the order in which they act. Where the batch size changes, `global_batch_size` is
    that of step 0, and `batch_sizes` are the later ones (`with_batch_size` makes them).
    """

    phases: tuple[Phase, ...]
    num_steps: int
    global_batch_size: int
    seq_len: int
    changes: tuple[Change, ...] = ()
    batch_sizes: tuple[Batches, ...] = ()

    @classmethod
    def from_dict(
        cls, obj: Any, *, num_steps: int, global_batch_size: int, seq_len: int, place: str = "$"
    ) -> "Schedule":
        """Read {"phases": [{"start", "mixture", "ramp"?, "end"?, "seq_len"?, "rope"?}, ...],
        "changes"?: [{"start", "corpora"}, ...], "batch_sizes"?: [{"start", "global_batch_size"}, ...]}.

        Starts, ends and lengths are steps, or strings in `ba`, `tok`, `dur`; tokens are reached with the batch sizes in
        force. Raises ScheduleError with every problem found; `place` is where `obj` stands in the user's file.
        """
        for name, value in (
            ("num_steps", num_steps),
            ("global_batch_size", global_batch_size),
            ("seq_len", seq_len),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ScheduleError.of([f"{name} must be a whole number of at least 1, found {value!r}"])
        empty = cls(phases=(), num_steps=num_steps, global_batch_size=global_batch_size, seq_len=seq_len)
        problems: list[str] = []
        changes: tuple[Change, ...] = ()
        others = obj if isinstance(obj, Mapping) else {}
        if varies(others.get("phases"), seq_len):
            for key in ("changes", "batch_sizes"):
                refuse_tokens(others.get(key), f"{place}.{key}", problems)
        if "batch_sizes" in others:  # first: times in tokens depend on them
            where, sizes = f"{place}.batch_sizes", {"seq_len": seq_len, "num_steps": num_steps}
            batching = parse_batch_sizes(others["batch_sizes"], empty.batching, **sizes, place=where, problems=problems)
            empty = replace(empty, batch_sizes=batching.rows[1:])
        if "changes" in others:
            changes = _parse_changes(others["changes"], empty, f"{place}.changes", problems)
        if others:
            obj = {key: value for key, value in others.items() if key not in ("changes", "batch_sizes")}
        try:
            phases = parse_phases(obj, empty, first_step=0, place=place)
        except ScheduleError as error:
            raise ScheduleError.of([*error.problems, *problems]) from None
        if problems:
            raise ScheduleError.of(problems)
        return replace(empty, phases=phases, changes=changes)

    def to_dict(self) -> dict[str, Any]:
        """The canonical form, starts and lengths in `ba`, groups flattened. `from_dict` reads it back."""
        phases = [phase.to_dict() for phase in self.phases]
        changes = [
            {"start": f"{change.step}ba", "corpora": {change.name: {change.verb: change.arguments}}}
            for change in self.changes
        ]
        sizes = [{"start": f"{row.start}ba", "global_batch_size": row.size} for row in self.batch_sizes]
        rest = {"changes": changes, "batch_sizes": sizes}
        return {"phases": phases, **{name: rows for name, rows in rest.items() if rows}}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every corpus named in any phase, sorted."""
        return tuple(sorted({name for phase in self.phases for name in phase.mixture}))

    @property
    def switchpoints(self) -> tuple[int, ...]:
        """The first step of each phase but the first."""
        return tuple(phase.start for phase in self.phases[1:])

    @cached_property
    def batching(self) -> Batching:
        """The batch size of every step."""
        return Batching((*Batching.of(self.global_batch_size).rows, *self.batch_sizes))

    @property
    def num_samples(self) -> int:
        return self.batching.first_draw(self.num_steps)

    @property
    def num_tokens(self) -> int:
        return self._tokens_below(self.num_steps)

    @cached_property
    def contexts(self) -> tuple[Context, ...]:
        """The context of each phase."""
        return tuple(contexts(self.phases, self.seq_len))

    @cached_property
    def has_one_length(self) -> bool:
        """Whether the rows of all steps have the run's `seq_len`."""
        return all(context.seq_len == self.seq_len for context in self.contexts)

    def context(self, step: int) -> Context:
        """How long the rows of `step` are, and how positions are encoded there."""
        self.check_step(step)
        return self.contexts[bisect_right(self._starts, step) - 1]

    def contexts_in(self, start: int, end: int) -> Iterator[tuple[int, int, Context]]:
        """(number of the phase, first step, context) of each phase that has steps in [start, end)."""
        for index in range(bisect_right(self._starts, start) - 1, bisect_left(self._starts, end)):
            yield index, max(start, self._starts[index]), self.contexts[index]

    def largest_batch_tokens(self, start: int) -> int:
        """The most tokens that a step from `start` on has, over all ranks."""
        borders = {start, *self._starts, *(row.start for row in self.batching.rows)}
        steps = [step for step in borders if start <= step < self.num_steps]
        return max((self.batch_size(step) * self.context(step).seq_len for step in steps), default=0)

    def batch_size(self, step: int) -> int:
        """Samples of `step`, over all ranks."""
        self.check_step(step)
        return self.batching.size(step)

    def first_draw(self, step: int) -> int:
        """Samples of all steps below `step`, which may be the end of the run: the number of its first draw."""
        self.check_step(step, end=True)
        return self.batching.first_draw(step)

    def step_of_draw(self, draw: int) -> tuple[int, int]:
        """The step that the run's draw `draw` (from 0) belongs to, and its place among the draws of that step."""
        return self.batching.step_of_draw(draw)

    def tokens_before(self, step: int) -> int:
        """Tokens of all steps below `step`, which may be the end of the run."""
        self.check_step(step, end=True)
        return self._tokens_below(step)

    def steps(self, value: object, *, start: int = 0) -> int:
        """Steps from `start` on that `value` means (`mixer.duration`), tokens being reached with the sizes in force.

        Raises ValueError, a message without a place.
        """
        before = self.batching.first_draw(start)

        def step_at(tokens: Fraction) -> int:
            if self.has_one_length:
                return self.batching.step_after(before + ceil(tokens / self.seq_len)) - start
            end = self._tokens_below(start) + ceil(tokens)
            return bisect_left(range(2**62), end, key=self._tokens_below) - start

        return parse_time(value, step_at=step_at, num_steps=self.num_steps)

    def with_batch_size(self, step: int, size: int) -> "Schedule":
        """This schedule with `size` samples a step from `step` on, in place of all sizes planned there."""
        first, *later = self.batching.then(step, size).rows
        return replace(self, global_batch_size=first.size, batch_sizes=tuple(later))

    def weights_ppb(self, step: int) -> dict[str, int]:
        """The mixture of `step` as asked for, in parts per 10^9 (a Plan applies repetition caps on top)."""
        self.check_step(step)
        index = bisect_right(self._starts, step) - 1
        return dict(_mixture_at(self.phases[index], self._before[index], step))

    def weights(self, step: int) -> dict[str, float]:
        """The mixture of `step` as shares that sum to 1."""
        return {name: weight / UNIT for name, weight in self.weights_ppb(step).items()}

    def pieces(self) -> Iterator[Piece]:
        """The run as stretches of constant weights, in order, weights of 0 left out.

        They depend on the weights of each step alone: a phase that says again what stood before begins no new piece.
        """
        current: Piece | None = None
        for piece in self._pieces_of_phases():
            mixture = {name: weight for name, weight in piece.mixture.items() if weight}
            if current and current.mixture == mixture:
                current = replace(current, end=piece.end)
                continue
            if current:
                yield current
            current = replace(piece, mixture=mixture)
        if current:
            yield current

    def _pieces_of_phases(self) -> Iterator[Piece]:
        """One piece a phase, and up to `ramp.MAX_PIECES` a ramp."""
        for phase, old in zip(self.phases, self._before, strict=True):
            start = phase.start
            if phase.ramp:
                for index in range(phase.ramp.num_pieces):
                    end = min(phase.start + phase.ramp.piece_start(index + 1), phase.end)
                    if start < end:
                        yield Piece(start=start, end=end, mixture=_mixture_at(phase, old, start))
                    start = end
            if start < phase.end:
                yield Piece(start=start, end=phase.end, mixture=phase.mixture)

    def kept_from(self, step: int) -> "Schedule":
        """A schedule that asks for the same from `step` on, and knows little of what lies before."""
        index = bisect_right(self._starts, step) - 1
        first = self.phases[index]
        before = (Phase(start=0, end=first.start, mixture=self._before[index]),) if first.start else ()
        if before and self.contexts[index - 1] != (self.seq_len, PLAIN):
            before = (replace(before[0], **self.contexts[index - 1]._asdict()),)
        changes = tuple(change for change in self.changes if change.step > step)
        sizes = self.batching.changes_from(step)
        return replace(self, phases=(*before, *self.phases[index:]), changes=changes, batch_sizes=sizes)

    def check_step(self, step: int, *, end: bool = False) -> None:
        """Raise StepError unless `step` is in the run (or is its end, with `end`)."""
        if not 0 <= step < self.num_steps + end:
            raise StepError(f"step {step} is outside of the run, which has {self.num_steps} steps", step=step)

    def check_names(self, known: Iterable[str], place: str = "$") -> None:
        """Raise UnknownCorpusError if a mixture names a corpus that is not `known`."""
        known = sorted(known)
        unknown = [
            (f"{place}.phases[{i}].mixture.{name}", name)
            for i, phase in enumerate(self.phases)
            for name in phase.mixture
            if name not in known
        ]
        if unknown:
            problems = [f"unknown corpus '{name}'{_suggestion(name, known)} @ {where}" for where, name in unknown]
            raise UnknownCorpusError.of(problems, names=sorted({name for _, name in unknown}))

    def _tokens_below(self, step: int) -> int:
        """Tokens of all steps below `step`, be it past the end of the run, where the last phase then goes on."""
        if self.has_one_length:
            return self.batching.first_draw(step) * self.seq_len
        ends = [*self._starts[1:], step]
        draws = [self.batching.first_draw(min(border, step)) for border in (0, *ends)]
        return sum((b - a) * context.seq_len for (a, b), context in zip(pairwise(draws), self.contexts, strict=True))

    @cached_property
    def _starts(self) -> list[int]:
        return [phase.start for phase in self.phases]

    @cached_property
    def _before(self) -> list[Mixture]:
        """For each phase the mixture in the step before it: where its ramp begins, be it in the middle of another."""
        before: list[Mixture] = []
        for index, phase in enumerate(self.phases):
            previous = self.phases[index - 1] if index else None
            before.append(_mixture_at(previous, before[-1], phase.start - 1) if previous else phase.mixture)
        return before


def parse_phases(obj: Any, run: Schedule, *, first_step: int, place: str = "$") -> tuple[Phase, ...]:
    """Phases from `first_step` to the end of `run` (of which only the sizes are looked at, also of its batches).

    Raises ScheduleError.
    """
    problems: list[str] = []
    if (
        not isinstance(obj, Mapping)
        or set(obj) != {"phases"}
        or not isinstance(obj["phases"], list)
        or not obj["phases"]
    ):
        raise ScheduleError.of([f"a schedule is {{'phases': [...]}} with at least one phase, found {obj!r} @ {place}"])
    if not run.has_one_length or varies(obj["phases"], run.seq_len):
        refuse_tokens(obj["phases"], f"{place}.phases", problems)
    rows = [_parse_phase(row, run, f"{place}.phases[{i}]", problems) for i, row in enumerate(obj["phases"])]
    if not problems:
        _check_cover(rows, run.num_steps, first_step, f"{place}.phases", problems)
    if problems:
        raise ScheduleError.of(problems)
    ends = [row["start"] for row in rows[1:]] + [run.num_steps]
    return tuple(Phase(**{**row, "end": end}) for row, end in zip(rows, ends, strict=True))


def _parse_changes(obj: Any, run: Schedule, place: str, problems: list[str]) -> tuple[Change, ...]:
    """[{"start": time, "corpora": {name: {verb: arguments}}}, ...] in the order in which they act."""
    if not isinstance(obj, list):
        problems.append(f"expected a list of {{start: 500ba, corpora: ...}}, found {obj!r} @ {place}")
        return ()
    changes: list[Change] = []
    for index, row in enumerate(obj):
        where = f"{place}[{index}]"
        if not isinstance(row, Mapping) or row.keys() != {"start", "corpora"}:
            problems.append(f"a change has exactly the keys 'start' and 'corpora', found {row!r} @ {where}")
            continue
        step = _parse_time(row["start"], run, f"{where}.start", problems)
        if step >= run.num_steps:
            problems.append(f"starts at step {step}, but the run ends after {run.num_steps} steps @ {where}.start")
        corpora = parse_changes(row["corpora"], f"{where}.corpora", problems)
        changes += [
            Change(step=step, name=name, verb=verb, arguments=arguments)
            for name, change in corpora.items()
            for verb, arguments in change.items()
        ]
    return tuple(sorted(changes, key=lambda change: change.step))


def _parse_phase(row: Any, run: Schedule, place: str, problems: list[str]) -> dict[str, Any]:
    """One phase as what `Phase` has, its end None where it is not written."""
    if not isinstance(row, Mapping):
        problems.append(f"a phase is a mapping with 'start' and 'mixture', found {row!r} @ {place}")
        return {}
    for key in sorted(map(str, row.keys() - set(PHASE_KEYS))):
        hint = _suggestion(key, [*PHASE_KEYS]) or f", allowed are {', '.join(PHASE_KEYS)}"
        problems.append(f"unknown key '{key}'{hint} @ {place}.{key}")
    for key in ("start", "mixture"):
        if key not in row:
            problems.append(f"'{key}' is missing @ {place}")
    start = _parse_time(row.get("start", 0), run, f"{place}.start", problems)
    end = _parse_time(row["end"], run, f"{place}.end", problems) if "end" in row else None
    mixture = parse_mixture(row["mixture"], f"{place}.mixture", problems) if "mixture" in row else {}
    ramp = _parse_ramp(row.get("ramp"), run, start, f"{place}.ramp", problems)
    seq_len = parse_seq_len(row["seq_len"], f"{place}.seq_len", problems) if "seq_len" in row else None
    rope = parse_rope(row["rope"], f"{place}.rope", problems) if "rope" in row else None
    return {"start": start, "end": end, "mixture": mixture, "ramp": ramp, "seq_len": seq_len, "rope": rope}


def _parse_ramp(obj: Any, run: Schedule, start: int, place: str, problems: list[str]) -> Ramp | None:
    if obj is None:
        return None
    if not isinstance(obj, Mapping) or "shape" not in obj or not obj.keys() <= {"shape", "length"}:
        problems.append(f"a ramp is {{shape: linear, length: 500ba}}, found {obj!r} @ {place}")
        return None
    if obj["shape"] not in SHAPES:
        problems.append(f"a ramp's shape is one of {', '.join(SHAPES)}, found {obj['shape']!r} @ {place}.shape")
        return None
    if obj["shape"] == "step":  # the change happens at once: no ramp
        return None
    length = _parse_time(obj.get("length"), run, f"{place}.length", problems, start=start)
    if length == 0:
        problems.append(f"a ramp takes at least one step @ {place}.length")
    return Ramp(shape=obj["shape"], length=max(length, 1))


def _parse_time(value: Any, run: Schedule, place: str, problems: list[str], *, start: int = 0) -> int:
    try:
        return run.steps(value, start=start)
    except ValueError as error:
        problems.append(f"{error} @ {place}")
        return 1


def _check_cover(rows: list[dict[str, Any]], num_steps: int, first_step: int, place: str, problems: list[str]) -> None:
    """No gap, no overlap, nothing past the end."""
    if rows[0]["start"] != first_step:
        problems.append(
            f"gap: steps {first_step} to {rows[0]['start']} have no mixture, the first phase must start at "
            f"{first_step}ba @ {place}[0].start"
        )
    if rows[0]["ramp"] and first_step == 0:
        problems.append(f"the first phase has nothing to ramp from, leave its ramp out @ {place}[0].ramp")
    for index, row in enumerate(rows):
        where, start, end = f"{place}[{index}]", row["start"], row["end"]
        follower = rows[index + 1]["start"] if index + 1 < len(rows) else num_steps
        if start >= num_steps:
            problems.append(f"starts at step {start}, but the run ends after {num_steps} steps @ {where}.start")
        elif follower <= start:
            problems.append(
                f"starts at step {follower}, not after the phase before it ({start}) @ {place}[{index + 1}].start"
            )
        elif end is not None and end != follower:
            kind = "gap: no mixture for" if end < follower else "overlap: two mixtures for"
            low, high = sorted((end, follower))
            problems.append(f"{kind} steps {low} to {high} @ {where}.end")


def _mixture_at(phase: Phase, old: Mixture, step: int) -> Mixture:
    """The mixture of a step in or after `phase`, which began its ramp from `old`."""
    ramp, offset = phase.ramp, step - phase.start
    if ramp is None or offset >= ramp.length:
        return phase.mixture
    return blend(old, phase.mixture, ramp.progress(ramp.piece_at(offset)))


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f", did you mean '{close[0]}'?" if close else (f", known are {', '.join(known)}" if len(known) <= 12 else "")
