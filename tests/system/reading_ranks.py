"""Ranks that read planned rows in lock step, as training would, in processes that can be killed.

Each is forked from a server that has imported torch. A rank sends what it has read of each step and waits for leave to
go on; what the parent sends with it is what the service would have decided. Nothing else passes between the ranks.
A rank and its loader's workers are a process group: so whatever is left of them is found, also what nobody has seen.
"""

import contextlib
import hashlib
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

from mixer import Ledger, Revision, Schedule
from mixer.reading import Reading
from tests.trainer.launch import PRELOAD as TRAINERS_PRELOAD

# one server for all tests of a session: what it has not imported when it begins, each process would import for itself
PRELOAD = [*TRAINERS_PRELOAD, "mixer.dataset", "tests.system.reading_ranks", "tests.system.s3_client"]
BATCH, SEQ_LEN, WINDOW, SEED = 16, 32, 2, 11


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all ranks of a run are told. `corpora` is name → (cache folder, address); `limit` in bytes.

    `temporary` is their folder for temporary files: what is in there when they have ended was left behind.
    """

    corpora: Mapping[str, tuple[Path, str]]
    limit: int
    schedule: Mapping[str, Any]
    num_steps: int
    environment: Mapping[str, str]
    num_workers: int
    state: Mapping[str, Any] | None
    temporary: Path

    def base(self) -> Ledger:
        sizes = {"num_steps": self.num_steps, "global_batch_size": BATCH, "seq_len": SEQ_LEN}
        return Ledger(base=Schedule.from_dict(self.schedule, **sizes))


def digest(rows: Any) -> list[str]:
    """Of each row, in order."""
    return [hashlib.blake2b(row.tobytes(), digest_size=8).hexdigest() for row in rows]


@dataclass(frozen=True)
class Step:
    """What all ranks read of a step: digests of its rows in slot order, and the state for a checkpoint after it."""

    number: int
    digests: list[str]
    state: Mapping[str, Any]


class EndedError(Exception):
    """A rank has ended by itself; the message is what it failed with, where it could say so."""


class Ranks:
    """One start of a run on `num_ranks` processes."""

    def __init__(self, job: Job, num_ranks: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self._processes, self._pipes, self._answers = [], [], {}
        for rank in range(num_ranks):
            ours, theirs = context.Pipe()
            process = context.Process(target=_run, args=(theirs, job, rank, num_ranks))
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    def tell(self, revisions: Sequence[Revision], frontier: int) -> None:
        """Leave to go on, and what was decided."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):  # it has ended: the next `step` says so
                pipe.send(([revision.to_dict() for revision in revisions], frontier))

    def step(self, until: float) -> Step | None:
        """The next step, when all have read it; None: that is not so yet at the time `until`. Raises EndedError."""
        while missing := [pipe for pipe in self._pipes if pipe not in self._answers]:
            ready = wait(missing, max(until - time.monotonic(), 0))
            if not ready:
                return None
            try:
                self._answers |= {pipe: pipe.recv() for pipe in ready}
            except (EOFError, OSError) as error:
                raise EndedError("without a word") from error
            for answer in self._answers.values():
                if isinstance(answer, str):
                    raise EndedError(answer)
        steps, digests, states = zip(*(self._answers[pipe] for pipe in self._pipes), strict=True)
        self._answers = {}
        assert len(set(steps)) == 1
        return Step(steps[0], [one for part in digests for one in part], states[0])

    @property
    def pids(self) -> list[int]:
        """Of the ranks, also when they have ended: each is the number of a process group."""
        return [process.pid for process in self._processes]

    def workers(self) -> list[psutil.Process]:
        """The loaders' workers that live."""
        return [process for process in living(self.pids) if process.pid not in self.pids]

    def end(self) -> list[int]:
        """Kill the ranks that live, as a launcher would, and wait for them; the exit codes of all."""
        for process in self._processes:
            process.kill()
        for pipe in self._pipes:
            pipe.close()
        return self.wait()

    def wait(self) -> list[int]:
        """The exit codes, when all have come to their end."""
        for process in self._processes:
            process.join(60)
        return [process.exitcode for process in self._processes]


def living(groups: Sequence[int]) -> list[psutil.Process]:
    """The processes of these groups that are not dead, whoever their parents are by now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) in groups and not _is_dead(process):
                found.append(process)
    return found


def _is_dead(process: psutil.Process) -> bool:
    """With all its threads: the first can be a zombie while others still end, and hold what the process holds."""
    return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1


def _run(pipe: Connection, job: Job, rank: int, num_ranks: int) -> None:
    """What a rank does; what it fails with goes to the parent, too."""
    try:
        _read(pipe, job, rank, num_ranks)
    except Exception:
        with contextlib.suppress(OSError):
            pipe.send(traceback.format_exc())
        raise


def _read(pipe: Connection, job: Job, rank: int, num_ranks: int) -> None:
    from torch.utils.data import DataLoader

    from mixer.dataset import PlannedDataset, PlannedSampler, collate, end_with_parent
    from mixer.reader import RowReader
    from mixer.storage import open_corpus
    from mixer.storage.ahead import FetchAhead
    from mixer.storage.cache import Cache

    os.setpgid(0, 0)
    os.environ.update(job.environment)
    tempfile.tempdir = str(job.temporary)
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
    ahead = FetchAhead(
        rows.cache, reading, names, num_steps=4, num_in_flight=in_flight, num_threads=2,
        ranks=range(num_ranks), num_ranks=num_ranks,
    )  # fmt: skip
    data = PlannedDataset(rows, reading, ahead, num_buffers=in_flight + 1 if job.num_workers else 0)
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
