"""One module a system, run in that system's own environment, each with the same few names.

    VERSION                      what runs
    prepare(source)              writes the source's rows as this system keeps them; never measured (streaming reads
                                 the files of ours, and the limit the rows themselves)
    open_loader(source, loading, state=None)
                                 its own data loader, as its users would build it: an endless iterator of torch tensors
                                 [batch, 2048]; with a state, from there on
    checkpoint(source, loading, step)
                                 the state that a run of this system has saved before that step
    multiply(source, n)          after `prepare` of one shard of one corpus: a corpus of n shards, all links to its file
    forget(source)               optional: what it remembers of the files it has read before
    connect()                    optional: imports that only remote corpora need
    settle()                     optional: what it does once, after some millions of samples, to go on faster

Nothing here may import another system.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEQ_LEN = 2048
DTYPE = np.dtype("<u2")
SEED = 17
VOCABULARY = 50_277


@dataclass(frozen=True, kw_only=True)
class Source:
    """Corpora c0, c1, … below `folder`: the same rows in `tokens.u2`, in `mds/`, and in `litdata/`.

    `remote` is the URL of a copy of `folder` on an S3 server at `endpoint`; rows are then cached in `cache`.
    """

    folder: str
    weights: tuple[float, ...]
    shards: tuple[int, ...]  # number of shards of each corpus
    shard_rows: int
    remote: str | None = None
    endpoint: str | None = None
    cache: str | None = None

    @classmethod
    def from_dict(cls, obj: dict[str, Any]) -> "Source":
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in obj.items()})

    @property
    def names(self) -> list[str]:
        return [f"c{i}" for i in range(len(self.shards))]

    @property
    def num_rows(self) -> int:
        return sum(self.shards) * self.shard_rows

    def rows(self) -> np.ndarray:
        """[num_rows, SEQ_LEN] of all corpora, mapped."""
        return np.memmap(Path(self.folder) / "tokens.u2", DTYPE, "r", shape=(self.num_rows, SEQ_LEN))

    def rows_of(self, corpus: int) -> np.ndarray:
        first = sum(self.shards[:corpus]) * self.shard_rows
        return self.rows()[first : first + self.shards[corpus] * self.shard_rows]

    def place(self, system: str, name: str) -> Path:
        return Path(self.folder) / system / name

    def url(self, system: str, name: str) -> str:
        return f"{self.remote}/{system}/{name}"

    def cached(self, name: str) -> Path:
        assert self.cache is not None
        return Path(self.cache) / name


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How batches are asked for: samples of a batch, worker processes (0: none)."""

    batch: int
    num_workers: int


def link(target: Path, name: Path) -> None:
    """A second name of a file."""
    try:
        os.link(target, name)
    except OSError:  # a file system without, or with too few names of one file
        name.symlink_to(target)
