"""Text templates: which fields of a record make its document.

A template is data, and stands in a recipe (`shards.recipes`): a name and its alternatives in order. An alternative is a
format string whose places name fields, `{question}`, or a field and a rule that makes text of it; `{}` adds nothing and
says that the prompt ends there and the output begins (without it a document has no prompt); `{{` and `}}` are braces:

    {field}               text, number, or a boolean as yes/no
    {field.inner}         a field of an object (unless the record has a field of just this name)
    {field:first}         the first of a list, or the text itself; of a conversation all before the first answer
    {field:rest}          the list without its first, a blank line between; of a conversation the first answer and on
    {field:join}          all of a list or conversation, a blank line between
    {field:decoded}       the first of a list that is written as JSON in a text (APPS)
    {field:at other}      the item of a list whose index stands in `other`
    {field:labelled other}  of {"text": [...], "label": [...]} the text whose label stands in `other`

A conversation is a list of texts, which take turns, or of objects with `role` and `content`, or `from` and `value`; in
objects an answer is what an assistant (or gpt, model, bot, ...) says. A turn that is null says nothing.

An alternative *fits* a record when every place gives text: the fields are there, not null, and of the right type. The
first alternative that fits with no place blank wins; if all of them have a blank place, the first that fits. So
`input: ""` of an instruction falls through to the form without input. If none fits but one would if a field were not
null, the document is empty, as an empty text is. A record that nothing fits otherwise is a `RecordError`. Other fields
of a record are never looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import Any

from shards.errors import CallError, RecordError

__all__ = ["RULES", "TEMPLATES", "Template", "find_template"]

Record = Mapping[str, Any]

_ANSWERERS = frozenset({"assistant", "gpt", "chatgpt", "model", "bot", "ai", "bing", "bard"})
_SEPARATOR = "\n\n"
_MISSING = object()


def _plain(value: Any, _other: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int | float) else None


def _first(value: Any, _other: Any) -> str | None:
    if not isinstance(value, list):
        return value if isinstance(value, str) else None
    if _is_conversation(value):
        return _said(value[: _first_answer(value)])
    return _plain(value[0], None) if value else None


def _rest(value: Any, _other: Any) -> str | None:
    if not isinstance(value, list) or _is_mixed(value):
        return None
    return _said(value[_first_answer(value) if _is_conversation(value) else 1 :])


def _join(value: Any, _other: Any) -> str | None:
    return _said(value) if isinstance(value, list) and not _is_mixed(value) else None


def _is_conversation(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(turn, dict) for turn in value)


def _is_mixed(value: list[Any]) -> bool:
    return len({isinstance(turn, dict) for turn in value}) > 1


def _first_answer(turns: list[Any]) -> int:
    """Which turn is the first answer; of none, or of one without a question, the number of turns."""
    speakers = [turn.get("role", turn.get("from")) for turn in turns]
    found = next((number for number, who in enumerate(speakers) if str(who).lower() in _ANSWERERS), 0)
    return found or len(turns)


def _said(turns: list[Any]) -> str | None:
    """What is said in `turns`, texts or objects; None if there are none, or one of another kind."""
    texts = [turn.get("content", turn.get("value")) if isinstance(turn, dict) else turn for turn in turns]
    if not texts or not all(isinstance(text, str | None) for text in texts):
        return None
    return _SEPARATOR.join(text for text in texts if text is not None)


def _decoded(value: Any, _other: Any) -> str | None:
    try:
        return _first(json.loads(value), None)
    except (TypeError, ValueError):
        return None


def _at(value: Any, index: Any) -> str | None:
    if isinstance(value, list) and isinstance(index, int) and 0 <= index < len(value):
        return _plain(value[index], None)
    return None


def _labelled(value: Any, label: Any) -> str | None:
    try:
        return _plain(value["text"][value["label"].index(label)], None)
    except (TypeError, KeyError, IndexError, ValueError, AttributeError):
        return None


#: How a field becomes text, by the name of the rule. Those of `_WITH_OTHER` look at a second field.
RULES: Mapping[str, Callable[[Any, Any], str | None]] = {
    "": _plain,
    "first": _first,
    "rest": _rest,
    "join": _join,
    "decoded": _decoded,
    "at": _at,
    "labelled": _labelled,
}
_WITH_OTHER = frozenset({"at", "labelled"})


@dataclass(frozen=True)
class _Place:
    """Literal text and, behind it, a field with its rule (None at the end of a format; empty where the prompt ends)."""

    literal: str
    field: str | None
    rule: str
    other: str | None


def _parse(alternative: str) -> tuple[_Place, ...]:
    """The places of `alternative`. Raises ValueError, which says what is wrong with it."""
    places = []
    for literal, field, spec, conversion in Formatter().parse(alternative):
        rule, _, other = (spec or "").partition(" ")
        if conversion or (field and set(field) & set("[]{}")) or (rule and not field):
            raise ValueError(f"a place is {{field}}, {{field:rule}} or {{}}, found {{{field}...}}")
        if rule not in RULES:
            raise ValueError(f"unknown rule {rule!r}; known: {', '.join(name for name in RULES if name)}")
        if bool(other) != (rule in _WITH_OTHER):
            raise ValueError(f"the rule {rule!r} {'wants' if rule in _WITH_OTHER else 'takes no'} second field")
        places.append(_Place(literal, field, rule, other or None))
    if not any(place.field for place in places):
        raise ValueError("it names no field")
    if sum(place.field == "" for place in places) > 1:
        raise ValueError("a prompt ends once, {} may stand once")
    return tuple(places)


@dataclass(frozen=True)
class Template:
    """A named template.

    Attributes:
        name: that of its recipe, or `text`.
        alternatives: format strings, tried in order.

    Raises:
        CallError: an alternative is no format string of this kind.
    """

    name: str
    alternatives: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.alternatives:
            raise CallError(f"template {self.name!r} has no alternative")
        for alternative in self.alternatives:
            try:
                _parse(alternative)
            except ValueError as error:
                raise CallError(f"template {self.name!r}, {alternative!r}: {error}") from None

    @cached_property
    def _parsed(self) -> tuple[tuple[_Place, ...], ...]:
        return tuple(_parse(alternative) for alternative in self.alternatives)

    @cached_property
    def names(self) -> frozenset[str]:
        """All fields that an alternative can read, as it writes them."""
        places = [place for alternative in self._parsed for place in alternative]
        return frozenset(name for place in places for name in (place.field, place.other) if name)

    @cached_property
    def fields(self) -> frozenset[str]:
        """All fields of a record that an alternative can read: of `a.b` the field `a` too."""
        return self.names | {name.partition(".")[0] for name in self.names}

    @property
    def has_prompt(self) -> bool:
        """Whether an alternative says where its prompt ends."""
        return any(place.field == "" for places in self._parsed for place in places)

    def render(self, record: Record) -> str:
        """The document of `record`, not stripped; raises RecordError as `split` does."""
        return "".join(self.split(record))

    def split(self, record: Record) -> tuple[str, str]:
        """The document of `record`, not stripped, as prompt and output; the prompt is empty where none is marked.

        Raises:
            RecordError: no alternative fits; the message names the fields wanted and those found.
        """
        fallback = None
        only_null = False
        for places in self._parsed:
            text, blank = _fill(places, record)
            if text is None:
                only_null = only_null or blank
                continue
            if not blank:
                return text
            fallback = text if fallback is None else fallback
        if fallback is not None:
            return fallback
        if only_null:
            return "", ""
        raise RecordError(self._misfit(record))

    def _misfit(self, record: Record) -> str:
        wanted = " or ".join(
            "+".join(sorted({place.field for place in places if place.field})) for places in self._parsed
        )
        found = ", ".join(f"{key} ({_kind(value)})" for key, value in record.items()) or "none"
        return (
            f"template {self.name!r} wants the fields {wanted}; found: {found}; "
            "choose another with --template or leave this file out"
        )


def _fill(places: tuple[_Place, ...], record: Record) -> tuple[tuple[str, str] | None, bool]:
    """Prompt and output by one alternative, and whether a place is blank.

    None for both texts if it does not fit; then the second says whether that is so because of nulls alone.
    """
    pieces: list[str] = []
    border = 0
    blank = null = False
    for place in places:
        pieces.append(place.literal)
        if not place.field:
            border = border if place.field is None else len(pieces)
            continue
        value = _look_up(record, place.field)
        other = _look_up(record, place.other) if place.other else None
        if value is None or (place.other and other is None):
            null = True
            continue
        text = RULES[place.rule](value, other)
        if text is None:
            return None, False
        blank = blank or not text or text.isspace()
        pieces.append(text)
    if null:
        return None, True
    return ("".join(pieces[:border]), "".join(pieces[border:])), blank


def _look_up(record: Record, name: str) -> Any:
    """The value of the field `name`, or of `a.b` the field b of the object a; `_MISSING` if there is none."""
    value = record.get(name, _MISSING)
    if value is not _MISSING or "." not in name:
        return value
    value = record
    for part in name.split("."):
        if value is None:
            return None
        value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
    return value


def _kind(value: Any) -> str:
    return "null" if value is None else {"str": "text", "dict": "object"}.get(t := type(value).__name__, t)


class _Shipped(Mapping[str, tuple[str, ...]]):
    """Alternatives of the templates that the shipped recipes hold; a recipe is read when it is asked for."""

    def __getitem__(self, name: str) -> tuple[str, ...]:
        from shards.recipes import find_recipe, recipe_names

        if name not in recipe_names():
            raise KeyError(name)
        return find_recipe(name).template.alternatives

    def __iter__(self) -> Iterator[str]:
        from shards.recipes import recipe_names

        return iter(recipe_names())

    def __len__(self) -> int:
        return sum(1 for _ in self)


TEMPLATES: Mapping[str, tuple[str, ...]] = _Shipped()


def find_template(name: str | None, corpus: str) -> Template:
    """The template `name`; without one that of `corpus` if it has one of its own, else `text`.

    Raises:
        CallError: no template has this name.
    """
    chosen = name or (corpus if corpus in TEMPLATES else "text")
    if chosen not in TEMPLATES:
        raise CallError(f"unknown template {chosen!r}; known: {', '.join(sorted(TEMPLATES))}")
    return Template(chosen, TEMPLATES[chosen])
