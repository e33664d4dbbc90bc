"""google/grain's MapDataset.mix, as its tutorial does it: components shuffled and repeated, then mixed, then sliced.

Batches are read by index (`ds.batch(n)[step]`), its fastest way here; through `to_iter_dataset()` with the default 16
threads a sample costs many times more. A rank takes `ds[rank::num_ranks]`.
"""

from importlib.metadata import version
from itertools import count, islice, pairwise
from pathlib import Path

import grain
import numpy as np

from systems import BATCH, Batches, Run, rank_slots


class System:
    VERSION = version("grain")

    def __init__(self, run: Run, folder: Path | None = None) -> None:
        self.run = run
        self.mixed = _mixed(run)

    @staticmethod
    def prepare(run: Run, folder: Path) -> None:
        """Nothing: rows are their numbers."""

    def batches(self, step: int = 0) -> Batches:
        batched = self.mixed.batch(BATCH)
        for at in count(step):
            samples = np.asarray(batched[at])
            yield self.run.corpus_of(samples), samples

    def by_rank(self, num_ranks: int, order: np.ndarray) -> np.ndarray:
        found = rank_slots(order, num_ranks, 1)
        for rank in range(num_ranks):  # the slices that a rank really takes say the same
            mine = self.mixed[rank::num_ranks].batch(BATCH // num_ranks)
            last = self.run.num_steps - 1
            assert np.array_equal(self.run.corpus_of(mine[last]), found[last, rank])
        return found

    @classmethod
    def switched(cls, run: Run, folder: Path, step: int, weights: tuple[float, ...]) -> tuple[Batches, int, str]:
        slot, system = step * BATCH, cls(run)
        after = _mixed(run.with_weights(weights))
        system.mixed = grain.MapDataset.concatenate([system.mixed[:slot], after[slot : run.num_samples]])
        return islice(system.batches(), run.num_steps), slot, "no; two mixtures, sliced and concatenated"


def _mixed(run: Run) -> grain.MapDataset:
    starts = run.starts
    parts = [grain.MapDataset.range(int(a), int(b)) for a, b in pairwise(starts)]
    if run.shuffle:
        parts = [part.shuffle(seed=i) for i, part in enumerate(parts)]
    return grain.MapDataset.mix([part.repeat() for part in parts], weights=run.weights)
