"""Units: what of a source is converted by itself, a range of its bytes.

A unit holds the records that begin in its range: the lines whose first byte is in it, of a Parquet file the row groups.
The units of a source touch, so every record is in one of them, in order. A packed source is one unit, any other has as
many equal ranges as keep each within `unit_bytes`. All of it follows from name and size alone.

The hash of a source is the SHA-256 of its bytes where it is one unit, as `sha256sum` gives it; of several it is the
SHA-256 over the hashes of their ranges, in hexadecimal, end to end: so each is computed where its unit is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shards.errors import SourceError
from shards.sources.finding import CODECS, ending_of
from shards.sources.storage import Stamp, open_source, stat_source

__all__ = [
    "UNIT_BYTES",
    "Unit",
    "combine_hashes",
    "cut_into_units",
    "hash_range",
    "hash_source",
    "whole_source",
]

UNIT_BYTES = 256 << 20
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Unit:
    """The records of `source` that begin in its bytes [start, end); `stamp` is that of the source."""

    source: str
    start: int
    end: int
    stamp: Stamp

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its source."""
        return self.start == 0 and self.end == self.stamp.bytes

    def __str__(self) -> str:
        return self.source if self.is_whole else f"{self.source} (bytes {self.start} to {self.end})"


def whole_source(name: str) -> Unit:
    """The source `name` as one unit, of whatever size."""
    stamp = stat_source(name)
    return Unit(name, 0, stamp.bytes, stamp)


def cut_into_units(sources: Sequence[tuple[str, Stamp]], unit_bytes: int = UNIT_BYTES) -> list[Unit]:
    """The units of all `sources`, in order; each source has at least one."""
    return [
        Unit(name, start, end, stamp)
        for name, stamp in sources
        for start, end in _ranges(stamp.bytes, 1 if CODECS.get(ending_of(name) or "") else _count(stamp, unit_bytes))
    ]


def _count(stamp: Stamp, unit_bytes: int) -> int:
    return max(-(-stamp.bytes // unit_bytes), 1)


def _ranges(size: int, count: int) -> list[tuple[int, int]]:
    return [(size * number // count, size * (number + 1) // count) for number in range(count)]


def hash_range(name: str, start: int, end: int) -> str:
    """SHA-256 of the bytes [start, end) of the source `name`."""
    digest = hashlib.sha256()
    try:
        with open_source(name) as file:
            file.seek(start)
            while start < end and (chunk := file.read(min(_CHUNK_BYTES, end - start))):
                digest.update(chunk)
                start += len(chunk)
    except OSError as error:
        raise SourceError(f"cannot read {name}: {error.strerror or error}", path=name) from error
    return digest.hexdigest()


def combine_hashes(hashes: Iterable[str]) -> str:
    """The hash of a source from those of its units."""
    hashes = list(hashes)
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def hash_source(name: str, size: int, num_units: int) -> str:
    """The hash of the source `name` of `size` bytes, as one of `num_units` units."""
    return combine_hashes(hash_range(name, start, end) for start, end in _ranges(size, num_units))
