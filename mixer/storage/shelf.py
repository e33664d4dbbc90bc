"""The shards of several corpora, numbered through in the order in which the corpora are given.

The number of a shard is what readers, caches and forecasts of use exchange: one integer says corpus and shard.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from mixer.storage.index import StoredCorpus


class Shelf:
    """`corpora`, and their shards from 0 to `num_shards`; `firsts` [num_corpora + 1] is the first of each corpus."""

    def __init__(self, corpora: Sequence[StoredCorpus]) -> None:
        self.corpora = tuple(corpora)
        self.firsts = [0, *accumulate(len(corpus.shard_names) for corpus in corpora)]

    @property
    def num_shards(self) -> int:
        return self.firsts[-1]

    def find(self, shard: int) -> tuple[int, StoredCorpus, int]:
        """(place of the corpus in the order given, the corpus, number of the shard in it)."""
        place = bisect_right(self.firsts, shard) - 1
        return place, self.corpora[place], shard - self.firsts[place]

    def path(self, shard: int) -> Path:
        _, corpus, number = self.find(shard)
        return corpus.shard_path(number)

    def num_bytes(self, shard: int) -> int:
        """Bytes of the shard as it is read, and of its compressed form while that is being unpacked."""
        _, corpus, number = self.find(shard)
        zipped = corpus.zipped[number] if corpus.zipped else None
        return int(corpus.shard_bytes[number]) + (zipped.num_bytes if zipped else 0)
