"""JSON lines: one object a line, plain or packed with gzip or Zstandard.

A line ends with `\\n` or with the source; blank lines count as lines but hold no record. What unpacks to more than one
block is unpacked block by block, so a small file that unpacks to a huge one is read in the same memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

import orjson

from shards.errors import SourceError
from shards.sources import blocks
from shards.sources.blocks import DAMAGED, Block, Fault, OnBad
from shards.sources.finding import CODECS, ending_of
from shards.sources.storage import open_source
from shards.sources.units import Unit

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["count_lines_before", "read_lines"]

_READ_BYTES = 1 << 18  # of packed bytes at a time


class _Raw:
    """A file as what unpacks it reads it: every byte goes into `digest` once, in order."""

    def __init__(self, file: BinaryIO, digest: _Hash | None) -> None:
        self._file, self._digest = file, digest
        self.position = 0
        self.closed = False

    def read(self, num_bytes: int) -> bytes:
        data = self._file.read(num_bytes)
        self.position += len(data)
        if self._digest is not None:
            self._digest.update(data)
        return data

    def read_to_end(self) -> None:
        while self.read(blocks.BLOCK_BYTES):
            pass

    def close(self) -> None:
        self.closed = True


class _Damage(Exception):
    """The packing is broken; what was unpacked before has been given."""


def read_lines(unit: Unit, on_bad: OnBad, max_record_bytes: int, digest: _Hash | None) -> Iterator[Block]:
    """The blocks of one unit of JSON lines; as `read_blocks`."""
    codec = CODECS.get(ending_of(unit.source) or "")
    last = 0
    try:
        with open_source(unit.source) as file:
            raw = _Raw(file, digest)
            chunks = _unpacked(raw, codec) if codec else _plain(raw, file, unit)
            try:
                for lines in _split(chunks, max_record_bytes):
                    position = min(raw.position, unit.end - unit.start)
                    yield _parse(lines, last, position, on_bad, max_record_bytes)
                    last += len(lines)
            except _Damage as damage:
                on_bad(Fault(DAMAGED, last, f"damaged or truncated ({damage})"))
            if codec:
                raw.read_to_end()  # what an unpacker has left, or has never seen
    except OSError as error:
        raise SourceError(
            f"cannot read {unit.source}: {error.strerror or error}", path=unit.source, number=last
        ) from error


def count_lines_before(unit: Unit) -> int:
    """How many lines of its source are before the first of `unit`."""
    count, done, ends = 0, 0, True
    with open_source(unit.source) as file:
        while done < unit.start and (chunk := file.read(min(blocks.BLOCK_BYTES, unit.start - done))):
            count += chunk.count(b"\n")
            done += len(chunk)
            ends = chunk.endswith(b"\n")
    return count + (not ends)


def _plain(raw: _Raw, file: BinaryIO, unit: Unit) -> Iterator[bytes]:
    """The bytes of the lines that begin in the unit, in chunks; the last line may end behind the unit."""
    inside = False  # a line that began before the unit
    if unit.start:
        file.seek(unit.start - 1)
        inside = file.read(1) != b"\n"
    ends = True
    size = unit.end - unit.start
    while raw.position < size and (chunk := raw.read(min(blocks.BLOCK_BYTES, size - raw.position))):
        if inside:
            cut = chunk.find(b"\n") + 1
            if not cut:
                continue
            chunk, inside = chunk[cut:], False
        if chunk:
            ends = chunk.endswith(b"\n")
            yield chunk
    while not ends and (chunk := file.read(_READ_BYTES)):
        cut = chunk.find(b"\n") + 1
        ends = bool(cut)
        yield chunk[:cut] if cut else chunk


def _unpacked(raw: _Raw, codec: str) -> Iterator[bytes]:
    return _gunzipped(raw) if codec == "gzip" else _unzstd(raw)


def _gunzipped(raw: _Raw) -> Iterator[bytes]:
    from isal import isal_zlib
    from isal.igzip_lib import IsalError

    rest = raw.read(_READ_BYTES)
    if not rest:
        raise _Damage("it is empty")
    while rest:  # one member after another
        unpacker = isal_zlib.decompressobj(wbits=31)
        while not unpacker.eof:
            rest = rest or raw.read(_READ_BYTES)
            if not rest:
                raise _Damage("it ends within a gzip stream")
            try:
                data = unpacker.decompress(rest, blocks.BLOCK_BYTES)
            except IsalError as error:  # type: ignore[misc] # its stub makes it no class
                raise _Damage(str(error)) from None
            rest = unpacker.unconsumed_tail
            if data:
                yield data
        rest = unpacker.unused_data or raw.read(_READ_BYTES)
        while rest and not rest.strip(b"\0"):  # padding, which gzip allows
            rest = raw.read(_READ_BYTES)


def _unzstd(raw: _Raw) -> Iterator[bytes]:
    import pyarrow as pa

    try:
        # Arrow's stream, unlike zstandard's, notices a truncated last frame, and never gives more than it is asked for.
        stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
        while data := stream.read(blocks.BLOCK_BYTES):
            yield data
    except OSError as error:
        if error.errno is not None:
            raise
        raise _Damage(str(error)) from None


def _split(chunks: Iterator[bytes], max_bytes: int) -> Iterator[list[bytes | None]]:
    """Whole lines, without their ends, as chunks complete them; None for one that has grown above `max_bytes`."""
    pieces: list[bytes] = []
    size = 0  # of the line whose end has not come yet; `pieces` holds it unless it is too long
    for chunk in chunks:
        cut = chunk.rfind(b"\n")
        if cut >= 0:
            lines = b"".join([*pieces, chunk[:cut]]).split(b"\n")
            yield [None, *lines[1:]] if size > max_bytes else [*lines]
            chunk, pieces, size = chunk[cut + 1 :], [], 0
        size += len(chunk)
        if size <= max_bytes:
            pieces.append(chunk)
        else:
            pieces.clear()
    if size:
        yield [None if size > max_bytes else b"".join(pieces)]


def _parse(lines: Sequence[bytes | None], before: int, position: int, on_bad: OnBad, max_record_bytes: int) -> Block:
    numbers, records = [], []
    raw_bytes = len(lines)
    loads = orjson.loads
    for number, line in enumerate(lines, before + 1):
        if line is None or len(line) > max_record_bytes:
            on_bad(Fault("too large", number, f"more than {max_record_bytes} bytes; split it or leave it out"))
            continue
        raw_bytes += len(line)
        try:
            record = loads(line)
        except orjson.JSONDecodeError as error:
            if line and not line.isspace():
                on_bad(_fault(number, line, error))
            continue
        if not isinstance(record, dict):
            on_bad(
                Fault(
                    "no object",
                    number,
                    f"a JSON {type(record).__name__}, not an object; the file must hold one object a line "
                    "(an array is rewritten by: jq -c '.[]')",
                )
            )
            continue
        numbers.append(number)
        records.append(record)
    return Block(numbers, records, position, raw_bytes, before + len(lines))


def _fault(number: int, line: bytes, error: orjson.JSONDecodeError) -> Fault:
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        what = f"not UTF-8 (byte 0x{line[wrong.start]:02x} at byte {wrong.start + 1} of the line)"
        return Fault("not UTF-8", number, f"{what}; mend or remove the line")
    if line.strip() in (b"[", b"[{"):
        what = "a JSON array over several lines; rewrite it as one object a line (jq -c '.[]')"
        return Fault("not JSON", number, what)
    what = f"not valid JSON ({error.msg} at column {error.colno}); mend or remove the line"
    return Fault("not JSON", number, what)
