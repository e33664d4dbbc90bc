"""One module a system, each with a class `System` of the same shape, run in that system's own environment.

    VERSION                     what runs, with its settings where they are not the defaults
    prepare(run, folder)        writes what a conversion would have left on disk; never measured
    System(run, folder)         all that is needed before the first batch
    .batches(step)              yields (corpus, sample) from that step on, arrays [BATCH]; samples are numbered through
                                all corpora, so a number is one sample for ever
    .by_rank(num_ranks, order)  corpus [num_steps, num_ranks, BATCH // num_ranks] as the system has it on so many ranks;
                                `order` [num_steps, BATCH] is what one rank alone reads

and optionally

    switched(run, folder, step, weights)
                                a run whose weights change at that step, in the best way the system has: its batches,
                                the slot at which they really change, and how
    SWITCHES                    True where that is one run that knows both mixtures (then also start=step)
    settle(), SETTLES_AFTER     what it does once, after how many samples, to go on faster
    kept(run, folder)           builds what a first job leaves on disk (caches), returns what opens the second job
    TASKS                       the only tasks that mean something for it

Nothing here may import another system. `Run` is what all of them are given.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

BATCH = 1024
SHARD = 16_384  # samples of 2,048 tokens of two bytes in a shard of 64 MB, the default of MDS and of LitData
MAX_SHARDS = 65_536  # above which shards are larger

Batches = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A mixture, for how many steps, over how many samples of each corpus."""

    weights: tuple[float, ...]
    sizes: tuple[int, ...]
    num_steps: int
    shard: int = SHARD
    shuffle: bool = True  # False where only the choice of corpora counts and shuffling would take minutes

    @property
    def num_samples(self) -> int:
        return self.num_steps * BATCH

    @property
    def starts(self) -> np.ndarray:
        """The number of each corpus's first sample, and the total."""
        return np.cumsum([0, *self.sizes])

    def corpus_of(self, samples: Sequence[int] | np.ndarray) -> np.ndarray:
        return np.searchsorted(self.starts, np.asarray(samples), side="right") - 1

    def shards(self, corpus: int) -> list[int]:
        """Samples of each shard of a corpus."""
        shard = max(self.shard, -(-sum(self.sizes) // MAX_SHARDS))
        full, rest = divmod(self.sizes[corpus], shard)
        return [shard] * full + [rest] * (rest > 0)

    def with_weights(self, weights: Sequence[float]) -> "Run":
        return replace(self, weights=tuple(weights))


def rank_slots(order: np.ndarray, num_ranks: int, micro_batch: int) -> np.ndarray:
    """[steps, slots] → [steps, ranks, slots of a rank]: ranks take turns with `micro_batch` neighbouring slots each.

    A micro batch as large as a rank's share is a contiguous range; 1 is a stride of `num_ranks`.
    """
    steps = order.shape[0]
    return order.reshape(steps, -1, num_ranks, micro_batch).swapaxes(1, 2).reshape(steps, num_ranks, -1)


def corpora_of(system, run: Run) -> np.ndarray:
    """[num_steps, BATCH] the corpora one rank reads."""
    return np.stack([corpus for corpus, _ in islice(system.batches(0), run.num_steps)])
