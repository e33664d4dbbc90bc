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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixer.storage.index import EXAMPLE_COUNTS, EXAMPLES, shard_name
from shards.durable import write_file
from shards.errors import CallError, CorpusError

__all__ = ["COLUMN", "PACKED", "ROWS", "RowFormat", "Shard", "encode_index", "read_rows", "shard_name", "write_shard"]

COLUMN = "tokens"
PACKED = "packed"
ROWS = (PACKED, EXAMPLES)
_OFFSET_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class RowFormat:
    """The rows of a directory of shards.

    Attributes:
        seq_len: tokens in a row.
        dtype: `uint16` or `uint32`.
        shard_bytes: largest size of a shard, in bytes.
        rows: `packed`, or `examples` (`shards.examples`).
    """

    seq_len: int
    dtype: str
    shard_bytes: int = 1 << 26
    rows: str = PACKED

    def __post_init__(self) -> None:
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
    """One written shard: its rows, its size in bytes, the hash of its bytes."""

    samples: int
    bytes: int
    sha256: str


def write_shard(path: Path, rows: NDArray[Any], row_format: RowFormat) -> Shard:
    """Write `rows` `[num_samples, row_size]` as one shard, durably."""
    num_samples = len(rows)
    config = row_format.header
    first = _OFFSET_BYTES * (num_samples + 2) + len(config)
    offsets = first + np.arange(num_samples + 1, dtype=np.int64) * row_format.row_bytes
    head = np.uint32(num_samples).tobytes() + offsets.astype("<u4").tobytes() + config
    body = np.ascontiguousarray(rows, np.dtype(row_format.dtype).newbyteorder("<")).data
    digest = hashlib.sha256(head)
    digest.update(body)
    write_file(path, head, body)
    return Shard(samples=num_samples, bytes=len(head) + body.nbytes, sha256=digest.hexdigest())


def read_rows(path: Path, row_format: RowFormat) -> NDArray[Any]:
    """The rows of a shard `[num_samples, row_size]`, mapped, not read.

    Raises:
        CorpusError: the file is missing or is no shard of `row_format`.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: cannot be read ({error})", path=str(path)) from None
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
            "zip_data": None,
            **row_format.config(),
        }
        for number, shard in enumerate(shards)
    ]
    return json.dumps({"version": 2, "shards": entries}, sort_keys=True).encode()
