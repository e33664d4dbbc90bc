"""Records: a unit as blocks of records, whatever its form; what cannot be one is told and left out.

Memory stays within a few blocks of `BLOCK_BYTES`, whatever the size of the source, and one record of at most
`max_record_bytes`. A fault is given to `on_bad`, which raises to stop, or returns to go on without it. What can be
wrong with one record (`KINDS`): it is no UTF-8, no JSON, no object, or too large. And with a source: it is damaged, and
then what was read before the damage stands and the rest of the unit is one fault; or it holds no record at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from shards.errors import RecordError, SourceError
from shards.sources.finding import PARQUET, ending_of, place
from shards.sources.units import Unit

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = [
    "BLOCK_BYTES",
    "DAMAGED",
    "MAX_RECORD_BYTES",
    "NOTHING",
    "Block",
    "Fault",
    "OnBad",
    "count_before",
    "read_blocks",
    "stop_at",
]

BLOCK_BYTES = 1 << 20
MAX_RECORD_BYTES = 64 << 20  # a record takes some ten times its size for a moment, in each worker
DAMAGED, NOTHING = "damaged source", "no records"


@dataclass(frozen=True)
class Block:
    """Consecutive records of one unit.

    Attributes:
        numbers: line (JSON lines) or row (Parquet) of each record, from 1 where the unit begins.
        records: the records, as many as `numbers`.
        position: bytes of the unit read so far.
        raw_bytes: what the block has unpacked: bytes of lines, or of decoded columns.
        last_number: the last line or row of the block, whether it gave a record or not.
    """

    numbers: list[int]
    records: list[dict[str, Any]]
    position: int
    raw_bytes: int
    last_number: int


@dataclass(frozen=True)
class Fault:
    """Something of a unit that gives no document.

    Attributes:
        kind: one of few words, to count by.
        number: line or row, from 1 where the unit begins; of a source's fault the last one before it.
        reason: what is wrong and what to do.
    """

    kind: str
    number: int
    reason: str

    @property
    def is_of_source(self) -> bool:
        """Whether the source is at fault and not one record."""
        return self.kind in (DAMAGED, NOTHING)


OnBad = Callable[[Fault], None]


def stop_at(unit: Unit) -> OnBad:
    """An `OnBad` that raises the SourceError or RecordError that tells the fault and its place in the whole source."""

    def stop(fault: Fault) -> NoReturn:
        source, number = unit.source, fault.number
        if fault.kind == NOTHING:
            raise SourceError(f"{source} {fault.reason}", path=source)
        number += count_before(unit)
        if fault.kind == DAMAGED:
            last = place(source, number).removeprefix(f"{source}, ")
            raise SourceError(
                f"{source}: {fault.reason}, after {last}; fetch the file again", path=source, number=number
            )
        raise RecordError(f"{place(source, number)}: {fault.reason}", path=source, number=number)

    return stop


def read_blocks(
    unit: Unit,
    fields: frozenset[str],
    on_bad: OnBad | None = None,
    *,
    max_record_bytes: int = MAX_RECORD_BYTES,
    digest: _Hash | None = None,
) -> Iterator[Block]:
    """The records of `unit` in order; of a Parquet file only the columns among `fields`.

    Args:
        unit: what to read.
        fields: of a record that are wanted; others may be left out.
        on_bad: told of each fault, in order; without it the first one is raised.
        max_record_bytes: a line of more is a fault. Rows of Parquet have no limit.
        digest: updated with exactly the bytes of the unit's range, unless reading stops before the end.

    Raises:
        SourceError: the source cannot be read.
        SourceError, RecordError: of a fault, without `on_bad`.
    """
    from shards.sources.lines import read_lines
    from shards.sources.parquet import read_parquet

    tell = on_bad or stop_at(unit)
    holds_something = not unit.is_whole

    def count(fault: Fault) -> None:
        nonlocal holds_something
        holds_something = True
        tell(fault)

    if ending_of(unit.source) == PARQUET:
        blocks = read_parquet(unit, fields, count, digest)
    else:
        blocks = read_lines(unit, count, max_record_bytes, digest)
    for block in blocks:
        holds_something = holds_something or bool(block.records)
        yield block
    if not holds_something:
        tell(Fault(NOTHING, 0, "holds no records; remove it from the inputs"))


def count_before(unit: Unit) -> int:
    """How many lines or rows of its source are before `unit`."""
    from shards.sources.lines import count_lines_before
    from shards.sources.parquet import count_rows_before

    if unit.start == 0:
        return 0
    return (count_rows_before if ending_of(unit.source) == PARQUET else count_lines_before)(unit)
