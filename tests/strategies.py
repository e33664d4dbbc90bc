"""Hypothesis strategies for schedules and corpora, shared by the tests of every package."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from mixer import Schedule
from mixer.weights import UNIT

NAMES = ("c4", "code", "dclm", "flan", "math", "qa", "sci", "wiki")


@st.composite
def mixtures(draw: st.DrawFn, names: tuple[str, ...]) -> dict[str, float]:
    """A mixture of some of `names`: weights from 1e-9 to 1, or all of one size, some of them 0."""
    sizes = draw(st.sampled_from([[0, 1, 1, 2, 5, 30, 1000, 10**6], [0, 1, 1]]))
    raw = {name: draw(st.sampled_from(sizes)) * draw(st.integers(1, 9)) for name in names}
    if not any(raw.values()):
        raw[draw(st.sampled_from(names))] = 1
    ppb = {name: value * UNIT // sum(raw.values()) for name, value in raw.items()}
    ppb[max(ppb, key=lambda name: ppb[name])] += UNIT - sum(ppb.values())
    return {name: weight / UNIT for name, weight in ppb.items()}


@st.composite
def phase_lists(
    draw: st.DrawFn, names: tuple[str, ...], first: int, num_steps: int, max_phases: int
) -> list[dict[str, Any]]:
    """Phases in the user's form from step `first` to the end, with ramps that may run into the next phase."""
    others = (
        draw(st.sets(st.integers(first + 1, num_steps - 1), max_size=max_phases - 1)) if num_steps > first + 1 else ()
    )
    phases: list[dict[str, Any]] = []
    for start in (first, *sorted(others)):
        phase: dict[str, Any] = {"start": start, "mixture": draw(mixtures(names))}
        if start and draw(st.booleans()):
            phase["ramp"] = {"shape": draw(st.sampled_from(["linear", "cosine"])), "length": draw(st.integers(1, 20))}
        phases.append(phase)
    return phases


@st.composite
def batch_sizes(draw: st.DrawFn, num_steps: int, max_batch: int) -> list[dict[str, int]]:
    """Later batch sizes in the user's form, in every second run none; one may say again what stood before."""
    few = st.sets(st.integers(1, num_steps - 1), max_size=4) if num_steps > 1 else st.just(set[int]())
    starts = sorted(draw(st.just(set[int]()) | few))
    return [{"start": start, "global_batch_size": draw(st.integers(1, max_batch))} for start in starts]


@st.composite
def schedules(draw: st.DrawFn, *, max_steps: int = 60, max_batch: int = 24, max_phases: int = 8) -> Schedule:
    """A schedule over up to eight corpora."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    num_steps = draw(st.integers(1, max_steps))
    phases = draw(phase_lists(names, 0, num_steps, max_phases))
    batch, later = draw(st.integers(1, max_batch)), draw(batch_sizes(num_steps, max_batch))
    obj = {"phases": phases, "batch_sizes": later}
    return Schedule.from_dict(obj, num_steps=num_steps, global_batch_size=batch, seq_len=8)


@st.composite
def shard_sizes(draw: st.DrawFn) -> list[int]:
    """Samples of each shard of a small corpus; shards may be empty, the corpus is not."""
    sizes = draw(st.lists(st.integers(0, 30), min_size=1, max_size=9))
    return sizes if sum(sizes) else [1]


@st.composite
def ranges_below(draw: st.DrawFn, end: int) -> list[int | list[int]]:
    """Numbers below `end` (at least 1) as people write them: single ones and [start, end) pairs, in any order."""
    pairs = st.tuples(st.integers(0, end - 1), st.integers(1, 6)).map(lambda p: [p[0], min(p[0] + p[1], end)])
    return draw(st.lists(st.integers(0, end - 1) | pairs, min_size=1, max_size=3))


@st.composite
def corpus_changes(
    draw: st.DrawFn, verb: str, shapes: Mapping[str, list[int]], gone: Mapping[str, list[int]]
) -> dict[str, Any]:
    """A change of corpora {name: {verb: arguments}} that mostly fits a run of these corpora (name → shard sizes).

    `gone` were corpora of it and are so no more.
    """
    name, shards = draw(st.sampled_from(sorted(shapes.items())))
    other = draw(st.sampled_from(sorted(set(NAMES) - shapes.keys()) or NAMES) | st.sampled_from(NAMES))
    few_shards = st.lists(st.integers(0, 12), min_size=1, max_size=3)
    if verb == "add":
        again = st.sampled_from(sorted({**shapes, **gone}.items()))
        name, shards = draw(st.tuples(st.just(other), few_shards.map(lambda sizes: [*sizes, 5])) | again)
        caps = {"max_epochs": draw(st.integers(1, 4)), "then": draw(st.sampled_from(sorted(shapes)))}
        return {name: {"add": {"shard_sizes": shards, **(caps if draw(st.booleans()) else {})}}}
    if verb == "remove":
        return {name: {"remove": {}}}
    if verb == "skip":
        return {name: {"skip": {"samples": draw(st.integers(1, 2 * sum(shards) + 2))}}}
    if verb == "grow":
        first = len(shards) + draw(st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1]))
        return {name: {"grow": {"first_shard": first, "shard_sizes": draw(few_shards)}}}
    if verb == "rename":
        return {other: {"rename": {"from": name}}}
    if verb == "split":
        return {other: {"split": {"from": name, "shards": draw(ranges_below(len(shards)))}}}
    kinds = {"samples": sum(shards), "shards": len(shards)}
    chosen = draw(st.sets(st.sampled_from([kind for kind in kinds if kinds[kind]]), min_size=1))
    return {name: {"quarantine": {kind: draw(ranges_below(kinds[kind])) for kind in sorted(chosen)}}}
