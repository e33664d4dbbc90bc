"""A few documents of a corpus, from all over it, for checks that need real text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from shards.errors import CallError, RecordError
from shards.sources import Unit, read_blocks
from shards.templates import Template

__all__ = ["sample_documents"]

_MOST_UNITS = 8
_BYTES_OF_UNIT = 1 << 16
_RECORDS_OF_UNIT = 64


def sample_documents(units: Sequence[Unit], template: Template) -> list[bytes]:
    """The first documents of up to eight of `units`, spread over all, stripped, UTF-8; long ones are cut.

    Of a unit at most 64 records or 64 KiB of text are taken. What cannot be read is passed over: the conversion itself
    will say where and why.
    """
    step = max(len(units) / _MOST_UNITS, 1)
    chosen = [units[int(number * step)] for number in range(min(len(units), _MOST_UNITS))]
    return [document for unit in chosen for document in _first_documents(unit, template)]


def _first_documents(unit: Unit, template: Template) -> list[bytes]:
    documents: list[bytes] = []
    taken = 0
    try:
        block = next(read_blocks(unit, template.fields, lambda fault: None), None)
    except CallError:
        return []
    for record in islice(block.records if block else [], _RECORDS_OF_UNIT):
        try:
            text = template.render(record).strip().encode()[:_BYTES_OF_UNIT]
        except RecordError:
            continue
        documents.append(text.decode(errors="ignore").encode())  # no character is cut in two
        taken += len(text)
        if taken >= _BYTES_OF_UNIT:
            break
    return documents
