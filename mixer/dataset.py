"""Planned samples as a torch dataset: a map from addresses to rows, and a sampler that asks for the planned ones.

    dataset = PlannedDataset(RowReader(corpora), reading)
    loader = DataLoader(dataset, batch_size=None, sampler=PlannedSampler(dataset, rank=rank, num_ranks=num_ranks),
                        collate_fn=collate, num_workers=2, worker_init_fn=end_with_parent)

The sampler runs in each rank's main process and turns each step into the addresses of this rank's slots, one request a
step (so `batch_size=None`: what it yields is a batch already); workers know nothing of schedules, only rows.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, DistributedSampler, get_worker_info

from mixer.compiled import load_in_background
from mixer.handover import Buffers, Request, Sent, Written
from mixer.reader import RowReader
from mixer.reading import Reading
from mixer.records import RecordReader
from mixer.storage.ahead import FetchAhead
from mixer.storage.cache import Counts

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class Rows(NamedTuple):
    """What was read: `tokens` [n, row_size] in the shards' own dtype, and the `addresses` [n] it stood at.

    `counts` is what its process has done for it.
    """

    tokens: torch.Tensor
    addresses: NDArray[np.int64]
    counts: Counts


class _Planned(Dataset[Any]):
    """What can be asked of the run, whatever the rows are.

    Composer saves `state_dict` with every checkpoint and hands it to `load_state_dict`: nothing is replayed on resume.
    `ahead` makes shards ready before the steps that need them. `num_buffers` is for a loader with workers: how many
    batches may be on their way, or in use, without being copied (`mixer.handover`). The override: `Reading.restore`.
    """

    def __init__(
        self,
        rows: RowReader | RecordReader,
        reading: Reading,
        ahead: FetchAhead | None = None,
        *,
        num_buffers: int = 0,
        allow_different_data_and_lose_reproducibility: bool = False,
    ) -> None:
        self.rows = rows
        self.reading: Reading | None = reading
        self.ahead = ahead
        self.num_buffers = num_buffers
        self.buffers: Buffers | None = None
        self._override = allow_different_data_and_lose_reproducibility

    def __getitems__(self, addresses: Sequence[int]) -> Any:
        """What a DataLoader with a `batch_size` asks for: addresses one by one, in a list."""
        return self[addresses]

    def __len__(self) -> int:
        """Samples of the whole run (not of the corpora: they may be read many times, or never)."""
        return self._reading.plan.schedule.num_samples

    def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
        """The state after `num_samples` of the run, over all ranks; Composer counts from its beginning."""
        start = 0 if from_beginning else self._reading.next_step
        return self._reading.state(self._reading.step_after(num_samples, start))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`; see `Reading.restore` for what is refused."""
        self._reading.restore(state, allow_different_data_and_lose_reproducibility=self._override)

    def __getstate__(self) -> dict[str, Any]:
        # workers read rows; only the main process decides which, and fetches ahead
        return {**self.__dict__, "reading": None, "ahead": None}

    @property
    def _reading(self) -> Reading:
        assert self.reading is not None, "only the main process knows the plan"
        return self.reading


class PlannedDataset(_Planned):
    """Rows by address: one, or a whole batch at once, as `Rows`. Where each row came from travels with it."""

    rows: RowReader

    def __getitem__(self, wanted: int | Sequence[int] | NDArray[np.int64] | Request) -> Rows:
        addresses, buffer = _as_request(wanted)
        return Rows(self._tokens(addresses, buffer), addresses, self.rows.cache.counters.take())

    def _tokens(self, addresses: NDArray[np.int64], buffer: int | None) -> Any:
        """The rows as a tensor, or as what becomes one when a worker sends it."""
        if get_worker_info() is None:
            if buffer is not None and self.buffers is not None:
                self.buffers.give_back(buffer)
            return torch.from_numpy(self.rows.read(addresses))
        if buffer is not None and self.buffers is not None:
            shape = len(addresses), self.rows.size_of(addresses)
            out = self.buffers.rows(buffer, shape, self.rows.dtype)
            if out is not None:
                self.rows.read(addresses, out=out)
                return Written(self.buffers, buffer, shape, self.rows.dtype)
        return Sent(self.rows.read(addresses))


class PlannedRecords(_Planned):
    """Records of any form by address (`mixer.records`): slower, for raw documents and rows of different lengths.

    A batch is {"records": list [n] of dicts by column, "addresses": array [n] int64, "counts": `Counts`}. Weights are
    shares of records then, not of tokens; `mixer.records.pad` makes arrays of lists of tokens.
    """

    rows: RecordReader

    def __getitem__(self, wanted: int | Sequence[int] | NDArray[np.int64] | Request) -> dict[str, Any]:
        addresses, _ = _as_request(wanted)
        return {"records": self.rows.read(addresses), "addresses": addresses, "counts": self.rows.cache.counters.take()}


def _as_request(wanted: int | Sequence[int] | NDArray[np.int64] | Request) -> Request:
    if isinstance(wanted, Request):
        return wanted
    return Request(np.atleast_1d(np.asarray(wanted, np.int64)), None)


class PlannedSampler(DistributedSampler[Any]):
    """Requests for the slots of `rank`, one a step, from the reading's next step to the end of the run."""

    def __init__(self, dataset: PlannedDataset | PlannedRecords, *, rank: int = 0, num_ranks: int = 1) -> None:
        super().__init__(dataset, num_replicas=num_ranks, rank=rank, shuffle=False)
        self._planned = dataset
        dataset._reading.check_divides(num_ranks)

    def __iter__(self) -> Iterator[Request]:
        """What a loader asks for before it forks its workers: so they see the buffers that are made here."""
        data = self._planned
        if data.num_buffers and data.buffers is None and isinstance(data.rows, RowReader):
            schedule, rows = data._reading.plan.schedule, data.rows
            num_tokens = schedule.largest_batch_tokens(data._reading.next_step) // self.num_replicas
            num_integers = -(-num_tokens * rows.row_size // rows.seq_len)
            data.buffers = Buffers(data.num_buffers, num_integers * rows.dtype.itemsize)
        return self._requests(data.buffers)

    def _requests(self, buffers: Buffers | None) -> Iterator[Request]:
        reading, ahead = self._planned._reading, self._planned.ahead
        schedule = reading.plan.schedule
        load_in_background(schedule.num_samples - schedule.first_draw(reading.next_step))
        for step in range(reading.next_step, schedule.num_steps):
            addresses = reading.addresses(step, self.rank, self.num_replicas)
            if ahead is not None:
                ahead.advance(step)
            yield Request(addresses, buffers.lend() if buffers else None)

    def __len__(self) -> int:
        """Steps of the whole run."""
        return self._planned._reading.plan.schedule.num_steps


def collate(rows: Rows | dict[str, Any]) -> dict[str, Any]:
    """A batch as a mapping: of `Rows`, {"tokens": tensor [n, seq_len] in the shards' dtype, "addresses", "counts"}.

    Only the tokens are a tensor: torch hands each over by a segment and a descriptor, which costs more than it holds.
    """
    return rows._asdict() if isinstance(rows, Rows) else rows


def end_with_parent(worker: int) -> None:
    """Give this to a DataLoader as `worker_init_fn`: its workers are killed at once when their process is.

    Else they look for it every few seconds only. On systems other than Linux they go on doing so.
    """
    parent = multiprocessing.parent_process()
    if sys.platform == "linux" and parent is not None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:  # it has gone already, perhaps before this process ran at all
            os.kill(os.getpid(), signal.SIGKILL)
