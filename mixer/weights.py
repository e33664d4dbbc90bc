"""Weights are integers, parts per 10^9, from here on inward: floats stop at this parser.

`parse_mixture` reads a mixture as people write it, numbers or nested groups:

    {"c4": 0.8, "knowledgeqa": {"weight": 0.2, "parts": {"ultrachat": 0.75, "triviaqa": 0.25}}}

and gives {"c4": 800_000_000, "ultrachat": 150_000_000, "triviaqa": 50_000_000}, which sums to exactly `UNIT`.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

UNIT = 10**9
TOLERANCE = Fraction(1, 10**6)
MAX_DEPTH = 16

Mixture = Mapping[str, int]
"""Corpus name → weight in parts per 10^9; sums to `UNIT`. Treated as read-only."""


def parse_mixture(obj: Any, place: str, problems: list[str]) -> dict[str, int]:
    """Weights in parts per 10^9 of a mixture as written; what is wrong is appended to `problems` with its place."""
    return _exact(obj) or _parse(obj, place, problems)


def _exact(obj: Any) -> dict[str, int] | None:
    """The usual mixture, without groups, whose weights are whole parts per 10^9 and sum up: nothing to check or round.

    A float that is nearest to parts / 10^9 is written with these digits: both have fewer than 16, so they are the same.
    """
    if type(obj) is not dict:
        return None
    mixture: dict[str, int] = {}
    for name, weight in obj.items():
        if type(name) is not str or not name or type(weight) not in (float, int) or not 0 <= weight <= 1:
            return None
        parts = round(weight * UNIT)
        if parts / UNIT != weight:
            return None
        mixture[name] = parts
    return mixture if sum(mixture.values()) == UNIT else None


def _parse(obj: Any, place: str, problems: list[str]) -> dict[str, int]:
    """`parse_mixture` of any mixture, in fractions."""
    shares: dict[str, Fraction] = {}
    before = len(problems)
    _collect(obj, Fraction(1), place, problems, shares)
    if len(problems) > before:
        return {}
    mixture = apportion(shares, UNIT)
    for name, share in shares.items():
        if share > 0 and mixture[name] == 0:
            problems.append(f"weight {float(share):.3g} is below the smallest possible, 1e-9 @ {place}.{name}")
    return mixture


def apportion(shares: Mapping[str, Fraction], total: int) -> dict[str, int]:
    """Integers in proportion to `shares` that sum to `total`: largest remainder, ties by name; 0 stays 0."""
    whole = sum(shares.values())
    exact = {name: share * total / whole for name, share in shares.items()}
    result = {name: int(value) for name, value in exact.items()}
    missing = total - sum(result.values())
    for name in sorted(exact, key=lambda name: (result[name] - exact[name], name))[:missing]:
        result[name] += 1
    return result


def blend(old: Mixture, new: Mixture, progress: int) -> dict[str, int]:
    """The mixture `progress` parts per 10^9 of the way from `old` to `new`; sums to `UNIT` exactly.

    As `apportion` does it, but a ramp has thousands of these, and shares that sum to UNIT^2 need no fractions.
    """
    names = sorted(old.keys() | new.keys())
    exact = {c: divmod(old.get(c, 0) * (UNIT - progress) + new.get(c, 0) * progress, UNIT) for c in names}
    result = {name: whole for name, (whole, _) in exact.items()}
    missing = UNIT - sum(result.values())
    for name in sorted(names, key=lambda name: -exact[name][1])[:missing]:  # stable, so ties go by name
        result[name] += 1
    return result


def _collect(obj: Any, scale: Fraction, place: str, problems: list[str], into: dict[str, Fraction]) -> None:
    """Flatten a (nested) mixture into shares of the whole, multiplied by `scale`."""
    if place.count(".parts") > MAX_DEPTH:
        problems.append(f"groups are nested more than {MAX_DEPTH} deep @ {place[:80]}…")
        return
    if not isinstance(obj, Mapping) or not obj:
        problems.append(f"expected a mapping of corpus names to weights, found {obj!r} @ {place}")
        return
    weights = {name: _weight(name, value, f"{place}.{name}", problems) for name, value in obj.items()}
    if any(weight is None for weight in weights.values()):
        return
    total = sum((w for w in weights.values() if w is not None), Fraction(0))
    if abs(total - 1) > TOLERANCE:
        problems.append(f"weights sum to {float(total):.9g}, they must sum to 1 @ {place}")
        return
    for name, weight in weights.items():
        assert weight is not None
        share = scale * weight / total
        if isinstance(obj[name], Mapping):
            _collect(obj[name]["parts"], share, f"{place}.{name}.parts", problems, into)
        elif name in into:
            problems.append(f"corpus '{name}' is named twice @ {place}.{name}")
        else:
            into[name] = share


def _weight(name: Any, value: Any, place: str, problems: list[str]) -> Fraction | None:
    """The weight of one entry, a number or {"weight": number, "parts": {...}}, as written in decimal."""
    if not isinstance(name, str) or not name:
        problems.append(f"a corpus name must be a non-empty string, found {name!r} @ {place}")
        return None
    if isinstance(value, Mapping):
        if set(value) != {"weight", "parts"}:
            problems.append(
                f"a group has exactly the keys 'weight' and 'parts', found {sorted(map(str, value))} @ {place}"
            )
            return None
        value, place = value["weight"], f"{place}.weight"
    if isinstance(value, bool) or not isinstance(value, int | float):
        problems.append(f"a weight must be a number from 0 to 1, found {value!r} @ {place}")
        return None
    if not 0 <= value <= 1 + float(TOLERANCE):  # holds for no NaN
        problems.append(f"a weight must be from 0 to 1, found {str(value)[:20]} @ {place}")
        return None
    return Fraction(str(value))
