"""Rests: what no part could fill a shard with, joined over all parts and cut into shards, each by itself.

The rests of a split are one stream of integers, in the order of the parts. Shard number k behind those of the parts has
the k-th stretch of it that fills one. So each is a job of its own, and they are written side by side.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.durable import write_file, writing
from shards.mds import RowFormat, Shard, ShardWriter, shard_file

__all__ = ["Rest", "RestShard", "RestWork", "plan_rests", "read_rest_shard", "read_stretch"]

_READ_INTEGERS = 1 << 19


@dataclass(frozen=True)
class Rest:
    """The rest of one part: so many integers behind the head of a shard; the first is number `start` of the stream."""

    path: Path
    size: int
    start: int


@dataclass(frozen=True)
class RestShard:
    """One job: the integers [start, end) of the stream, which lie in `rests`, as the shard `path`.

    What it holds is told in `result`, written last.
    """

    rests: tuple[Rest, ...]
    start: int
    end: int
    path: Path
    result: Path

    def __str__(self) -> str:
        return str(self.path.name)


@dataclass(frozen=True)
class RestWork:
    """Writes shards of rests (`shards.engines.Work`)."""

    row_format: RowFormat

    def start(self) -> Callable[[RestShard, Callable[[int, int], None]], None]:
        """Returns what writes one."""

        def write(job: RestShard, on_progress: Callable[[int, int], None]) -> None:
            # A folder of this process alone: a worker of a killed run may still be at the same job.
            folder = job.result.with_suffix(f".{os.getpid()}.tmp")
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            num_samples = (job.end - job.start) // self.row_format.row_size
            writer = ShardWriter(folder / job.path.name, num_samples, self.row_format)
            for values in read_stretch(job.rests, job.start, job.end, self.row_format):
                writer.write(values)
            shard = writer.finish()
            write_file(folder / job.result.name, json.dumps(asdict(shard)).encode())
            with writing(job.path):
                made = shard_file(folder / job.path.name, self.row_format)
                made.replace(shard_file(job.path, self.row_format))
                (folder / job.result.name).replace(job.result)
                folder.rmdir()

        return write


def plan_rests(paths: Sequence[Path], sizes: Sequence[int], row_format: RowFormat) -> tuple[list[Rest], list[range]]:
    """The rests with their places in the stream, and the stretches that become shards, the last one maybe shorter."""
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).tolist()
    rests = [Rest(*about) for about in zip(paths, sizes, starts[:-1], strict=True)]
    whole = starts[-1] - starts[-1] % row_format.row_size
    step = row_format.rows_per_shard * row_format.row_size
    return rests, [range(start, min(start + step, whole)) for start in range(0, whole, step)]


def within(rests: Sequence[Rest], start: int, end: int) -> tuple[Rest, ...]:
    """Those of `rests` that hold integers [start, end) of the stream."""
    return tuple(rest for rest in rests if max(start, rest.start) < min(end, rest.start + rest.size))


def read_stretch(rests: Sequence[Rest], start: int, end: int, row_format: RowFormat) -> Iterator[NDArray[Any]]:
    """The integers [start, end) of the stream, some at a time."""
    dtype = np.dtype(row_format.dtype).newbyteorder("<")
    for rest in within(rests, start, end):
        first, last = max(start - rest.start, 0), min(end - rest.start, rest.size)
        with rest.path.open("rb") as file:
            file.seek(row_format.head_bytes + first * dtype.itemsize)
            for begin in range(first, last, _READ_INTEGERS):
                yield np.frombuffer(file.read(min(_READ_INTEGERS, last - begin) * dtype.itemsize), dtype)


def read_rest_shard(job: RestShard) -> Shard | None:
    """What a job has written; None if it is not done."""
    try:
        return Shard(**json.loads(job.result.read_bytes()))
    except FileNotFoundError:
        return None
