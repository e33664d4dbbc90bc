"""The size and the hash of a file that this package has written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from shards.errors import CorpusError

__all__ = ["Identity", "identify"]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a file holds: its size in bytes and the SHA-256 of its bytes."""

    bytes: int
    sha256: str


def identify(path: Path) -> Identity:
    """Size and hash of the file at `path`, read once from end to end. Raises CorpusError: it cannot be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Identity(bytes=file.tell(), sha256=digest)
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}", path=str(path)) from error
