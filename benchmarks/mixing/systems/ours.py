"""Switchpoint's own plan. With numba it settles: after some million samples it picks with compiled code."""

from importlib.metadata import version
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path

import numpy as np

from mixer import ORDER_VERSION, Plan, Schedule, compiled
from systems import BATCH, Batches, Run, rank_slots


class System:
    VERSION = f"order {ORDER_VERSION}, " + (f"numba {version('numba')}" if find_spec("numba") else "NumPy only")
    SWITCHES = True
    SETTLES_AFTER = compiled.WORTH_LOADING

    def __init__(self, run: Run, folder: Path | None = None, phases: list | None = None) -> None:
        self.run = run
        phases = phases or [{"start": 0, "mixture": _mixture(run.weights)}]
        schedule = Schedule.from_dict(
            {"phases": phases}, num_steps=run.num_steps, global_batch_size=BATCH, seq_len=2048
        )
        corpora = {f"c{i}": run.shards(i) for i in range(len(run.sizes))}
        self.plan = Plan(schedule, corpora, data_seed=17)

    @staticmethod
    def prepare(run: Run, folder: Path) -> None:
        """Nothing: the sizes of shards are all a plan needs."""

    def batches(self, step: int = 0) -> Batches:
        starts = self.run.starts
        for at in count(step):
            batch = self.plan.batch(at)
            yield batch.corpus, starts[batch.corpus] + (batch.sample_id if self.run.shuffle else batch.ordinal)

    @staticmethod
    def settle() -> None:
        compiled.use(compiled.load())

    def by_rank(self, num_ranks: int, order: np.ndarray) -> np.ndarray:
        return rank_slots(order, num_ranks, BATCH // num_ranks)

    @classmethod
    def switched(
        cls, run: Run, folder: Path, step: int, weights: tuple[float, ...], *, start: int = 0
    ) -> tuple[Batches, int, str]:
        phases = [{"start": 0, "mixture": _mixture(run.weights)}, {"start": step, "mixture": _mixture(weights)}]
        batches = islice(cls(run, phases=phases).batches(start), run.num_steps - start)
        return batches, step * BATCH, "a phase, or a live revision"


def _mixture(weights: tuple[float, ...]) -> dict[str, float]:
    return {f"c{i}": w for i, w in enumerate(weights) if w}
