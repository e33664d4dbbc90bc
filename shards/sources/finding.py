"""Finding sources: files, directories and globs, here and in object stores and on the hub, in a fixed order.

Order. Inputs are taken in the order given. A directory (of a URL: a prefix) stands for all files in it, at any depth,
and a glob (`*`, `?`, `[`, and `**` for any depth) for the files it matches, both sorted by name, character by
character; hidden files are passed over. In a directory, files whose ending is not in `ENDINGS` are passed over too; a
file that is named itself, or matched by a glob, must have one of them. No file may come twice.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from shards.errors import SourceError
from shards.sources.storage import as_source_error, file_system, is_remote

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
    """The sources that `inputs` (files, directories, globs; paths or URLs) stand for, in this module's order.

    Raises:
        SourceError: an input that does not exist or cannot be reached, holds nothing to convert, has an unknown
            ending, or comes twice.
    """
    found: dict[str, str] = {}
    for given in inputs:
        for name in _expand_url(given) if is_remote(given) else _expand_path(given):
            where = name if is_remote(name) else str(Path(name).resolve())
            if where in found:
                raise SourceError(f"{name} is given twice (also as {found[where]}); name each file once", path=name)
            found[where] = name
    if not found:
        raise SourceError("no input; name at least one file, directory or glob")
    return list(found.values())


def ending_of(name: str) -> str | None:
    """Which of `ENDINGS` the name of a source has, the longest first."""
    return next((ending for ending in sorted(ENDINGS, key=len)[::-1] if name.endswith(ending)), None)


def place(source: str, number: int) -> str:
    """How messages name the record `number` (from 1) of `source`."""
    return f"{source}, {'row' if ending_of(source) == PARQUET else 'line'} {number}"


def _expand_path(text: str) -> list[str]:
    try:
        return _paths_of(text)
    except OSError as error:  # no permission to look, or a name that no file can have
        raise SourceError(f"cannot read {text}: {error.strerror or error}; check the path", path=text) from None


def _paths_of(text: str) -> list[str]:
    path = Path(text)
    if path.is_dir():
        below = (file for file in path.rglob("*") if file.is_file())
        files = [file for file in below if ending_of(file.name) and not _hidden(file.relative_to(path).as_posix())]
        return _some([str(file) for file in sorted(files, key=Path.as_posix)], text)
    if path.is_file():
        return [_known(str(path))]
    if not glob.has_magic(text):
        raise SourceError(f"{text} does not exist; check the path", path=text)
    matched = map(Path, glob.glob(text, recursive=True))  # noqa: PTH207 - absolute ones too
    files = sorted((file for file in matched if file.is_file()), key=Path.as_posix)
    return [_known(name) for name in _matched([str(file) for file in files], text)]


def _expand_url(text: str) -> list[str]:
    scheme, _, pattern = text.rstrip("/").partition("://")
    files = file_system(text)
    with as_source_error(text):
        if glob.has_magic(pattern):
            fixed = _fixed_part(pattern)
            found = files.glob(pattern, detail=True)
            names = [name for name in found if found[name]["type"] == "file"]
            names = [name for name in names if not _hidden(name[len(fixed) :], pattern[len(fixed) :])]
            return [_known(f"{scheme}://{name}") for name in _matched(sorted(names), text)]
        if files.info(pattern)["type"] == "file":
            return [_known(f"{scheme}://{pattern}")]
        names = [name for name in files.find(pattern) if ending_of(name)]
        names = [name for name in names if not _hidden(name[len(pattern) :].lstrip("/"))]
        return [f"{scheme}://{name}" for name in _some(sorted(names), text)]


def _fixed_part(pattern: str) -> str:
    """The folders of `pattern` before its first magic one."""
    parts = pattern.split("/")
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:first]) + "/"


def _hidden(below: str, pattern: str = "") -> bool:
    """Whether a name below what was asked for is hidden, and `pattern` does not ask for hidden ones."""
    asked = any(part.startswith(".") for part in pattern.split("/"))
    return not asked and any(part.startswith(".") for part in below.split("/"))


def _some(names: list[str], text: str) -> list[str]:
    if not names:
        raise SourceError(f"{text} holds no file ending in {', '.join(ENDINGS)}", path=text)
    return names


def _matched(files: list[str], text: str) -> list[str]:
    if not files:
        raise SourceError(f"{text} matches no file", path=text)
    return files


def _known(name: str) -> str:
    if not ending_of(name):
        raise SourceError(f"{name} has an unknown ending; known: {', '.join(ENDINGS)}; rename or convert it", path=name)
    return name
