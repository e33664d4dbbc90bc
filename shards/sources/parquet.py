"""Parquet: the wanted columns of the row groups of a unit, a few rows at a time, also of a huge row group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shards.errors import SourceError
from shards.sources import blocks
from shards.sources.blocks import DAMAGED, Block, Fault, OnBad
from shards.sources.storage import open_source
from shards.sources.units import Unit

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["count_rows_before", "read_parquet"]

BATCH_ROWS = 1024
_READ_BYTES = 1 << 20


def read_parquet(unit: Unit, fields: frozenset[str], on_bad: OnBad, digest: _Hash | None) -> Iterator[Block]:
    """The blocks of one unit of a Parquet file; as `read_blocks`."""
    import pyarrow as pa

    row = 0
    size = unit.end - unit.start
    try:
        with _opened(unit.source) as file:
            groups = [number for number, start in enumerate(_starts(file)) if unit.start <= start < unit.end]
            num_rows = max(sum(file.metadata.row_group(number).num_rows for number in groups), 1)
            columns = [name for name in file.schema_arrow.names if name in fields]
            batch_rows = _batch_rows(file, groups, frozenset(columns))
            batches = file.iter_batches(batch_size=batch_rows, row_groups=groups, columns=columns or None)
            for batch in batches if groups else ():
                records = batch.to_pylist()
                numbers = list(range(row + 1, row + len(records) + 1))
                row += len(records)
                yield Block(numbers, records, size * row // num_rows, batch.nbytes, row)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        if getattr(error, "errno", None) is not None:
            raise SourceError(f"cannot read {unit.source}: {error}", path=unit.source, number=row) from error
        reason = " ".join(str(error).split())
        on_bad(Fault(DAMAGED, row, f"damaged or no Parquet file ({reason})"))
    if digest is not None:
        _hash(unit, digest)


def count_rows_before(unit: Unit) -> int:
    """How many rows of its source are before the first of `unit`; 0 if its footer cannot be read."""
    import pyarrow as pa

    try:
        with _opened(unit.source) as file:
            starts = _starts(file)
            return sum(file.metadata.row_group(n).num_rows for n, start in enumerate(starts) if start < unit.start)
    except (OSError, pa.ArrowException):
        return 0


@contextmanager
def _opened(name: str) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with open_source(name) as raw, pq.ParquetFile(raw, pre_buffer=False, buffer_size=_READ_BYTES) as file:
        yield file


def _starts(file: Any) -> list[int]:
    """The first byte of each row group."""
    starts = []
    for number in range(file.metadata.num_row_groups):
        column = file.metadata.row_group(number).column(0)
        pages = [column.data_page_offset, column.dictionary_page_offset]
        starts.append(min(offset for offset in pages if offset))
    return starts


def _batch_rows(file: Any, groups: list[int], columns: frozenset[str]) -> int:
    """How many rows make about a block, as their columns are on average."""
    num_rows = num_bytes = 1
    for group in map(file.metadata.row_group, groups):
        num_rows += group.num_rows
        parts = map(group.column, range(group.num_columns))
        num_bytes += sum(
            part.total_uncompressed_size
            for part in parts
            if not columns or part.path_in_schema.partition(".")[0] in columns
        )
    return max(min(BATCH_ROWS, blocks.BLOCK_BYTES * num_rows // num_bytes), 1)


def _hash(unit: Unit, digest: _Hash) -> None:
    """Parquet is read here and there; its bytes are hashed by themselves."""
    with open_source(unit.source) as raw:
        raw.seek(unit.start)
        left = unit.end - unit.start
        while left and (chunk := raw.read(min(_READ_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)
