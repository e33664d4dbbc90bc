"""Worker processes that convert parts and die with whoever asked for them.

Each worker speaks over its own pipe. Busy or idle, it ends when the other end is closed, so a killed
conversion leaves no workers behind. One encoder a worker serves all its parts. With one worker everything
runs in the calling process. Which worker converts which part is left to chance; the bytes do not depend
on it.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from shards.errors import ShardsError, WorkerError
from shards.part import Recipe, convert_part
from shards.tokenizer import Encoder

__all__ = ["Job", "OnProgress", "run_jobs"]

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """One part: the input file and the folder it becomes."""

    source: Path
    folder: Path


def run_jobs(jobs: Sequence[Job], recipe: Recipe, workers: int, on_progress: OnProgress) -> None:
    """Convert all `jobs` with `workers` processes.

    Args:
        jobs: what to convert; started in this order.
        recipe: how.
        workers: number of processes; never more than there are jobs.
        on_progress: as of `convert_part`, called in this process.

    Raises:
        ShardsError: of the first job that failed; the other workers are stopped at once.
        WorkerError: a worker died.
    """
    if min(workers, len(jobs)) <= 1:
        encoder = Encoder(recipe.tokenizer) if jobs else None
        for job in jobs:
            assert encoder is not None
            convert_part(job.source, job.folder, recipe, encoder, on_progress)
        return
    team = _start(min(workers, len(jobs)), recipe)
    try:
        _serve(team, jobs, on_progress)
    finally:
        for connection, process in team.items():
            connection.close()
            process.terminate()
        for process in team.values():
            process.join()


def _start(workers: int, recipe: Recipe) -> dict[Connection, BaseProcess]:
    # Spawned, not forked: no locks, threads or memory are inherited, and the first worker's pipe is not
    # held open by the second.
    context = multiprocessing.get_context("spawn")
    team: dict[Connection, BaseProcess] = {}
    # Ctrl-C is for the process that asked, whose end is theirs: workers inherit a mask without it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, recipe), daemon=True)
            process.start()
            theirs.close()
            team[ours] = process
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return team


def _serve(team: dict[Connection, BaseProcess], jobs: Iterable[Job], on_progress: OnProgress) -> None:
    todo = iter(jobs)
    doing: dict[Connection, Job] = {}

    def assign(connection: Connection) -> None:
        if (job := next(todo, None)) is not None:
            doing[connection] = job
            connection.send(job)

    try:
        for connection in team:
            assign(connection)
        while doing:
            for ready in wait(list(doing)):
                assert isinstance(ready, Connection)
                match ready.recv():
                    case ShardsError() as error:
                        raise error
                    case (read_bytes, text_bytes):
                        on_progress(read_bytes, text_bytes)
                    case None:
                        del doing[ready]
                        assign(ready)
    except (EOFError, ConnectionError):
        dead = [job.source for connection, job in doing.items() if not team[connection].is_alive()]
        names = ", ".join(map(str, dead)) or "a part"
        raise WorkerError(
            f"a worker died while it converted {names} (out of memory?); run the same command again, "
            "with fewer --workers; finished parts are kept"
        ) from None


def _work(connection: Connection, recipe: Recipe) -> None:
    """Body of a worker: jobs in, (read_bytes, text_bytes) on the way, None or a `ShardsError` at the end."""
    try:
        encoder = Encoder(recipe.tokenizer)
        while True:
            job = connection.recv()
            convert_part(job.source, job.folder, recipe, encoder, lambda *counts: connection.send(counts))
            connection.send(None)
    except (EOFError, ConnectionError):
        return
    except ShardsError as error:
        connection.send(error)
