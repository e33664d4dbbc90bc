"""Writing that survives a kill: temp file, fsync, rename, fsync of the folder.

After any of these functions returns, a power cut keeps the result; before that, the final name does not
exist. `StorageError` names the path and what to do. Nothing here knows what is being written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.errors import StorageError

__all__ = ["publish_folder", "sync_folder", "write_chunks", "write_file", "writing"]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn any OSError inside into a `StorageError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; make room or choose another --out, "
            "then run the same command again (finished parts are kept)",
            path=str(path),
        ) from error


def write_file(path: Path, *chunks: bytes | memoryview) -> None:
    """Write `chunks` one after another to `path`, which appears whole or not at all."""
    write_chunks(path, chunks)


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """As `write_file`, with chunks that are made while they are written."""
    temporary = path.with_name(path.name + ".tmp")
    with writing(path):
        with temporary.open("wb", buffering=0) as file:
            for chunk in chunks:
                rest = memoryview(chunk).cast("B")
                while rest:
                    rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        temporary.rename(path)


def publish_folder(folder: Path, final: Path) -> None:
    """Give `folder`, whose files are on disk already, its `final` name in one step.

    The subfolders are synced too, so that no name is lost.
    """
    with writing(final):
        for below, _, _ in os.walk(folder):
            sync_folder(Path(below))
        folder.rename(final)
        sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
