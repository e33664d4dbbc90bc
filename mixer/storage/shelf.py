"""The shards of several corpora, numbered through in the order in which the corpora are given, and so their samples.

The number of a shard is what readers, caches and forecasts of use exchange: one integer says corpus and shard. The
number of a sample over all corpora is its address.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixer.storage.index import StoredCorpus

_I64 = NDArray[np.int64]


class Shelf:
    """`corpora`, and their shards from 0 to `num_shards`; `firsts` [num_corpora + 1] is the first of each corpus.

    `starts` [num_shards + 1] and `bases` [num_corpora] are the addresses of the first sample of each.
    """

    def __init__(self, corpora: Sequence[StoredCorpus]) -> None:
        self.corpora = tuple(corpora)
        self.firsts = [0, *accumulate(len(corpus.shard_names) for corpus in corpora)]

        sizes = [corpus.shard_sizes for corpus in corpora]
        self.starts: _I64 = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
        self.bases: _I64 = self.starts[self.firsts[:-1]]

    @property
    def num_shards(self) -> int:
        return self.firsts[-1]

    def find(self, shard: int) -> tuple[int, StoredCorpus, int]:
        """(place of the corpus in the order given, the corpus, number of the shard in it)."""
        place = bisect_right(self.firsts, shard) - 1
        return place, self.corpora[place], shard - self.firsts[place]

    def locate(self, addresses: _I64) -> _I64:
        """The shards that hold `addresses` [n]; IndexError for one outside."""
        if len(addresses) and addresses.view(np.uint64).max() >= self.starts[-1]:  # a negative one is then the largest
            found = f"{addresses.min()} to {addresses.max()}"
            raise IndexError(f"addresses go from 0 to {self.starts[-1] - 1}, found {found}")
        shards: _I64 = np.searchsorted(self.starts, addresses, side="right") - 1
        return shards

    def corpus_of(self, addresses: Sequence[int] | _I64) -> _I64:
        """Which corpus, by its place in the order given, each address [n] lies in."""
        corpus: _I64 = np.searchsorted(self.bases, np.asarray(addresses, np.int64), side="right") - 1
        return corpus

    def path(self, shard: int) -> Path:
        _, corpus, number = self.find(shard)
        return corpus.shard_path(number)

    def num_bytes(self, shard: int) -> int:
        """Bytes of the shard as it is read, and of its compressed form while that is being unpacked."""
        _, corpus, number = self.find(shard)
        zipped = corpus.zipped[number] if corpus.zipped else None
        return int(corpus.shard_bytes[number]) + (zipped.num_bytes if zipped else 0)
