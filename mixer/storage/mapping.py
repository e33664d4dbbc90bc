"""The rows of one shard, mapped from its file.

A shard whose only column is a fixed-size array (`tokens: ndarray:uint16:2048`) is: uint32 number of samples, uint32
offsets [num_samples + 1], the column description as JSON, then the rows one after the other. So its rows are one
[num_samples, seq_len] array at a known address, and reading is copying from there.
"""

import mmap
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixer.errors import ShardError
from mixer.storage.integrity import Identity

AGAIN = "fetch or convert it again"


class Mapping(NamedTuple):
    """A mapped shard: `data` keeps it mapped, `first_row` is the address of its first row in this process."""

    data: NDArray[np.uint8]
    first_row: int
    identity: Identity


def map_shard(path: Path, *, num_samples: int, row_bytes: int, num_bytes: int, encoding: str | None = None) -> Mapping:
    """Map the shard at `path`. Raises ShardError unless it has the rows that its index says.

    And unless it says itself that they are of this MDS `encoding`, if that is given: others can be of the same size.
    """
    try:
        with path.open("rb", buffering=0) as file:
            identity = Identity.of(os.fstat(file.fileno()))
            data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except (OSError, ValueError) as error:
        raise ShardError(f"cannot read shard {path}: {error}; {AGAIN}", path=str(path)) from error
    if len(data) != num_bytes:
        raise ShardError(
            f"shard {path} has {len(data)} bytes, its index says {num_bytes}: truncated or replaced; {AGAIN}",
            path=str(path),
        )
    header = data[: 4 * (num_samples + 2)].view("<u4") if num_bytes >= 4 * (num_samples + 2) else np.zeros(2, "<u4")
    steps_right = np.array_equal(np.diff(header[1:].astype(np.int64)), np.full(num_samples, row_bytes))
    if header[0] != num_samples or not steps_right or header[-1] != num_bytes:
        raise ShardError(
            f"shard {path} does not hold {num_samples} rows of {row_bytes} bytes: corrupt; {AGAIN}", path=str(path)
        )
    if encoding and f'"{encoding}"'.encode() not in data[4 * (num_samples + 2) : header[1]].tobytes():
        raise ShardError(f"shard {path} does not hold rows of {encoding}, as its index says; {AGAIN}", path=str(path))
    return Mapping(data, data.ctypes.data + int(header[1]), identity)
