"""Ranks that read planned rows in lock step, as training would, in processes that can be killed.

Each is forked from a server that has imported torch. A rank sends what it has read of each step and waits for leave to
go on; what the parent sends with it is what the service would have decided. Nothing else passes between the ranks.
"""

import contextlib
import hashlib
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from mixer import Ledger, Revision, Schedule
from mixer.reading import Reading

PRELOAD = ["torch", "mixer.dataset", "boto3", "streaming.base.storage.download", "tests.system.reading_ranks"]
BATCH, SEQ_LEN, WINDOW, SEED = 16, 32, 2, 11


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all ranks of a run are told. `corpora` is name → (cache folder, address); `limit` in bytes."""

    corpora: Mapping[str, tuple[Path, str]]
    limit: int
    schedule: Mapping[str, Any]
    num_steps: int
    environment: Mapping[str, str]
    num_workers: int
    state: Mapping[str, Any] | None

    def base(self) -> Ledger:
        sizes = {"num_steps": self.num_steps, "global_batch_size": BATCH, "seq_len": SEQ_LEN}
        return Ledger(base=Schedule.from_dict(self.schedule, **sizes))


def digest(rows: Any) -> list[str]:
    """Of each row, in order."""
    return [hashlib.blake2b(row.tobytes(), digest_size=8).hexdigest() for row in rows]


class Ranks:
    """One start of a run on `num_ranks` processes. `step` waits for what all of them read; None: one has ended."""

    def __init__(self, job: Job, num_ranks: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self._processes, self._pipes = [], []
        for rank in range(num_ranks):
            ours, theirs = context.Pipe()
            process = context.Process(target=_read, args=(theirs, job, rank, num_ranks))
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    def tell(self, revisions: Sequence[Revision], frontier: int) -> None:
        """Leave to go on, and what was decided."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):  # it has ended: the next `step` says so
                pipe.send(([revision.to_dict() for revision in revisions], frontier))

    def step(self) -> tuple[int, list[str], Mapping[str, Any]] | None:
        """(step, digests of its rows in slot order, state for a checkpoint after it)."""
        try:
            answers = [pipe.recv() for pipe in self._pipes]
        except (EOFError, OSError):
            return None
        steps, digests, states = zip(*answers, strict=True)
        assert len(set(steps)) == 1
        return steps[0], [one for part in digests for one in part], states[0]

    def family(self) -> list[psutil.Process]:
        """The ranks that live, and their loaders' workers."""
        found = []
        for process in self._processes:
            try:
                rank = psutil.Process(process.pid)
                found += [rank, *rank.children(recursive=True)]
            except psutil.NoSuchProcess:
                pass
        return found

    def end(self) -> int:
        """Kill what lives, and wait for it; the largest exit code of the ranks."""
        for process in self._processes:
            process.kill()
            process.join()
        for pipe in self._pipes:
            pipe.close()
        return max(process.exitcode for process in self._processes)

    def wait(self) -> list[int]:
        """The exit codes, when all have come to their end."""
        for process in self._processes:
            process.join(60)
        return [process.exitcode for process in self._processes]


def _read(pipe: Connection, job: Job, rank: int, num_ranks: int) -> None:
    """What a rank does."""
    from torch.utils.data import DataLoader

    from mixer.dataset import PlannedDataset, PlannedSampler, collate, end_with_parent
    from mixer.reader import RowReader
    from mixer.storage import open_corpus
    from mixer.storage.ahead import FetchAhead
    from mixer.storage.cache import Cache

    os.environ.update(job.environment)
    multiprocessing.set_start_method("fork", force=True)  # loader workers as in a run from the command line
    names = sorted(job.corpora)
    corpora = {name: open_corpus(*job.corpora[name]) for name in names}
    rows = RowReader([corpora[name] for name in names], Cache([corpora[name] for name in names], limit=job.limit))
    reading = Reading(
        job.base(),
        {name: corpus.shard_sizes for name, corpus in corpora.items()},
        fingerprints={name: corpus.fingerprint for name, corpus in corpora.items()},
        bases=dict(zip(names, rows.bases.tolist(), strict=True)),
        data_seed=SEED,
        shuffle_window=WINDOW,
        frontier=0,
    )
    in_flight = 2 * job.num_workers + 2
    ahead = FetchAhead(rows.cache, reading, names, num_steps=4, num_in_flight=in_flight, num_threads=2)
    data = PlannedDataset(rows, reading, ahead)
    if job.state is not None:
        data.load_state_dict(dict(job.state))

    def follow() -> None:
        revisions, frontier = pipe.recv()
        reading.follow([Revision.from_dict(revision) for revision in revisions], frontier)

    follow()
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=PlannedSampler(data, rank=rank, num_ranks=num_ranks),
        collate_fn=collate,
        num_workers=job.num_workers,
        worker_init_fn=end_with_parent,
    )
    first = reading.next_step
    for step, batch in enumerate(loader, start=first):
        state = data.state_dict((step + 1 - first) * BATCH, from_beginning=False)
        pipe.send((step, digest(batch["tokens"].numpy()), state))
        follow()
