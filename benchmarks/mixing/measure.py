"""What is measured of one system, inside its own environment: `python measure.py SYSTEM '{"quick": false, …}'`.

Prints one line of JSON: the version, what importing it costs, and a result for every task of `TASKS`. The system is
imported once; each task then runs in a fork of that process, so none sees the memory or the caches of another, under
a limit of CPU time and of memory (RLIMIT_AS above what the import took). Needs NumPy and the standard library.
"""

import importlib
import json
import math
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
from systems import BATCH, SHARD, Batches, Run, corpora_of, rank_slots

EIGHT = (0.6, 0.2, 0.12, 0.05, 0.027899, 0.002, 0.0001, 0.000001)
RARE = {0.002: "two_thousandths", 0.0001: "ten_thousandth", 0.000001: "millionth"}
TWO = (0.37, 0.63)
EVEN = (0.5, 0.25, 0.125, 0.125)
RANKS = (8, 32)
SIZES = {False: (10**6, 10**7, 10**8, 10**9), True: (10**4, 10**5)}  # by quick: samples of a run
RESUMES = {False: (10**4, 10**6, 10**9), True: (10**2, 10**3)}  # by quick: steps


def once(num_steps: int) -> Run:
    """A run that reads four corpora exactly once: what every system does fastest."""
    sizes = tuple(int(num_steps * BATCH * weight) for weight in EVEN)  # whole: weights are powers of two
    return Run(weights=EVEN, sizes=sizes, num_steps=num_steps)


def roomy(weights: tuple[float, ...], num_steps: int, *, shard: int = SHARD) -> Run:
    """A run that comes nowhere near the end of a corpus. Unshuffled where the system can: only corpora count."""
    sizes = [shard * (2 + math.ceil(1.25 * w * num_steps * BATCH / shard)) for w in weights]
    return Run(weights=weights, sizes=tuple(sizes), num_steps=num_steps, shard=shard, shuffle=False)


def opened(system: type, run: Run, folder: Path):
    system.prepare(run, folder)
    return system(run, folder)


def deviation(order: np.ndarray, weights: tuple[float, ...]) -> np.ndarray:
    """The largest |drawn − wanted| of any corpus after each sample. `order` [samples], corpora."""
    wanted = np.arange(1, order.size + 1)
    return np.max([np.abs(np.cumsum(order == c) - w * wanted) for c, w in enumerate(weights)], axis=0)


def worst_deviation(order: np.ndarray, weights: tuple[float, ...]) -> dict:
    """Over every step's end, and over every sample, of `order` [steps, BATCH]."""
    found = deviation(order.ravel(), weights)
    return {"steps": float(found[BATCH - 1 :: BATCH].max()), "samples": float(found.max())}


def batch_counts(steps: np.ndarray, num_corpora: int) -> np.ndarray:
    """[steps, slots…] → samples of each corpus in each step, [steps, num_corpora]."""
    flat = steps.reshape(len(steps), -1)
    return np.stack([(flat == c).sum(axis=1) for c in range(num_corpora)], axis=1)


def exactness(system: type, folder: Path, *, steps: int) -> dict:
    """Deviation over prefixes and batches, and what becomes of rare corpora, on one rank."""
    run = roomy(EIGHT, steps)
    order = corpora_of(opened(system, run, folder), run)
    counts = batch_counts(order, len(EIGHT))
    found = {
        "eight": worst_deviation(order, EIGHT),
        "batch": float(np.abs(counts - np.array(EIGHT) * BATCH).max()),
        "missing": float((counts[:, EIGHT.index(0.002)] == 0).mean()),
    }
    for weight, name in RARE.items():
        found[name] = {"drawn": int(counts[:, EIGHT.index(weight)].sum()), "wanted": weight * order.size}
    run = roomy(TWO, steps)
    return {**found, "two": worst_deviation(corpora_of(opened(system, run, folder), run), TWO)}


def ranks(system: type, folder: Path, *, steps: int) -> dict:
    """How far a rank's own mixture is off in a long run, as the system splits slots and as others would.

    Shards are a sixteenth of the usual size, so that the run is as long, counted in shards, as one 16 times longer.
    """
    run, found = roomy(EVEN, steps, shard=SHARD // 16), {}
    reader = opened(system, run, folder)
    order = corpora_of(reader, run)
    for n in RANKS:
        found[f"strided_{n}"] = worst_share(rank_slots(order, n, 1), EVEN)
        found[f"contiguous_{n}"] = worst_share(rank_slots(order, n, BATCH // n), EVEN)
        found[f"own_{n}"] = worst_share(reader.by_rank(n, order), EVEN)
    run = roomy(EIGHT, steps, shard=SHARD // 16)
    reader = opened(system, run, folder)
    by_rank = reader.by_rank(RANKS[-1], corpora_of(reader, run))
    counts = batch_counts(by_rank, len(EIGHT))
    return found | {
        "own_eight": worst_share(by_rank, EIGHT),
        "identical": bool((by_rank == by_rank[:, :1]).all()),
        "batch": float(np.abs(counts - np.array(EIGHT) * BATCH).max()),
        "missing": float((counts[:, EIGHT.index(0.002)] == 0).mean()),
    }


def worst_share(by_rank: np.ndarray, weights: tuple[float, ...]) -> float:
    """The largest error of a rank's own share of a corpus, in percentage points. `by_rank` [steps, ranks, slots]."""
    return max(float(np.abs((by_rank == c).mean(axis=(0, 2)) - w).max()) * 100 for c, w in enumerate(weights))


def first(system: type, folder: Path, *, samples: int) -> dict:
    """What the first batch of a run over so many samples costs, from nothing; and a sample of the whole run, all told.

    A system may `settle` after some samples: it then costs something once, and less from there on.
    """
    run, readers = once(samples // BATCH), []
    system.prepare(run, folder)

    def start() -> None:
        readers.append(islice(system(run, folder).batches(0), run.num_steps))
        next(readers[0])

    found = timed(start)
    per_batch, todo, total = median_batch(readers[0]), run.num_steps, found["seconds"]
    if hasattr(system, "settle") and run.num_samples > system.SETTLES_AFTER:
        todo -= system.SETTLES_AFTER // BATCH
        total += system.SETTLES_AFTER // BATCH * per_batch + timed(system.settle)["seconds"]
        per_batch = median_batch(readers[0])
    return {**found, "ns": (total + todo * per_batch) / run.num_samples * 1e9}


def median_batch(batches: Batches) -> float:
    """Seconds of CPU; over up to 400 batches or two seconds."""
    spent: list[float] = []
    while len(spent) < 400 and sum(spent) < 2:
        before = cpu_seconds()
        if next(batches, None) is None:
            break
        spent.append(cpu_seconds() - before)
    return float(np.median(spent))


def resume(system: type, folder: Path, *, step: int) -> dict:
    """The same for a job that starts at a step of a run that goes on for another tenth."""
    run = once(step + max(step // 10, 1))
    system.prepare(run, folder)
    opens = system.kept(run, folder) if hasattr(system, "kept") else lambda: system(run, folder)
    return timed(lambda: next(opens().batches(step)))


def timed(job: Callable[[], object]) -> dict:
    """CPU time, not the clock's: what else runs on the machine counts less."""
    before, start = peak_mib(), cpu_seconds()
    job()
    return {"seconds": cpu_seconds() - start, "mib": peak_mib() - before}


def switch(system: type, folder: Path, *, step: int) -> dict:
    """Weights that are asked to change at an odd step: when they do, and what is read twice because of it."""
    if not hasattr(system, "switched"):
        return {}
    after = (0.3, 0.2, 0.4, 0.1)
    run = Run(weights=EVEN, sizes=(32 * SHARD,) * 4, num_steps=2 * step)
    system.prepare(run, folder)
    batches, slot, how = system.switched(run, folder, step, after)
    corpus, sample = (np.concatenate(part) for part in zip(*batches, strict=True))
    wanted = np.where(np.arange(corpus.size)[:, None] < slot, EVEN, after).cumsum(axis=0)
    drawn = (corpus[:, None] == np.arange(4)).cumsum(axis=0)
    worst = float(np.abs(drawn - wanted)[BATCH - 1 :: BATCH].max())
    twice = corpus.size - len(np.unique(sample))
    return {"late": slot - step * BATCH, "how": how, "worst": worst, "twice": twice, "read": int(corpus.size)}


def late_switch(system: type, folder: Path, *, step: int) -> dict:
    """How many samples corpora jump when weights change after more than 2^31 samples of one of them."""
    if not getattr(system, "SWITCHES", False):
        return {}
    run = Run(weights=(0.6, 0.4), sizes=(1 << 36,) * 2, num_steps=step + 2, shuffle=False)
    batches, _, _ = system.switched(run, folder, step, (0.5, 0.5), start=step - 2)
    corpus, sample = (np.stack(part) for part in zip(*batches, strict=True))
    jumps = [sample[2:][corpus[2:] == c].min() - sample[:2][corpus[:2] == c].max() - 1 for c in range(2)]
    return {"jump": int(np.abs(jumps).max())}


def epochs(system: type, folder: Path, *, steps: int) -> dict:
    """Two epochs of one corpus, less a batch: what the first reads twice, and how the second orders it.

    `gap` is the least distance between two readings of one sample, `moved` the mean distance between its places in the
    two epochs, both as shares of an epoch.
    """
    size = steps * BATCH
    run = Run(weights=(1.0,), sizes=(size,), num_steps=2 * steps - 1, shard=BATCH)
    batches = opened(system, run, folder).batches(0)
    order = np.concatenate([sample for _, sample in islice(batches, run.num_steps)])
    places = np.argsort(order, kind="stable")  # by sample, then by place
    again = np.flatnonzero(np.diff(order[places]) == 0)
    gaps = places[again + 1] - places[again]
    return {
        "twice": size - len(np.unique(order[:size])),
        "read": size,
        "gap": float(gaps.min() / size),
        "moved": float(np.abs(gaps - size).mean() / size),
    }


def cpu_seconds() -> float:
    """User and system time of all threads. Not time.process_time: Linux lets it lag while a CPU timer is set."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tasks(*, quick: bool) -> list[tuple[str, Callable[..., dict], list[dict]]]:
    """(name, function, arguments from small to large): after one that runs into a limit, larger ones are not tried."""
    steps = 32 if quick else 1024
    return [
        ("exactness", exactness, [{"steps": steps}]),
        ("ranks", ranks, [{"steps": steps // 2}]),
        ("first", first, [{"samples": n} for n in SIZES[quick]]),
        ("resume", resume, [{"step": n} for n in RESUMES[quick]]),
        ("switch", switch, [{"step": 21 if quick else 101}]),
        ("late_switch", late_switch, [{"step": 4_000_000}]),
        ("epochs", epochs, [{"steps": 8 if quick else 32}]),
    ]


def in_fork(job: Callable[[Path], dict], limits: dict) -> dict:
    """The result of `job` in a fork of this process, or {"limit": …} or {"error": …}."""
    receive, send = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            os.close(receive)
            with os.fdopen(send, "w") as out:
                json.dump(limited(lambda: job(Path(folder)), **limits), out, default=lambda number: number.item())
            os._exit(0)
        os.close(send)
        with os.fdopen(receive) as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
    if said:
        return json.loads(said)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM):
        return {"limit": f"{limits['seconds']} s"}
    return {"error": f"ended with status {status}"}


def limited(job: Callable[[], dict], *, seconds: float, gib: int) -> dict:
    """`job` with so much CPU time (the process ends by a signal) and so much more memory than it has now."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (gib << 30), resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 5 * seconds)  # should it ever wait for something
    try:
        return job()
    except MemoryError:
        return {"limit": f"{gib} GiB"}
    except Exception as problem:
        return {"error": f"{type(problem).__name__}: {str(problem)[:200]}"}


def main(name: str, *, quick: bool, limits: dict) -> None:
    modules: list[ModuleType] = []
    cost = timed(lambda: modules.append(importlib.import_module(f"systems.{name}")))
    [module] = modules
    say("import", {"version": module.System.VERSION, **cost})
    for task, measure, series in tasks(quick=quick):
        if task not in getattr(module.System, "TASKS", [task]):
            continue
        result: dict = {}
        for arguments in series:
            if "limit" not in result:  # a larger one would only run into it again
                result = in_fork(partial(measure, module.System, **arguments), limits)
            say(task if len(series) == 1 else f"{task} {next(iter(arguments.values()))}", result)


def say(task: str, result: dict) -> None:
    print(json.dumps({"task": task, "result": result}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], **json.loads(sys.argv[2]))
