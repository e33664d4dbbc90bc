"""Planned samples as a torch dataset: a map from addresses to rows, and a sampler that asks for the planned ones.

    dataset = PlannedDataset(RowReader(corpora), reading)
    loader = DataLoader(dataset, batch_size=global_batch_size // num_ranks, sampler=PlannedSampler(dataset, ...),
                        collate_fn=collate, num_workers=2)

The sampler runs in each rank's main process and turns steps into addresses; workers know nothing of schedules, only
rows.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, DistributedSampler

from mixer.reader import RowReader
from mixer.reading import Reading, rank_batch_size


class Rows(NamedTuple):
    """What was read: `tokens` [n, seq_len] in the shards' own dtype, and the `addresses` [n] it stood at."""

    tokens: NDArray[Any]
    addresses: NDArray[np.int64]


class PlannedDataset(Dataset[Rows]):
    """Rows by address; `__getitems__` reads a whole batch at once. Where each row came from travels with it.

    Composer saves `state_dict` with every checkpoint and hands it to `load_state_dict`: nothing is replayed on resume.
    """

    def __init__(self, rows: RowReader, reading: Reading) -> None:
        self.rows = rows
        self.reading: Reading | None = reading

    def __getitem__(self, address: int) -> Rows:
        return self.__getitems__([address])

    def __getitems__(self, addresses: Sequence[int]) -> Rows:
        return Rows(self.rows.read(addresses), np.asarray(addresses, np.int64))

    def __len__(self) -> int:
        """Samples of the whole run (not of the corpora: they may be read many times, or never)."""
        return self._reading.plan.schedule.num_samples

    def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
        """The state after `num_samples` of the run, over all ranks; Composer counts from its beginning."""
        start = 0 if from_beginning else self._reading.next_step
        return self._reading.state(self._reading.step_after(num_samples, start))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`; see `Reading.restore` for what is refused."""
        self._reading.restore(state)

    def __getstate__(self) -> dict[str, Any]:
        return {"rows": self.rows, "reading": None}  # workers read rows; only the main process decides which

    @property
    def _reading(self) -> Reading:
        assert self.reading is not None, "only the main process knows the plan"
        return self.reading


class PlannedSampler(DistributedSampler[Any]):
    """Addresses of the slots of `rank`, step after step, from the reading's next step to the end of the run."""

    def __init__(self, dataset: PlannedDataset, *, rank: int = 0, num_ranks: int = 1) -> None:
        super().__init__(dataset, num_replicas=num_ranks, rank=rank, shuffle=False)
        self._planned = dataset
        self._size = rank_batch_size(dataset._reading.plan.schedule.global_batch_size, num_ranks)

    def __iter__(self) -> Iterator[int]:
        reading = self._planned._reading
        for step in range(reading.next_step, reading.plan.schedule.num_steps):
            yield from reading.addresses(step, self.rank, self.num_replicas).tolist()

    def __len__(self) -> int:
        """Samples of this rank in the whole run."""
        return self._planned._reading.plan.schedule.num_steps * self._size


def collate(rows: Rows) -> dict[str, torch.Tensor]:
    """A batch as tensors, {"tokens": [n, seq_len] in the shards' dtype, "addresses": [n]}, without copying."""
    return {"tokens": torch.from_numpy(rows.tokens), "addresses": torch.from_numpy(rows.addresses)}
