"""One measurement of one system, in a process of its own: `python case.py SYSTEM TASK '{"source": …, "loading": …}'`.

Prints lines of JSON, the last of which is the result. Runs in the system's own environment, with NumPy and torch.
"""

import importlib
import json
import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
from data import hashes
from systems import SEQ_LEN, Loading, Source

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> float:
    """User and system time of this process and of all below it, those that have ended included."""
    parents, spent = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        pid = int(stat.parent.name)
        parents[pid], spent[pid] = int(fields[1]), sum(map(int, fields[11:15])) / TICKS
    me, total = os.getpid(), 0.0
    for pid, seconds in spent.items():
        ancestor = pid
        while ancestor not in (me, 0):
            ancestor = parents.get(ancestor, 0)
        total += seconds if ancestor == me else 0.0
    return total


def read_for(batches: Iterator, seconds: float) -> dict:
    """Samples a second and CPU time, while batches are taken for so long. Nothing is done with them."""
    num_samples, cpu, start = 0, cpu_seconds(), time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        num_samples += len(next(batches))
    cpu = cpu_seconds() - cpu
    return {"rate": num_samples / spent, "cpu": cpu / (num_samples * SEQ_LEN) * 1e9}


def rate(system: ModuleType, source: Source, loading: Loading, *, seconds: float) -> dict:
    """Samples a second, and ms of CPU a million tokens: right after the first batch, and then steadily."""
    batches = system.open_loader(source, loading)
    next(batches)
    early = read_for(batches, seconds)
    if hasattr(system, "settle"):
        system.settle()
    steady = read_for(batches, seconds)
    return {"early": early["rate"], **steady}


def first(system: ModuleType, source: Source, loading: Loading, *, state: str | None, anew: bool = False) -> dict:
    """Opening everything and one batch, at step 0 or from a state: time, and memory above that after the import.

    `anew`: as if no process had ever read these files.
    """
    if anew:
        system.forget(source)
    saved = pickle.loads(Path(state).read_bytes()) if state else None
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before, start = memory(), time.perf_counter()
    batches = system.open_loader(source, loading, saved)
    next(batches)
    seconds, after = time.perf_counter() - start, memory()
    return {
        "seconds": seconds,
        "mib": after["VmRSS"] - before["VmRSS"],
        "file_mib": after["RssFile"] - before["RssFile"],
        "peak_mib": after["VmHWM"] - before["VmRSS"],
    }


def memory() -> dict[str, float]:
    """VmRSS, RssFile (pages of files, shared with every process), VmHWM (the peak), … of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith(" kB")}


def cold(system: ModuleType, source: Source, loading: Loading, *, num_batches: int) -> dict:
    """From an empty cache: the first batch, so many batches, and what was fetched for them."""
    if hasattr(system, "connect"):
        system.connect()
    start = time.perf_counter()
    batches = system.open_loader(source, loading)
    next(batches)
    first_batch = time.perf_counter() - start
    num_samples = loading.batch + sum(len(batch) for batch in islice(batches, num_batches - 1))
    seconds = time.perf_counter() - start
    fetched = sum(path.stat().st_blocks * 512 for path in Path(source.cache).rglob("*") if path.is_file())
    return {"first": first_batch, "seconds": seconds, "rate": num_samples / seconds, "mib": fetched / 2**20}


def verify(system: ModuleType, source: Source, loading: Loading, *, num_batches: int) -> dict:
    """How many rows of some batches are rows of the source, of each corpus."""
    known = [set(hashes(source.rows_of(corpus))) for corpus in range(len(source.shards))]
    batches = [np.asarray(batch) for batch in islice(system.open_loader(source, loading), num_batches)]
    assert all(batch.shape == (loading.batch, SEQ_LEN) and batch.dtype == np.uint16 for batch in batches)
    read = [digest for batch in batches for digest in hashes(batch)]
    return {"read": len(read), "found": [sum(digest in corpus for digest in read) for corpus in known]}


def hold(system: ModuleType, source: Source, loading: Loading, *, num_batches: int) -> dict:
    """Says so after some batches and reads on, for ever: to be killed."""
    batches = system.open_loader(source, loading)
    for _ in islice(batches, num_batches):
        pass
    print(json.dumps({"reading": True}), flush=True)
    for _ in batches:
        pass
    return {}


def checkpoint(system: ModuleType, source: Source, loading: Loading, *, step: int, path: str) -> dict:
    Path(path).write_bytes(pickle.dumps(system.checkpoint(source, loading, step)))
    return {}


def prepare(system: ModuleType, source: Source, loading: Loading) -> dict:
    system.prepare(source)
    return {}


def multiply(system: ModuleType, source: Source, loading: Loading, *, num_shards: int) -> dict:
    system.multiply(source, num_shards)
    return {}


def limit(*, seconds: float, gib: float) -> None:
    """From now on: the process ends by a signal after so long, and may map so much more than it has."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + int(gib * 2**30), resource.RLIM_INFINITY))


TASKS = {task.__name__: task for task in (rate, first, cold, verify, hold, checkpoint, prepare, multiply)}


def main(name: str, task: str, request: dict) -> None:
    system = importlib.import_module(f"systems.{name}")
    source, loading = Source.from_dict(request.pop("source")), Loading(**request.pop("loading"))
    limits = request.pop("limits", None)
    if limits is not None:
        limit(**limits)
    try:
        result = TASKS[task](system, source, loading, **request)
    except MemoryError:
        result = {"failed": f"> {limits['gib']} GiB"}
    print(json.dumps({"version": system.VERSION, "result": result}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
