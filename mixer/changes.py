"""Changes of a run's corpora from some step on: what they are called, how they are written, and the only parser.

    corpora:
      c4: {quarantine: {samples: [17, [100, 200]], shards: [3]}}   # never read again
      c4: {skip: {samples: 4096}}                                  # pass over the next samples, for one epoch
      c4: {grow: {first_shard: 900, shard_sizes: [16000, 16000]}}  # shards appended, from number 900 on
      math: {add: {shard_sizes: [16000], max_epochs: 1, then: c4}} # a corpus that was not there before
      flan: {remove: {}}                                           # no mixture may use it any more
      web: {rename: {from: c4}}                                    # goes on where c4 was
      python: {split: {from: code, shards: [[0, 40]]}}             # these shards of code, under a name of their own

A change never moves what another corpus reads, nor which corpus stands where. What it does to the order of its own
corpus is in `mixer.epochs` and docs/DETERMINISM.md. Whether a change fits the corpora of a run is the plan's business.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mixer.context import parse_seq_len
from mixer.ranges import parse_ranges


@dataclass(frozen=True, kw_only=True)
class Change:
    """From `step` on, `verb` (one of `VERBS`) is done to, or makes, the corpus `name`."""

    step: int
    name: str
    verb: str
    arguments: Mapping[str, Any]

    @property
    def place(self) -> str:
        """Where it stands in a revision, for error messages."""
        return f"$.corpora.{self.name}.{self.verb}"


def parse_changes(obj: Any, place: str, problems: list[str]) -> dict[str, dict[str, Any]]:
    """Corpus name → {verb: arguments} in canonical form; what is wrong is appended to `problems` with its place."""
    if not isinstance(obj, Mapping) or not obj:
        problems.append(
            f"expected corpora and what changes, like {{c4: {{skip: {{samples: 9}}}}}}, found {obj!r} @ {place}"
        )
        return {}
    parsed: dict[str, dict[str, Any]] = {}
    for name, change in obj.items():
        where = f"{place}.{name}"
        if not isinstance(name, str) or not name:
            problems.append(f"a corpus name must be a non-empty string, found {name!r} @ {place}")
        elif not isinstance(change, Mapping) or len(change) != 1 or next(iter(change)) not in VERBS:
            problems.append(f"expected one of {', '.join(VERBS)} with its arguments, found {change!r} @ {where}")
        else:
            verb = next(iter(change))
            parsed[name] = {verb: _parse_arguments(verb, change[verb], f"{where}.{verb}", problems)}
    return dict(sorted(parsed.items()))


def _parse_arguments(verb: str, obj: Any, place: str, problems: list[str]) -> dict[str, Any]:
    required, optional = VERBS[verb]
    allowed = ", ".join({**required, **optional}) or "none"
    if not isinstance(obj, Mapping):
        problems.append(f"expected a mapping, of which the keys are {allowed}, found {obj!r} @ {place}")
        return {}
    if unknown := sorted(map(str, obj.keys() - required.keys() - optional.keys())):
        problems.append(f"unknown key '{unknown[0]}', allowed are {allowed} @ {place}")
    if missing := sorted(required.keys() - obj.keys()):
        problems.append(f"'{missing[0]}' is missing @ {place}")
    if not required and optional and not obj.keys() & optional.keys():
        problems.append(f"give {' or '.join(optional)} @ {place}")
    parsers = {**required, **optional}
    return {key: parsers[key](obj[key], f"{place}.{key}", problems) for key in sorted(obj.keys() & parsers.keys())}


def _sizes(obj: Any, place: str, problems: list[str]) -> list[int]:
    if not isinstance(obj, list) or not obj or not all(type(size) is int and 0 <= size <= 2**40 for size in obj):
        problems.append(
            f"shard sizes are a non-empty list of whole numbers of samples, found {str(obj)[:60]} @ {place}"
        )
        return []
    return list(obj)


def _count(obj: Any, place: str, problems: list[str]) -> int:
    if type(obj) is not int or not 1 <= obj <= 2**62:
        problems.append(f"expected a whole number of at least 1, found {obj!r} @ {place}")
        return 1
    return obj


def _number(obj: Any, place: str, problems: list[str]) -> int:
    if type(obj) is not int or not 0 <= obj <= 2**40:
        problems.append(f"expected the number of a shard, found {obj!r} @ {place}")
        return 0
    return obj


def _name(obj: Any, place: str, problems: list[str]) -> str:
    if not isinstance(obj, str) or not obj:
        problems.append(f"expected the name of a corpus, found {obj!r} @ {place}")
        return ""
    return obj


_Parser = Callable[[Any, str, list[str]], Any]

VERBS: Mapping[str, tuple[Mapping[str, _Parser], Mapping[str, _Parser]]] = {
    "add": ({"shard_sizes": _sizes}, {"max_epochs": _count, "then": _name, "seq_len": parse_seq_len}),
    "remove": ({}, {}),
    "grow": ({"first_shard": _number, "shard_sizes": _sizes}, {}),
    "quarantine": ({}, {"samples": parse_ranges, "shards": parse_ranges}),
    "skip": ({"samples": _count}, {}),
    "rename": ({"from": _name}, {}),
    "split": ({"from": _name, "shards": parse_ranges}, {}),
}
"""Verb → parsers of its required and of its optional arguments (of which "quarantine" needs at least one)."""

MAKES_A_NAME = ("add", "rename", "split")
"""Verbs that stand under a name which is a corpus from then on."""
