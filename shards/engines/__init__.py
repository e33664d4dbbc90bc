"""Engines: who does the jobs of a conversion. All have one face, `run_jobs`.

A job is done by the function that `Work.start` gives, called once in each worker; its results are files only, on
storage that all workers see. Jobs are idempotent: one that was done half, or twice, leaves what one doing leaves. So
whatever is killed, doing again what is not yet done is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

__all__ = ["ENGINES", "Engine", "OnProgress", "Work", "run_jobs"]

Engine = Literal["local", "ray"]
ENGINES: tuple[Engine, ...] = ("local", "ray")
OnProgress = Callable[[int, int], None]


class Work(Protocol):
    """What workers do. It is pickled to each of them; jobs are too, and name themselves by `str`."""

    def start(self) -> Callable[[Any, OnProgress], None]:
        """Prepare a worker; returns what does one job and tells (bytes read, bytes of text) on the way."""
        ...


def run_jobs(jobs: Sequence[Any], work: Work, *, engine: Engine, workers: int, on_progress: OnProgress) -> None:
    """Do all `jobs`.

    Args:
        jobs: what to do; started in this order.
        work: how.
        engine: where.
        workers: how many at a time; never more than there are jobs; 0, on a cluster, for all it has.
        on_progress: called in this process with what jobs tell.

    Raises:
        ShardsError: of the first job that failed; the others are stopped at once.
        WorkerError: a worker died.
    """
    if engine == "ray":
        from shards.engines.ray import run
    else:
        from shards.engines.local import run
    run(jobs, work, workers=workers, on_progress=on_progress)
