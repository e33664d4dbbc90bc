"""Levanter's MixtureDataset, with the defaults of its LM configuration: blocks of 2,048 samples, block shuffle.

Its DataLoader gives device d of a step the d-th contiguous range of indices.
"""

import os
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from itertools import count, islice
from pathlib import Path

import numpy as np

from systems import BATCH, Batches, Run, rank_slots

os.environ.setdefault("JAX_PLATFORMS", "cpu")
warnings.filterwarnings("ignore", "Dataset .* has 0 samples in the block")  # the table says so

import jax  # noqa: E402
from levanter.data.dataset import AsyncDataset  # noqa: E402
from levanter.data.mixture import MixtureDataset  # noqa: E402
from levanter.data.text.datasets import DEFAULT_LM_DATA_SHUFFLE, LmDataConfig  # noqa: E402

BLOCK = LmDataConfig.mixture_block_size


class _Numbers(AsyncDataset):
    """A corpus whose rows are their own numbers."""

    def __init__(self, start: int, size: int) -> None:
        self.start, self.size = start, size

    async def async_len(self) -> int:
        return self.size

    def is_finite(self) -> bool:
        return True

    async def get_batch(self, indices: Sequence[int]) -> list[int]:
        return [self.start + int(i) for i in indices]


class System:
    VERSION = f"{version('marin-levanter')}, block {BLOCK}"
    SWITCHES = True

    def __init__(self, run: Run, folder: Path | None = None, stages: list | None = None) -> None:
        self.run = run
        *keys, mixture_key = jax.random.split(jax.random.PRNGKey(17), len(run.sizes) + 1)
        shuffle = DEFAULT_LM_DATA_SHUFFLE
        datasets = {}
        for i, (start, size, key) in enumerate(zip(run.starts, run.sizes, keys, strict=False)):
            datasets[f"c{i}"] = _Numbers(int(start), size)
            if run.shuffle:
                datasets[f"c{i}"] = datasets[f"c{i}"].block_shuffle(
                    io_block_size=shuffle.io_block_size, window_blocks=shuffle.window_blocks, key=key
                )
        stages = stages or [(0, run.weights)]
        weights = [(start, {f"c{i}": w for i, w in enumerate(stage)}) for start, stage in stages]
        self.data = MixtureDataset(datasets, weights, BLOCK, key=mixture_key).as_sync_dataset()

    @staticmethod
    def prepare(run: Run, folder: Path) -> None:
        """Nothing: rows are their numbers."""

    def batches(self, step: int = 0) -> Batches:
        for at in count(step):
            samples = np.array(self.data.get_batch(range(at * BATCH, (at + 1) * BATCH)))
            yield self.run.corpus_of(samples), samples

    def by_rank(self, num_ranks: int, order: np.ndarray) -> np.ndarray:
        return rank_slots(order, num_ranks, BATCH // num_ranks)

    @classmethod
    def switched(
        cls, run: Run, folder: Path, step: int, weights: tuple[float, ...], *, start: int = 0
    ) -> tuple[Batches, int, str]:
        slot = step * BATCH
        try:
            system = cls(run, stages=[(0, run.weights), (slot, weights)])
        except AssertionError:  # refused: not a multiple of the block
            slot = -(-slot // BLOCK) * BLOCK
            system = cls(run, stages=[(0, run.weights), (slot, weights)])
        batches = islice(system.batches(start), run.num_steps - start)
        return batches, slot, f"a stage, at multiples of {BLOCK:,} samples"
