"""Workers on a Ray cluster: the one that RAY_ADDRESS names, else a small one started on this machine for this call.

A job is a Ray task of one CPU. Never more than `workers` are handed out at a time, so a list of a million jobs costs
the cluster nothing. A job whose worker or node dies is given to another, up to `RETRIES` times; that is safe because
jobs are idempotent and publish by rename. Errors of ours come back as values, whole. Whatever ends the call, Ctrl-C or
SIGKILL too, ends its tasks: Ray stops those of a driver that has gone.

What it needs: this package in the same version on every node, and paths that mean the same files on all of them (a
shared file system for the output; sources there or at URLs). What it trusts: Ray sends code and jobs between driver and
workers as pickles, so whoever can reach a cluster's ports can run code on it: keep them on a private network. Nothing
else is unpickled. Usage statistics of Ray are off.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from shards.engines import OnProgress, Work
from shards.errors import CallError, ShardsError, WorkerError

__all__ = ["RETRIES", "run"]

RETRIES = 3
_OBJECT_STORE_BYTES = 80 << 20  # the least that Ray takes; jobs and their answers are a few hundred bytes


def run(jobs: Sequence[Any], work: Work, *, workers: int, on_progress: OnProgress) -> None:
    """As `shards.engines.run_jobs`, on Ray; `workers` 0 is as many as the cluster has CPUs, also those that join.

    `on_progress` is told once a job, at its end.

    Raises:
        CallError: Ray is not installed, or the cluster cannot be reached.
    """
    if not jobs:
        return
    try:
        import ray
    except ImportError as error:
        raise CallError(f"--engine ray needs Ray: pip install 'switchpoint[ray]' ({error})") from None
    with _connected(ray, workers):
        _serve(ray, jobs, work, workers, on_progress)


@contextmanager
def _connected(ray: Any, workers: int) -> Iterator[None]:
    if ray.is_initialized():  # by the program that calls us, and for it to end
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address := os.environ.get("RAY_ADDRESS"):
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CallError(f"no Ray cluster at RAY_ADDRESS {address}; start it, or unset it ({reason})") from None
    else:
        ray.init(
            address="local",
            num_cpus=workers or os.cpu_count() or 1,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            **quiet,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _serve(ray: Any, jobs: Sequence[Any], work: Work, workers: int, on_progress: OnProgress) -> None:
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_do)
    shared = ray.put(work)
    call, folder = uuid4().hex, os.getcwd()  # noqa: PTH109 - as text, for another machine
    todo = iter(jobs)
    doing: dict[Any, Any] = {}
    try:
        while True:
            limit = workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
            while len(doing) < limit and (job := next(todo, None)) is not None:
                doing[task.remote(call, shared, job, folder)] = job
            if not doing:
                return
            done, _ = ray.wait(list(doing), num_returns=1)
            for reference in done:
                error, counts = _answer(ray, reference, doing[reference])
                del doing[reference]
                if error is not None:
                    raise error
                on_progress(*counts)
    finally:
        for reference in doing:
            with suppress(Exception):  # the cluster may be gone
                ray.cancel(reference, force=True)


def _answer(ray: Any, reference: Any, job: Any) -> tuple[ShardsError | None, tuple[int, int]]:
    try:
        answer: tuple[ShardsError | None, tuple[int, int]] = ray.get(reference)
        return answer
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ImportError) or "failed to import" in str(error):
            raise WorkerError(
                "a node of the Ray cluster cannot import this package: install the same version of it on every node "
                f"({str(error.cause).splitlines()[0]})"
            ) from None
        raise
    except ray.exceptions.RayError as error:
        raise WorkerError(
            f"Ray gave up on {job} ({type(error).__name__}): its worker died {RETRIES + 1} times, out of memory or "
            "with its node; run the same command again, with fewer --workers; finished parts are kept"
        ) from None


_started: dict[str, Callable[[Any, OnProgress], None]] = {}


def _do(call: str, work: Work, job: Any, folder: str) -> tuple[ShardsError | None, tuple[int, int]]:
    """Body of a task: one job. What `work` starts is kept in the worker for the further jobs of the same call."""
    counts = [0, 0]

    def count(read_bytes: int, text_bytes: int) -> None:
        counts[0] += read_bytes
        counts[1] += text_bytes

    with suppress(OSError):  # relative paths mean what they mean to the driver, where that folder is
        os.chdir(folder)
    try:
        if call not in _started:
            _started.clear()
            _started[call] = work.start()
        _started[call](job, count)
    except ShardsError as error:
        return error, (0, 0)
    return None, (counts[0], counts[1])
