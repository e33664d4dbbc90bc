"""Where sources lie: the two questions that reading asks of any storage, answered for local files.

`Stamp.version` says whether a source is still the one it was: two stamps of equal size and version are of equal bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shards.errors import SourceError

__all__ = ["Stamp", "open_source", "stat_source"]


@dataclass(frozen=True)
class Stamp:
    """Size of a source in bytes, and its version: the time of the last change of a local file, in nanoseconds."""

    bytes: int
    version: str


def stat_source(name: str) -> Stamp:
    """The stamp of the source `name`. Raises SourceError: it is not there, or cannot be asked for."""
    try:
        stat = Path(name).stat()
    except OSError as error:
        raise SourceError(f"cannot read {name}: {error.strerror or error}", path=name) from error
    return Stamp(stat.st_size, str(stat.st_mtime_ns))


def open_source(name: str) -> BinaryIO:
    """The bytes of the source `name`: seekable, buffered. Raises SourceError: it cannot be opened."""
    try:
        return open(name, "rb")  # noqa: PTH123 - a name may be no path
    except OSError as error:
        raise SourceError(f"cannot read {name}: {error.strerror or error}", path=name) from error
