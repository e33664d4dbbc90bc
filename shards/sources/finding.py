"""Finding sources: which files, in which order.

Inputs are taken in the order given. A directory stands for all files in it, at any depth, and a glob (`*`, `?`, `[`,
and `**` for any depth) for the files it matches, both sorted by path, character by character; hidden files are passed
over. In a directory, files whose ending is not in `ENDINGS` are passed over too; a file that is named itself, or
matched by a glob, must have one of them. No file may come twice.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from shards.errors import SourceError

__all__ = ["CODECS", "ENDINGS", "PARQUET", "ending_of", "find_sources", "place"]

#: How JSON lines of each ending are packed.
CODECS = {
    suffix + packed: codec
    for suffix in (".jsonl", ".json")
    for packed, codec in (("", None), (".gz", "gzip"), (".zst", "zstd"))
}
PARQUET = ".parquet"
ENDINGS = (*CODECS, PARQUET)


def find_sources(inputs: Iterable[str]) -> list[str]:
    """The files that `inputs` (files, directories, globs) stand for, in the order of this module's contract.

    Raises:
        SourceError: an input that does not exist, holds nothing to convert, has an unknown ending, or comes twice.
    """
    found: dict[Path, Path] = {}
    for text in inputs:
        for path in _expanded(text):
            where = path.resolve()
            if where in found:
                raise SourceError(
                    f"{path} is given twice (also as {found[where]}); name each file once", path=str(path)
                )
            found[where] = path
    if not found:
        raise SourceError("no input; name at least one file, directory or glob")
    return [str(path) for path in found.values()]


def _expanded(text: str) -> list[Path]:
    try:
        return _expand(text)
    except OSError as error:  # no permission to look, or a name that no file can have
        raise SourceError(f"cannot read {text}: {error.strerror or error}; check the path", path=text) from None


def _expand(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        below = (file for file in path.rglob("*") if file.is_file())
        files = [file for file in below if ending_of(file.name) and not _hidden(file.relative_to(path))]
        if not files:
            raise SourceError(f"{text} holds no file ending in {', '.join(ENDINGS)}", path=text)
        return sorted(files, key=Path.as_posix)
    if path.is_file():
        files = [path]
    elif glob.has_magic(text):
        files = sorted(map(Path, glob.glob(text, recursive=True)), key=Path.as_posix)  # noqa: PTH207 - absolute too
        files = [file for file in files if file.is_file()]
        if not files:
            raise SourceError(f"{text} matches no file", path=text)
    else:
        raise SourceError(f"{text} does not exist; check the path", path=text)
    for file in files:
        if not ending_of(file.name):
            raise SourceError(
                f"{file} has an unknown ending; known: {', '.join(ENDINGS)}; rename or convert it",
                path=str(file),
            )
    return files


def ending_of(name: str) -> str | None:
    """Which of `ENDINGS` the name of a source has, the longest first."""
    return next((ending for ending in sorted(ENDINGS, key=len)[::-1] if name.endswith(ending)), None)


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def place(source: str, number: int) -> str:
    """How messages name the record `number` (from 1) of `source`."""
    return f"{source}, {'row' if ending_of(source) == PARQUET else 'line'} {number}"
