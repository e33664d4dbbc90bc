"""Worker processes on this machine, which die with whoever asked for them.

Each worker speaks over its own pipe. Busy or idle, it ends when the other end is closed, so a killed conversion leaves
no workers behind. With one worker everything runs in the calling process. Which worker does which job
is left to chance.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from shards.engines import OnProgress, Work
from shards.errors import ShardsError, WorkerError

__all__ = ["run"]


def run(jobs: Sequence[Any], work: Work, *, workers: int, on_progress: OnProgress) -> None:
    """As `shards.engines.run_jobs`, with processes of this machine."""
    if not jobs:
        return
    if min(workers, len(jobs)) == 1:
        do = work.start()
        for job in jobs:
            do(job, on_progress)
        return
    team = _start(min(workers, len(jobs)), work)
    try:
        _serve(team, jobs, on_progress)
    finally:
        for connection, process in team.items():
            connection.close()
            process.terminate()
        for process in team.values():
            process.join()


def _start(workers: int, work: Work) -> dict[Connection, BaseProcess]:
    # Spawned, not forked: no locks, threads or memory are inherited, and the first worker's pipe is not
    # held open by the second.
    context = multiprocessing.get_context("spawn")
    team: dict[Connection, BaseProcess] = {}
    # Ctrl-C is for the process that asked, whose end is theirs: workers inherit a mask without it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, work), daemon=True)
            process.start()
            theirs.close()
            team[ours] = process
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return team


def _serve(team: dict[Connection, BaseProcess], jobs: Iterable[Any], on_progress: OnProgress) -> None:
    todo = iter(jobs)
    doing: dict[Connection, Any] = {}

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
        dead = [job for connection, job in doing.items() if not team[connection].is_alive()]
        names = ", ".join(map(str, dead)) or "a part"
        raise WorkerError(
            f"a worker died while it converted {names} (out of memory?); run the same command again, "
            "with fewer --workers; finished parts are kept"
        ) from None


def _work(connection: Connection, work: Work) -> None:
    """Body of a worker: jobs in, (read_bytes, text_bytes) on the way, None or a `ShardsError` at the end."""
    try:
        do = work.start()
        while True:
            job = connection.recv()
            do(job, lambda *counts: connection.send(counts))
            connection.send(None)
    except (EOFError, ConnectionError):
        return
    except ShardsError as error:
        connection.send(error)
