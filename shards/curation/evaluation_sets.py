"""Evaluation sets as texts of test items, read from JSON lines or Parquet through a template.

An item is the prompt where the template marks one (`gsm8k`: the question), else all of its text: a question
that stands in a training document is contamination with or without its answer. `part: whole` takes all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.curation.fasttext_model import hash_file
from shards.curation.settings import Section
from shards.curation.source_records import read_records
from shards.errors import CallError, RecordError
from shards.templates import Template, find_template

__all__ = ["EvaluationSet", "Item"]

_PROMPT, _WHOLE = "prompt", "whole"


@dataclass(frozen=True)
class Item:
    """One test item: the file and record (from 1) it is, and its text."""

    path: str
    record: int
    text: str


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """A file of test items."""

    path: str
    template: Template
    part: str

    @classmethod
    def parse(cls, data: object, where: str) -> EvaluationSet:
        """From a path, or `{path, template, part}`; template is a known name or, with braces, a format itself."""
        section = Section({"path": data} if isinstance(data, str) else data, where)
        path = section.text("path")
        template, part = section.text("template", None), section.text("part", _PROMPT)
        section.finish()
        if part not in (_PROMPT, _WHOLE):
            raise section.wrong("part", f"{_PROMPT} or {_WHOLE}", part)
        if not Path(path).is_file():
            raise CallError(f"{where}: {path} does not exist; check the path", path=path)
        return cls(path=path, template=as_template(template, f"{where}.template"), part=part)

    def parameters(self) -> dict[str, Any]:
        """The file's name and SHA-256, and how an item is made of a record."""
        return {
            "file": Path(self.path).name,
            "sha256": hash_file(self.path),
            "template": list(self.template.alternatives),
            "part": self.part,
        }

    def items(self) -> list[Item]:
        """All items whose text is not blank.

        Raises:
            SourceError, RecordError: the file is damaged, or a record does not fit the template.
        """
        found = []
        for number, record in read_records(self.path, self.template.fields):
            try:
                prompt, output = self.template.split(record)
            except RecordError as error:
                raise RecordError(f"{self.path}, record {number}: {error}", path=self.path, number=number) from None
            text = prompt if self.part == _PROMPT and prompt.strip() else prompt + output
            if text.strip():
                found.append(Item(self.path, number, text))
        return found


def as_template(text: str | None, where: str) -> Template:
    """The template of that name, or with braces in it the format that `text` is; None for `{text}`."""
    if text is not None and "{" in text:
        try:
            template = Template(text, (text,))
            if template.fields:
                return template
        except CallError:
            pass
        raise CallError(f"{where} must name fields in braces, as in '{{question}}', not {text!r}")
    try:
        return find_template(text, "text")
    except CallError as error:
        raise CallError(f"{where}: {error}") from None
