"""Independent draws, for reference: no system, but what a weighted random sampler does, and what chance alone gives."""

from itertools import count
from pathlib import Path

import numpy as np

from systems import BATCH, Batches, Run, rank_slots


class System:
    VERSION = f"NumPy {np.__version__}"
    TASKS = ("exactness", "ranks", "epochs")

    def __init__(self, run: Run, folder: Path | None = None) -> None:
        self.run = run

    @staticmethod
    def prepare(run: Run, folder: Path) -> None:
        """Nothing."""

    def batches(self, step: int = 0) -> Batches:
        starts, sizes = self.run.starts, np.array(self.run.sizes)
        for at in count(step):
            random = np.random.default_rng([17, at])
            corpus = random.choice(len(sizes), BATCH, p=self.run.weights)
            yield corpus, starts[corpus] + random.integers(sizes[corpus])

    def by_rank(self, num_ranks: int, order: np.ndarray) -> np.ndarray:
        return rank_slots(order, num_ranks, BATCH // num_ranks)
