"""Text templates: which fields of a record make its document, in the real schemas of each corpus.

A template is data: a name and its alternatives in order. An alternative is a format string whose places
name fields, `{question}`, or a field and a rule that makes text of it; `{}` adds nothing and says that the
prompt ends there and the output begins (without it a document has no prompt):

    {field}               text, number, or a boolean as yes/no
    {field:first}         the first of a list, or the text itself
    {field:join}          a list of texts, a blank line between them
    {field:rest}          the same of all but the first
    {field:decoded}       the first of a list that is written as JSON in a text (APPS)
    {field:at other}      the item of a list whose index stands in `other`
    {field:labelled other}  of {"text": [...], "label": [...]} the text whose label stands in `other`

An alternative *fits* a record when every place gives text: the fields are there, not null, and of the
right type. The first alternative that fits with no place blank wins; if all of them have a blank place,
the first that fits. So `input: ""` of an instruction falls through to the form without input. A record
that nothing fits is a `RecordError`. Other fields of a record are never looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import Any

from shards.errors import CallError, RecordError

__all__ = ["TEMPLATES", "Template", "find_template"]

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "text": ("{text}",),
    # The six midtraining corpora.
    "c4": ("{text}",),
    "starcoder": (
        "{content}",
        "{prompt}{canonical_solution}",  # HumanEval, MBXP
        "{nl}\n\n{code}",  # CONCODE
        "{prompt}",
    ),
    "math": (
        "{instruction}\n\n{output}",  # MathInstruct
        "{question}\n\n{generated_solution}",  # OpenMathInstruct-1
        "{problem}\n\n{solution}",  # MATH
        "{problem}\n{options}\n\n{rationale}",  # MathQA
        "{prompt}{canonical_solution}",  # MathQA-Python
        "{body} {question}\n\n{formula}\n{answer}",  # ASDiv
        "{Body} {Question}\n\n{Equation} = {Answer}",  # SVAMP
        "{question}\n\n{output}",  # MetaMath
        "{question}\n\n{inv_question_pred_answer}",
        "{question}\n\n{answer}",  # GSM8K
    ),
    "flan": (
        "{inputs}\n\n{targets}",  # FLAN Collection
        "{question}\n\n{chain_of_thought}\n{answer}",  # its chain-of-thought part
        "{instruction}\n{input}\n\n{output}",  # Alpaca
        "{instruction}\n\n{output}",
        "{prompt}{response}",  # Dolly, HH-RLHF: the prompt ends with "### Response:\n"
    ),
    "knowledgeqa": (
        "{instruction} {output}",  # MiniCPM's decay-stage parts
        "{text}",  # Stack Exchange
        "{passage}\n{question} {answer}",  # BoolQ
        "{question} {answer:first}",  # TriviaQA, Natural Questions
        "{question} {answer}",
        "{context} {answer}",  # TriviaQA for in-context evaluation
        "{context} {continuation}",  # QA-Wikidata
        "{query} {choices:at gold}",  # ARC
        "{question_stem} {choices:labelled answerKey}",  # OpenBookQA
    ),
    "dclm": ("{text}",),
    # Fine-tuning and evaluation sets: prompt and output.
    "pycode": (
        "{doc}\n\n{}{code}",  # CoSQA
        "{code}",  # CodeSearchNet: the docstring is part of the function
        "{whole_func_string}",  # CodeSearchNet, hub form
    ),
    "gsm8k": ("{question}\n\n{}{answer}",),
    "lima": ("{conversations:first}\n\n{}{conversations:rest}", "{conversations:join}"),
    "sciq": ("{support}\n\n{question}{} {correct_answer}", "{question}{} {correct_answer}"),
    "apps": (
        "Problem: {question}\n\nSolution: {}{solutions:decoded}",
        "Problem: {question}",
        "Problem: {prompt}\n\nSolution: {}{canonical_solution}",  # CodeContests
        "Problem: {prompt}",
    ),
}

Record = Mapping[str, Any]


def _plain(value: Any, _other: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int | float) else None


def _first(value: Any, _other: Any) -> str | None:
    if isinstance(value, list):
        return _plain(value[0], None) if value else None
    return value if isinstance(value, str) else None


def _join(value: Any, _other: Any) -> str | None:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return "\n\n".join(value)


def _rest(value: Any, _other: Any) -> str | None:
    return _join(value[1:], None) if isinstance(value, list) and len(value) > 1 else None


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


_RULES: Mapping[str, Callable[[Any, Any], str | None]] = {
    "": _plain,
    "first": _first,
    "join": _join,
    "rest": _rest,
    "decoded": _decoded,
    "at": _at,
    "labelled": _labelled,
}


@dataclass(frozen=True)
class _Place:
    """Literal text and, behind it, a field with its rule (None at the end of a format; empty where the prompt ends)."""

    literal: str
    field: str | None
    rule: str
    other: str | None


def _parse(alternative: str) -> tuple[_Place, ...]:
    places = []
    for literal, field, spec, _ in Formatter().parse(alternative):
        rule, _, other = (spec or "").partition(" ")
        places.append(_Place(literal, field, rule, other or None))
    return tuple(places)


@dataclass(frozen=True)
class Template:
    """A named template.

    Attributes:
        name: its key in `TEMPLATES`.
        alternatives: format strings, in order of preference.
    """

    name: str
    alternatives: tuple[str, ...]

    @cached_property
    def _parsed(self) -> tuple[tuple[_Place, ...], ...]:
        return tuple(_parse(alternative) for alternative in self.alternatives)

    @cached_property
    def fields(self) -> frozenset[str]:
        """All fields that an alternative can read."""
        places = [place for alternative in self._parsed for place in alternative]
        return frozenset(name for place in places for name in (place.field, place.other) if name)

    def render(self, record: Record) -> str:
        """The document of `record`, not stripped; raises RecordError as `split` does."""
        return "".join(self.split(record))

    def split(self, record: Record) -> tuple[str, str]:
        """The document of `record`, not stripped, as prompt and output; the prompt is empty where none is marked.

        Raises:
            RecordError: no alternative fits; the message names the fields wanted and those found.
        """
        fallback = None
        for places in self._parsed:
            text, blank = _fill(places, record)
            if text is None:
                continue
            if not blank:
                return text
            fallback = text if fallback is None else fallback
        if fallback is None:
            raise RecordError(self._misfit(record))
        return fallback

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
    """Prompt and output by one alternative, None if it does not fit, and whether a place is blank."""
    pieces: list[str] = []
    border = 0
    blank = False
    for place in places:
        pieces.append(place.literal)
        if not place.field:
            border = border if place.field is None else len(pieces)
            continue
        value = record.get(place.field)
        text = _RULES[place.rule](value, record.get(place.other) if place.other else None)
        if text is None:
            return None, False
        blank = blank or not text or text.isspace()
        pieces.append(text)
    return ("".join(pieces[:border]), "".join(pieces[border:])), blank


def _kind(value: Any) -> str:
    return "null" if value is None else {"str": "text", "dict": "object"}.get(t := type(value).__name__, t)


def find_template(name: str | None, corpus: str) -> Template:
    """The template `name`; without one that of `corpus` if it has one of its own, else `text`.

    Raises:
        CallError: no template has this name.
    """
    chosen = name or (corpus if corpus in TEMPLATES else "text")
    if chosen not in TEMPLATES:
        raise CallError(f"unknown template {chosen!r}; known: {', '.join(sorted(TEMPLATES))}")
    return Template(chosen, TEMPLATES[chosen])
