"""All records of one file, whole files only: evaluation sets are small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shards.sources.blocks import read_blocks
from shards.sources.units import whole_source

__all__ = ["read_records"]


def read_records(path: str, fields: frozenset[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number (line or row, from 1) and fields of each record of the file at `path`, in order."""
    for block in read_blocks(whole_source(path), fields):
        yield from zip(block.numbers, block.records, strict=True)
