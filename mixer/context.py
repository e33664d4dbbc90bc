"""What belongs to a phase beside its data: how many tokens a row has, and how positions are encoded there.

    phases:
      - {start: 0ba, mixture: {c4: 1.0}}              # the run's own seq_len, and positions as the model has them
      - {start: 50000ba, mixture: {books: 1.0}, seq_len: 8192, rope: {kind: yarn, factor: 4}}
      - {start: 60000ba, mixture: {papers: 1.0}}      # goes on with both

Either key, left out, goes on as in the phase before; `rope: {kind: none}` goes back to the model's own. What a kind
does to the rotary embedding is the trainer's business (`trainer.context.rope`); here it is data, checked and carried.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

KINDS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "linear": ("factor",),
    "ntk": ("factor",),
    "yarn": ("factor", "original_seq_len", "beta_fast", "beta_slow", "attention_factor"),
}
"""Kind of RoPE scaling → the keys that it takes; `factor`, where it is one of them, must be given."""


@dataclass(frozen=True, kw_only=True)
class Rope:
    """How the rotary position embedding is stretched by `factor`: `kind` is one of `KINDS`.

    The rest is for YaRN. `original_seq_len` is the length the model was trained with before (None: the run's seq_len);
    `beta_fast` and `beta_slow` are the turns within it above and below which a dimension counts as fast and slow;
    `attention_factor` multiplies queries and keys (None: 0.1 ln(factor) + 1).
    """

    kind: str = "none"
    factor: float = 1.0
    original_seq_len: int | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, what differs from the default only; `parse_rope` reads it back."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        usual = {item.name: item.default for item in fields(self)}
        needed = ("kind", *(("factor",) if "factor" in KINDS[self.kind] else ()))
        return {key: value for key, value in given.items() if key in needed or value != usual[key]}


PLAIN = Rope()


class Context(NamedTuple):
    """Tokens of each row, and the rotary embedding, of a step."""

    seq_len: int
    rope: Rope


def contexts(phases: Iterable[Any], seq_len: int) -> Iterator[Context]:
    """The context of each phase, in order, the first phase having the run's `seq_len` unless it says otherwise."""
    current = Context(seq_len, PLAIN)
    for phase in phases:
        current = Context(phase.seq_len or current.seq_len, phase.rope or current.rope)
        yield current


def parse_seq_len(value: Any, place: str, problems: list[str]) -> int | None:
    """Tokens of a row; None, and a problem, where it is none."""
    if type(value) is not int or not 2 <= value <= 2**24:
        problems.append(f"a seq_len is a whole number of tokens, 2 to 2^24, found {value!r} @ {place}")
        return None
    return value


def parse_rope(obj: Any, place: str, problems: list[str]) -> Rope | None:
    """A `Rope` as written; None, and problems with their places, where it is none."""
    if not isinstance(obj, Mapping) or obj.get("kind") not in KINDS:
        kinds = ", ".join(KINDS)
        problems.append(f"a rope is {{kind: yarn, factor: 4}}, its kind one of {kinds}; found {obj!r} @ {place}")
        return None
    kind, before = obj["kind"], len(problems)
    for key in sorted(map(str, obj.keys() - {"kind", *KINDS[kind]})):
        allowed = ", ".join(("kind", *KINDS[kind]))
        problems.append(f"unknown key '{key}', a rope of kind {kind} has {allowed} @ {place}.{key}")
    if "factor" in KINDS[kind] and "factor" not in obj:
        problems.append(f"'factor' is missing: the new length over the one before @ {place}")
    for key, value in obj.items():
        if key in KINDS[kind]:
            _check(key, value, f"{place}.{key}", problems)
    if len(problems) > before:
        return None
    values: dict[str, Any] = {key: value if type(value) is not int else float(value) for key, value in obj.items()}
    rope = Rope(**values | ({"original_seq_len": obj["original_seq_len"]} if "original_seq_len" in obj else {}))
    if rope.beta_fast <= rope.beta_slow:
        problems.append(f"beta_fast ({rope.beta_fast:g}) must be above beta_slow ({rope.beta_slow:g}) @ {place}")
        return None
    return rope


def varies(phases: Any, seq_len: object) -> bool:
    """Whether phases as written have rows of other lengths than `seq_len`."""
    rows = phases if isinstance(phases, list | tuple) else ()
    return any(isinstance(row, Mapping) and row.get("seq_len", seq_len) != seq_len for row in rows)


def refuse_tokens(obj: Any, place: str, problems: list[str]) -> None:
    """A problem for each time in tokens in `obj`, as written: with rows of several lengths they lead to no step."""
    if isinstance(obj, str) and obj.strip().endswith("tok"):
        problems.append(
            f"'{obj}' is a time in tokens, and phases of this run have rows of another length: give it in ba or dur "
            f"@ {place}"
        )
    elif isinstance(obj, Mapping):
        for key in ("start", "end", "length", "ramp"):
            if key in obj:
                refuse_tokens(obj[key], f"{place}.{key}", problems)
    elif isinstance(obj, list | tuple):
        for index, item in enumerate(obj):
            refuse_tokens(item, f"{place}[{index}]", problems)


def _check(key: str, value: Any, place: str, problems: list[str]) -> None:
    if key == "original_seq_len":
        parse_seq_len(value, place, problems)
        return
    least = 1.0 if key == "factor" else 0.0
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < least or value == 0:
        what = "of at least 1" if key == "factor" else "above 0"
        problems.append(f"{key} is a number {what}, found {value!r} @ {place}")
