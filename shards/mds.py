"""MDS shards of fixed-size rows, byte for byte as `streaming.MDSWriter` writes them, by row arithmetic.

A shard is: uint32 num_samples; uint32 offsets[num_samples + 1] from the start of the file; the JSON of its
configuration; the rows, end to end. With columns of fixed size a row has no header of its own, and all are of
one integer type, so the rows are one (num_samples, row_size) array. `index.json` lists the shards of a
directory in order. Numbers are little-endian. (Format: mosaicml-streaming 0.13, `streaming/base/format/mds/writer.py`.)
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixer.storage.index import EXAMPLE_COUNTS, EXAMPLES, shard_name
from shards.durable import write_file, writing
from shards.errors import CallError, CorpusError

__all__ = [
    "BEST_FIT",
    "COLUMN",
    "PACKED",
    "ROWS",
    "ZSTD",
    "RowFormat",
    "Shard",
    "ShardWriter",
    "encode_index",
    "read_rows",
    "read_shard",
    "shard_file",
    "shard_name",
    "write_shard",
    "zip_path",
]

COLUMN = "tokens"
PACKED = "packed"
ZSTD, LEVEL = "zstd", 3
BEST_FIT = "best-fit"
ROWS = (PACKED, BEST_FIT, EXAMPLES)
_OFFSET_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class RowFormat:
    """The rows of a directory of shards.

    Attributes:
        seq_len: tokens in a row.
        dtype: `uint16` or `uint32`.
        shard_bytes: largest size of a shard, in bytes.
        rows: `packed`, `best-fit` (`shards.packing`), or `examples` (`shards.examples`).
        compression: None, or `zstd`. What is packed has the same bytes, hash and fingerprint once unpacked.
    """

    seq_len: int
    dtype: str
    shard_bytes: int = 1 << 26
    rows: str = PACKED
    compression: str | None = None

    def __post_init__(self) -> None:
        if self.compression not in (None, ZSTD):
            raise CallError(f"--compression must be {ZSTD} or left out, not {self.compression}")
        if self.rows not in ROWS:
            raise CallError(f"--rows must be one of {', '.join(ROWS)}, not {self.rows}")
        if self.has_examples and self.seq_len > np.iinfo(self.dtype).max:
            raise CallError(f"--seq-len must be at most {np.iinfo(self.dtype).max} for rows of {self.dtype}")
        if self.seq_len < 1:
            raise CallError(f"--seq-len must be at least 1, not {self.seq_len}")
        if not self.row_bytes + len(self.header) + 12 <= self.shard_bytes < 1 << 32:
            raise CallError(f"--shard-bytes {self.shard_bytes} must hold a row ({self.row_bytes} bytes), below 4 GiB")

    @property
    def has_examples(self) -> bool:
        """Whether a row is one example, with its counts."""
        return self.rows == EXAMPLES

    @property
    def is_placed(self) -> bool:
        """Whether documents are placed in rows, which are then whole from the start, and filled up."""
        return self.rows == BEST_FIT

    @property
    def row_size(self) -> int:
        """Integers of one row."""
        return self.seq_len + (len(EXAMPLE_COUNTS) if self.has_examples else 0)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.row_size * np.dtype(self.dtype).itemsize

    @property
    def rows_per_shard(self) -> int:
        """Rows of a full shard."""
        return (self.shard_bytes - 8 - len(self.header)) // (self.row_bytes + _OFFSET_BYTES)

    @property
    def head_bytes(self) -> int:
        """Bytes before the rows of a full shard."""
        return len(self.header) + _OFFSET_BYTES * (self.rows_per_shard + 2)

    @property
    def header(self) -> bytes:
        """The configuration inside each shard."""
        return json.dumps(self.config(), sort_keys=True).encode()

    def config(self) -> dict[str, Any]:
        """The configuration, as MDS writes it into shards and index."""
        counts = EXAMPLE_COUNTS if self.has_examples else ()
        width = np.dtype(self.dtype).itemsize
        return {
            "version": 2,
            "format": "mds",
            "compression": None,
            "hashes": ["sha256"],
            "size_limit": self.shard_bytes,
            "column_names": [*counts, COLUMN],
            "column_encodings": [*(self.dtype for _ in counts), f"ndarray:{self.dtype}:{self.seq_len}"],
            "column_sizes": [*(width for _ in counts), self.seq_len * width],
        }


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One written shard: its rows, its size in bytes, the hash of its bytes; and those of its packed form, if any."""

    samples: int
    bytes: int
    sha256: str
    zip_bytes: int | None = None
    zip_sha256: str | None = None


class ShardWriter:
    """Writes one shard as its rows come, with no copy of them: every byte passes once, to the file and into the hash.

    The file has no name of its own before `finish`, which makes it durable; a shard that is not filled can be left as
    what it is, a file with integers from `row_format.head_bytes` on.
    """

    def __init__(self, path: Path, num_samples: int, row_format: RowFormat) -> None:
        self._path, self._samples, self._form = path, num_samples, row_format
        self._unfinished = path.with_name(f"{path.name}.tmp")
        self.room = num_samples * row_format.row_size
        with writing(path):
            self._file = self._unfinished.open("wb", buffering=0)
        head = _head(num_samples, row_format)
        self._bytes = 0
        self._digest = hashlib.sha256()
        self._append(memoryview(head))

    def write(self, values: NDArray[Any]) -> None:
        """The next integers, at most `room`."""
        self.room -= len(values)
        self._append(np.ascontiguousarray(values, np.dtype(self._form.dtype).newbyteorder("<")).data.cast("B"))

    def _append(self, data: memoryview) -> None:
        self._digest.update(data)
        self._bytes += len(data)
        with writing(self._path):
            while data:
                data = data[self._file.write(data) :]

    def finish(self) -> Shard:
        """End a shard that is filled."""
        assert self.room == 0
        self._end(self._path)
        shard = Shard(samples=self._samples, bytes=self._bytes, sha256=self._digest.hexdigest())
        return _pack(self._path, shard) if self._form.compression else shard

    def leave(self, path: Path) -> None:
        """End here, and leave the file at `path`."""
        self._end(path)

    def _end(self, path: Path) -> None:
        with writing(path):
            os.fsync(self._file.fileno())
            self._file.close()
            self._unfinished.rename(path)


def _head(num_samples: int, row_format: RowFormat) -> bytes:
    """What stands before the rows."""
    config = row_format.header
    first = _OFFSET_BYTES * (num_samples + 2) + len(config)
    offsets = first + np.arange(num_samples + 1, dtype=np.int64) * row_format.row_bytes
    return np.uint32(num_samples).tobytes() + offsets.astype("<u4").tobytes() + config


def _pack(path: Path, shard: Shard) -> Shard:
    """Put the packed form of a shard in its place."""
    import zstandard

    with writing(path):
        packed = zstandard.ZstdCompressor(level=LEVEL).compress(path.read_bytes())
        write_file(zip_path(path), packed)
        path.unlink()
    return replace(shard, zip_bytes=len(packed), zip_sha256=hashlib.sha256(packed).hexdigest())


def zip_path(path: Path) -> Path:
    """The packed form of the shard `path`."""
    return path.with_name(f"{path.name}.{ZSTD}")


def shard_file(path: Path, row_format: RowFormat) -> Path:
    """The file that there is of the shard `path`."""
    return zip_path(path) if row_format.compression else path


def write_shard(path: Path, rows: NDArray[Any], row_format: RowFormat) -> Shard:
    """Write `rows` `[num_samples, row_size]` as one shard, durably."""
    writer = ShardWriter(path, len(rows), row_format)
    writer.write(rows.reshape(-1))
    return writer.finish()


def read_rows(path: Path, row_format: RowFormat) -> NDArray[Any]:
    """The rows of a shard `[num_samples, row_size]`, mapped, not read, unless they are packed.

    Raises:
        CorpusError: the file is missing or is no shard of `row_format`.
    """
    data = read_shard(path, row_format)
    num_samples = int(np.frombuffer(data, "<u4", 1)[0]) if len(data) >= _OFFSET_BYTES else -1
    config = row_format.header
    start = _OFFSET_BYTES * (num_samples + 2)
    end = start + len(config) + num_samples * row_format.row_bytes
    if num_samples < 0 or end != len(data) or data[start : start + len(config)] != config:
        raise CorpusError(f"{path}: no whole shard of {row_format.config()['column_encodings'][-1]}", path=str(path))
    offsets = np.frombuffer(data, "<u4", num_samples + 1, _OFFSET_BYTES)
    if not np.array_equal(offsets, start + len(config) + np.arange(num_samples + 1) * row_format.row_bytes):
        raise CorpusError(f"{path}: wrong row offsets", path=str(path))
    return np.frombuffer(data, np.dtype(row_format.dtype).newbyteorder("<"), offset=start + len(config)).reshape(
        num_samples, row_format.row_size
    )


def read_shard(path: Path, row_format: RowFormat) -> bytes | mmap.mmap:
    """All bytes of a shard as they are unpacked. Raises CorpusError: the file is missing or damaged."""
    return _unpack(zip_path(path)) if row_format.compression else _map(path)


def _map(path: Path) -> bytes | mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: cannot be read ({error})", path=str(path)) from None


def _unpack(path: Path) -> bytes:
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompress(path.read_bytes(), allow_extra_data=False)
    except (OSError, zstandard.ZstdError) as error:
        raise CorpusError(f"{path}: cannot be read ({error})", path=str(path)) from None


def encode_index(shards: Sequence[Shard], row_format: RowFormat) -> bytes:
    """`index.json` of a directory that holds `shards` in this order."""
    entries = [
        {
            "samples": shard.samples,
            "raw_data": {
                "basename": shard_name(number),
                "bytes": shard.bytes,
                "hashes": {"sha256": shard.sha256},
            },
            "zip_data": _zip_data(number, shard),
            **row_format.config(),
            "compression": row_format.compression,
        }
        for number, shard in enumerate(shards)
    ]
    return json.dumps({"version": 2, "shards": entries}, sort_keys=True).encode()


def _zip_data(number: int, shard: Shard) -> dict[str, Any] | None:
    if shard.zip_sha256 is None:
        return None
    name = zip_path(Path(shard_name(number))).name
    return {"basename": name, "bytes": shard.zip_bytes, "hashes": {"sha256": shard.zip_sha256}}
