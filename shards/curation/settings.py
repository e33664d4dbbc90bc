"""Values of a step as people write them in YAML, taken one by one; every error names the place in the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from shards.errors import CallError

__all__ = ["Section"]

_REQUIRED = object()


class Section:
    """One mapping of a file; `where` is how messages name it, as in `mine.yaml: curation[2].rater`."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, Mapping):
            raise CallError(f"{where} must be a mapping of keys to values, not {_kind(data)}")
        self.where = where
        self._rest = dict(data)
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return self._rest.get(key) is not None

    def take(self, key: str, default: Any = _REQUIRED) -> Any:
        """Whatever stands under `key`."""
        self._known.append(key)
        value = self._rest.pop(key, None)
        if value is None:
            if default is _REQUIRED:
                raise CallError(f"{self.where}.{key} is missing")
            return default
        return value

    def text(self, key: str, default: Any = _REQUIRED) -> Any:
        """A text that is not empty; the default as it is."""
        value = self.take(key, default)
        if value is not default and (not isinstance(value, str) or not value.strip()):
            raise self.wrong(key, "a text", value)
        return value

    def number(self, key: str, default: Any = _REQUIRED, *, low: float = -math.inf, high: float = math.inf) -> Any:
        """A number from `low` to `high`; the default as it is."""
        value = self.take(key, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(key, "a number", value)
        if not low <= value <= high:
            raise self.wrong(key, _span("a number", low, high), value)
        return float(value)

    def integer(self, key: str, default: Any = _REQUIRED, *, low: int = 0, high: int = 1 << 62) -> Any:
        """An integer from `low` to `high`; the default as it is."""
        value = self.take(key, default)
        if value is not default and (isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high):
            raise self.wrong(key, _span("an integer", low, high if high < 1 << 62 else math.inf), value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """One text, or a list of at least one."""
        value = self.take(key)
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not values or not all(isinstance(one, str) and one for one in values):
            raise self.wrong(key, "a list of texts", value)
        return tuple(values)

    def wrong(self, key: str, wanted: str, found: object) -> CallError:
        """The error for a value that is not as wanted."""
        return CallError(f"{self.where}.{key} must be {wanted}, not {found!r}")

    def finish(self) -> None:
        """Refuse keys that nobody took."""
        if self._rest:
            known = ", ".join(self._known) or "none"
            raise CallError(f"{self.where}.{next(iter(self._rest))} is not known; known here: {known}")


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r}"


def _span(what: str, low: float, high: float) -> str:
    if math.isinf(high):
        return what if math.isinf(low) else f"{what} of at least {low:g}"
    return f"{what} from {low:g} to {high:g}"
