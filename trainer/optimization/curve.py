"""The curve of the learning rate that a configuration asks for, as pieces and in words, and what is wrong with it.

A curve can be tied to the mixture: where a time may stand, "switchpoint" is the last switchpoint of the schedule in the
file, "switchpoint 2" the second. It is the file that counts: revisions that a live schedule or dynamic mixing make
later move no rate, so every rank and every rerun knows the whole curve before the first step. Imports no torch.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mixer import MixerError, Schedule
from trainer.errors import ConfigError
from trainer.optimization.schedules import Piece, lr_at
from trainer.optimization.settings import (
    ConstantRate,
    LearningRateConfig,
    MultiPhaseRate,
    PieceConfig,
    WsdRate,
)
from trainer.section import Duration

if TYPE_CHECKING:
    from trainer.config import Config

_SWITCHPOINT = re.compile(r"\s*switchpoint(?:\s+([0-9]{1,6}))?\s*")
NUM_POINTS = 400  # of a curve that is drawn
WORDS = {
    "warmup": "a straight line",
    "linear": "a straight line",
    "cosine": "a cosine",
    "one_minus_sqrt": "1 - sqrt",
    "exponential": "the same factor a step",
}


def curve_of(rate: LearningRateConfig, schedule: Schedule) -> tuple[Piece, ...]:
    """The pieces of the curve (`schedules.lr_at`); raises ConfigError with every problem and its place."""
    problems: list[str] = []
    pieces = (_multi_phase if isinstance(rate, MultiPhaseRate) else _warm_up_and)(rate, schedule, problems)
    if problems:
        raise ConfigError(problems)
    return pieces


def problems(config: "Config") -> list[str]:
    """What is wrong with the learning rate; nothing where the run's length is itself wrong (reported elsewhere)."""
    try:
        curve_of(config.lr_schedule, config.base_schedule())
    except ConfigError as error:
        return error.problems
    except (ValueError, MixerError):
        pass
    return []


def lines(config: "Config") -> Iterator[str]:
    """The curve in words, one line a piece."""
    pieces = curve_of(config.lr_schedule, config.base_schedule())
    for index, piece in enumerate(pieces):
        end = min(piece.end, config.num_steps)
        if piece.start < end:
            steps = f"steps {piece.start:,} to {end - 1:,}"
            way = f"{piece.first:g} to {piece.last:g}, {WORDS.get(piece.shape)}"
            cut = f" (of {piece.end - piece.start:,} steps)" if end < piece.end else ""
            name = "learning rate" if index == 0 else ""
            yield f"{name:<16}{steps}: {f'{piece.last:g}' if piece.shape == 'constant' else way}{cut}"


def points(pieces: Sequence[Piece], num_steps: int) -> tuple[list[int], list[float]]:
    """Steps and their rates, enough of them to draw the curve: all that begin or end a piece, and some between."""
    ends = {step for piece in pieces for step in (piece.start, piece.end - 1) if step < num_steps}
    steps = sorted({*ends, *range(0, num_steps, max(1, num_steps // NUM_POINTS)), num_steps - 1})
    return steps, [lr_at(step, pieces) for step in steps]


def _warm_up_and(rate: LearningRateConfig, schedule: Schedule, problems: list[str]) -> tuple[Piece, ...]:
    """Every kind but multi_phase: the warm-up, then what the kind says."""
    place, end = "$.lr_schedule", schedule.num_steps
    start = decay = _moment(rate.warmup, schedule, f"{place}.warmup", problems)
    pieces = [Piece(start=0, end=start, first=0.0, last=rate.peak, shape="warmup")] if start else []
    if isinstance(rate, ConstantRate | WsdRate):
        if isinstance(rate, WsdRate):
            decay = _moment(rate.decay_start, schedule, f"{place}.decay_start", problems)
            if not problems and not start <= decay < end:
                problems.append(
                    f"the decay must begin after the warm-up ({start} steps) and before the run's end ({end} steps), "
                    f"found step {decay} @ {place}.decay_start"
                )
        stable_end = decay if isinstance(rate, WsdRate) else end
        if start < stable_end:
            pieces.append(Piece(start=start, end=stable_end, first=rate.peak, last=rate.peak, shape="constant"))
    if not isinstance(rate, ConstantRate):
        if rate.floor > rate.peak:
            problems.append(f"must not be above the peak ({rate.peak:g}), found {rate.floor:g} @ {place}.floor")
        shape = rate.shape if isinstance(rate, WsdRate) else rate.kind
        if shape == "exponential" and not rate.floor:
            problems.append(f"an exponential decay never reaches 0: give a floor above it @ {place}.floor")
        if decay < end:
            pieces.append(Piece(start=decay, end=end, first=rate.peak, last=rate.floor, shape=shape))
    return tuple(pieces)


def _multi_phase(rate: MultiPhaseRate, schedule: Schedule, problems: list[str]) -> tuple[Piece, ...]:
    if not rate.pieces:
        problems.append("a curve has at least one piece, found none @ $.lr_schedule.pieces")
        return ()
    places = [f"$.lr_schedule.pieces[{index}]" for index in range(len(rate.pieces))]
    starts = [
        _moment(piece.start, schedule, f"{place}.start", problems)
        for piece, place in zip(rate.pieces, places, strict=True)
    ]
    ends = [*starts[1:], schedule.num_steps]
    before, pieces = 0.0, []
    for index, (config, place, start, end) in enumerate(zip(rate.pieces, places, starts, ends, strict=True)):
        if index == 0 and start:
            problems.append(f"the first piece must start at step 0, found {config.start!r} @ {place}.start")
        elif start >= end and not problems:
            beyond = f"the next piece (step {end})" if index + 1 < len(places) else f"the run's end ({end} steps)"
            problems.append(f"must start before {beyond}, found step {start} @ {place}.start")
        problems += [f"{problem} @ {place}.to" for problem in _target_problems(config, before, first=index == 0)]
        last = before if config.to is None else config.to
        pieces.append(Piece(start=start, end=end, first=before, last=last, shape=config.kind))
        before = last
    return tuple(pieces)


def _target_problems(config: PieceConfig, before: float, *, first: bool) -> Iterator[str]:
    if config.to is None and (first or config.kind != "constant"):
        yield "this key is missing"
    elif config.kind == "exponential" and not (before and config.to):
        yield f"an exponential piece goes between rates above 0, found {before:g} to {config.to:g}"


def _moment(value: Duration, schedule: Schedule, place: str, problems: list[str]) -> int:
    """A time or a switchpoint as a step; 0, and a problem, where it is none."""
    match = _SWITCHPOINT.fullmatch(value) if isinstance(value, str) else None
    try:
        if not match:
            return schedule.steps(value)
        number, known = int(match[1] or len(schedule.switchpoints)), schedule.switchpoints
        if 1 <= number <= len(known):
            return known[number - 1]
        problems.append(
            f"the schedule has {len(known)} switchpoint{'s' * (len(known) != 1)}, found '{value}' @ {place}"
        )
    except ValueError as error:
        problems.append(f"{error} @ {place}")
    return 0
