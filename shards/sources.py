"""Input files: finding them in a fixed order and reading their records block by block.

Order. Inputs are taken in the order given. A directory stands for all files in it, at any depth, and a
glob (`*`, `?`, `[`, and `**` for any depth) for the files it matches, both sorted by path, character by
character; hidden files are passed over. In a directory, files whose ending is not in `ENDINGS` are passed
over too; a file that is named itself, or matched by a glob, must have one of them. No file may come twice.

Reading. Memory stays within a few blocks of `BLOCK_BYTES` (for Parquet: within one row group), whatever
the size of the file. JSON lines are one object a line; blank lines count as lines but hold no record.
Every failure is one `SourceError` or `RecordError` that names the file and, where there is one, the line
(JSON lines) or row (Parquet), from 1.
"""

from __future__ import annotations

import glob
import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from shards.errors import RecordError, SourceError

__all__ = ["BLOCK_BYTES", "ENDINGS", "Block", "Identity", "find_sources", "identify", "place", "read_blocks"]

BLOCK_BYTES = 4 << 20

_LINES = {
    suffix + packed: codec
    for suffix in (".jsonl", ".json")
    for packed, codec in (("", None), (".gz", "gzip"), (".zst", "zstd"))
}
ENDINGS = (*_LINES, ".parquet")


@dataclass(frozen=True)
class Block:
    """Consecutive records of one file.

    Attributes:
        numbers: line (JSON lines) or row (Parquet) of each record, from 1.
        records: the records, as many as `numbers`.
        position: bytes of the file read so far, of its size on disk.
    """

    numbers: list[int]
    records: list[dict[str, Any]]
    position: int


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a file held when it was read: its size in bytes and the SHA-256 of its bytes."""

    bytes: int
    sha256: str


def find_sources(inputs: Iterable[str]) -> list[Path]:
    """The files that `inputs` (files, directories, globs) stand for, in the order of this module's contract.

    Raises:
        SourceError: an input that does not exist, holds nothing to convert, has an unknown ending, is
            empty, or comes twice.
    """
    found: dict[Path, Path] = {}
    for text in inputs:
        for path in _expand(text):
            place = path.resolve()
            if place in found:
                raise SourceError(
                    f"{path} is given twice (also as {found[place]}); name each file once", path=str(path)
                )
            if path.stat().st_size == 0:
                raise SourceError(f"{path} is empty; remove it from the inputs", path=str(path))
            found[place] = path
    if not found:
        raise SourceError("no input; name at least one file, directory or glob")
    return list(found.values())


def _expand(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        below = (file for file in path.rglob("*") if file.is_file())
        files = [file for file in below if _ending(file) and not _hidden(file.relative_to(path))]
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
        if not _ending(file):
            raise SourceError(
                f"{file} has an unknown ending; known: {', '.join(ENDINGS)}; rename or convert it",
                path=str(file),
            )
    return files


def _ending(path: Path) -> str | None:
    return next((ending for ending in sorted(ENDINGS, key=len)[::-1] if path.name.endswith(ending)), None)


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def identify(path: Path) -> Identity:
    """Size and hash of the file at `path`, read once from end to end."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Identity(bytes=file.tell(), sha256=digest)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}", path=str(path)) from error


def place(path: Path, number: int) -> str:
    """How messages name the record `number` of `path`."""
    return f"{path}, {'row' if _ending(path) == '.parquet' else 'line'} {number}"


def read_blocks(path: Path, fields: frozenset[str]) -> Iterator[Block]:
    """The records of `path` in order; of a Parquet file only the columns among `fields`.

    Raises:
        SourceError: the file cannot be read, is damaged or truncated, or holds no record.
        RecordError: a line is not a JSON object in UTF-8.
    """
    ending = _ending(path)
    blocks = _read_parquet(path, fields) if ending == ".parquet" else _read_lines(path, _LINES[ending or ".jsonl"])
    num_records = 0
    for block in blocks:
        num_records += len(block.records)
        yield block
    if not num_records:
        raise SourceError(f"{path} holds no records; remove it from the inputs", path=str(path))


def _read_lines(path: Path, codec: str | None) -> Iterator[Block]:
    import pyarrow as pa

    number = 0
    try:
        with path.open("rb") as raw:
            # Arrow's streams, unlike zstandard's, notice a truncated last frame.
            stream = io.BufferedReader(pa.CompressedInputStream(raw, codec), 1 << 20) if codec else raw
            while lines := stream.readlines(BLOCK_BYTES):
                yield _parse(path, lines, number, raw.tell())
                number += len(lines)
    except OSError as error:
        what = error.strerror or f"damaged or truncated ({error})"
        raise SourceError(
            f"{path}: {what} after line {number}; fetch the file again", path=str(path), number=number
        ) from error


def _parse(path: Path, lines: list[bytes], before: int, position: int) -> Block:
    numbers, records = [], []
    for number, line in enumerate(lines, before + 1):
        if line.isspace():
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise RecordError(
                f"{place(path, number)}: {_reason(line, error)}; mend or remove the line",
                path=str(path),
                number=number,
            ) from None
        if not isinstance(record, dict):
            raise RecordError(
                f"{place(path, number)}: a JSON {type(record).__name__}, not an object; the file must hold "
                "one object a line (an array is rewritten by: jq -c '.[]')",
                path=str(path),
                number=number,
            )
        numbers.append(number)
        records.append(record)
    return Block(numbers, records, position)


def _reason(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        return f"not UTF-8 (byte 0x{line[wrong.start]:02x} at byte {wrong.start + 1} of the line)"
    if line.strip() in (b"[", b"[{"):
        return "a JSON array over several lines; rewrite it as one object a line (jq -c '.[]')"
    return f"not valid JSON ({error.msg} at column {error.colno})"


def _read_parquet(path: Path, fields: frozenset[str]) -> Iterator[Block]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        with pq.ParquetFile(path) as file:
            size, num_rows = path.stat().st_size, max(file.metadata.num_rows, 1)
            columns = [name for name in file.schema_arrow.names if name in fields]
            for batch in file.iter_batches(batch_size=1024, columns=columns or None):
                records = batch.to_pylist()
                numbers = list(range(row + 1, row + len(records) + 1))
                row += len(records)
                yield Block(numbers, records, size * row // num_rows)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(
            f"{path}: damaged or no Parquet file ({reason}), after row {row}; fetch the file again",
            path=str(path),
            number=row,
        ) from error
