"""What it cost to have the data: seconds waited, shards found ready or not, bytes fetched; of one step, and so far."""

from collections.abc import Iterable
from typing import NamedTuple


class Spent(NamedTuple):
    """`wait_s`: training waited for a batch. `hits` and `misses`: shards that were ready, and were not, when a batch
    needed them; `shard_wait_s`: readers, which run ahead of training, waited for these. `bytes_fetched` from remotes.
    """

    wait_s: float = 0.0
    hits: int = 0
    misses: int = 0
    shard_wait_s: float = 0.0
    bytes_fetched: int = 0

    def plus(self, later: "Spent") -> "Spent":
        """Both, one after the other."""
        return Spent(*(ours + theirs for ours, theirs in zip(self, later, strict=True)))

    @property
    def hit_rate(self) -> float:
        """The share of shards that were ready when they were needed; 1 where none was."""
        return self.hits / max(1, self.hits + self.misses) if self.misses else 1.0

    def metrics(self) -> dict[str, float]:
        """By the names under which loggers and the service have them."""
        return {
            "data/wait_s": self.wait_s,
            "data/shard_wait_s": self.shard_wait_s,
            "data/bytes_fetched": float(self.bytes_fetched),
            "data/cache_hit_rate": self.hit_rate,
        }


def of_all_ranks(spent: Iterable[Spent]) -> Spent:
    """What all ranks spent on one step: they wait side by side, so the longest wait counts."""
    parts = list(spent)
    total = Spent()
    for part in parts:
        total = total.plus(part)
    return total._replace(wait_s=max(part.wait_s for part in parts))
