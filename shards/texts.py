"""Texts: from the records of a block to the documents in it, stripped, in UTF-8."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from shards.errors import RecordError
from shards.sources import Block, Fault, OnBad
from shards.templates import Template

__all__ = ["Texts", "are_held_out", "is_held_out", "make_texts"]

_ONE_FIELD = re.compile(r"\{([^{}:]+)\}")


@dataclass
class Texts:
    """Documents, in order.

    Attributes:
        texts: stripped, not empty, UTF-8.
        numbers: of the record of each.
        prompts: how many characters of each are its prompt; empty unless they were asked for.
    """

    texts: list[bytes]
    numbers: list[int]
    prompts: list[int]

    def extend(self, others: Texts) -> None:
        """Put `others` behind these."""
        self.texts += others.texts
        self.numbers += others.numbers
        self.prompts += others.prompts

    @property
    def num_bytes(self) -> int:
        """Of all texts."""
        return sum(map(len, self.texts))

    def select(self, wanted: list[int]) -> Texts:
        """Those at the places `wanted`."""
        texts, numbers, prompts = self.texts, self.numbers, self.prompts
        return Texts(
            [texts[i] for i in wanted], [numbers[i] for i in wanted], [prompts[i] for i in wanted] if prompts else []
        )


def is_held_out(document: bytes, threshold: int) -> bool:
    """Whether `document` (UTF-8, stripped) belongs to the held-out split."""
    return int.from_bytes(blake2b(document, digest_size=8).digest(), "big") < threshold


def are_held_out(documents: Sequence[bytes], threshold: int) -> list[bool]:
    """`is_held_out` of each."""
    if threshold >= 1 << 64:
        return [True] * len(documents)
    bound = threshold.to_bytes(8, "big")
    return [blake2b(document, digest_size=8).digest() < bound for document in documents]


def make_texts(block: Block, template: Template, on_bad: OnBad, *, with_prompts: bool) -> tuple[Texts, int]:
    """The documents of `block`, without the empty ones, and how many of its records were empty.

    Args:
        block: records.
        template: makes the text of a record.
        on_bad: told of each record that the template does not fit.
        with_prompts: whether to say where prompts end.
    """
    found = Texts([], [], [])
    field = None if with_prompts else _only_field(template)
    num_empty = 0
    add_text, add_number = found.texts.append, found.numbers.append
    for number, record in zip(block.numbers, block.records, strict=True):
        value = record.get(field) if field else None
        if type(value) is str:  # what the template would give, without asking it
            text = value.strip()
        else:
            try:
                prompt, output = template.split(record)
            except RecordError as error:
                on_bad(Fault("wrong columns", number, str(error)))
                continue
            whole = prompt + output
            text = whole.strip()
            if text and with_prompts:
                stripped = len(whole) - len(whole.lstrip())
                found.prompts.append(min(max(len(prompt) - stripped, 0), len(text)))
        if text:
            add_text(text.encode())
            add_number(number)
        else:
            num_empty += 1
    return found, num_empty


def _only_field(template: Template) -> str | None:
    """The field that is the whole document, if the template is no more than that."""
    match = _ONE_FIELD.fullmatch(template.alternatives[0]) if len(template.alternatives) == 1 else None
    return match[1] if match else None
