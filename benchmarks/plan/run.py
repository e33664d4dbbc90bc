"""The plan's cost: picking, building, random access; and how a stock streaming order scales beside it.

    python benchmarks/plan/run.py

Prints nanoseconds a sample at batch 1,024 for 1 to 8 corpora, with NumPy and compiled, and what compiling takes; the
time to build a schedule of 10,000 revisions (and of 10,000 phases) over 10^6 steps, with a batch of that plan beside
one of a fresh plan; the ratio of a batch at step 10^9 to one at step 10^3 of a plan over 10^12 samples, and the time
and memory to build it; then the time and memory that mosaicml-streaming needs to order one epoch (its `get_partitions`
and `get_shuffle`), which grows with the corpus. Times are of the CPU, but for building over 10^12 samples, inverting
and streaming.
"""

import os
import platform
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version

BATCH = 1024
WEIGHTS = (0.4, 0.2, 0.15, 0.1, 0.05, 0.05, 0.03, 0.02)

LOADING = """
from mixer import compiled
start = time.process_time()
assert compiled.load() is not None
print(f"the compiled path, {HOW}: {time.process_time() - start:.1f} s")
"""

PICKING = """
from mixer import compiled

def schedule(num_corpora):
    weights = WEIGHTS[:num_corpora]
    mixture = {f"c{i}": w for i, w in enumerate(weights)}
    mixture["c0"] += 1 - sum(weights)
    phases = [{"start": 0, "mixture": {"c0": 1}},
              {"start": 500, "mixture": mixture, "ramp": {"shape": "cosine", "length": 500}}]
    return Schedule.from_dict({"phases": phases}, num_steps=2 * 10**9, global_batch_size=BATCH, seq_len=2048)

for path, fill_batch in (("NumPy", None), ("compiled", compiled.load())):
    compiled.use(fill_batch)
    for num_corpora in (1, 2, 4, 8):
        plan = Plan(schedule(num_corpora), {f"c{i}": [16_384] * 1000 for i in range(8)}, data_seed=1)
        print(f"picking, {path}, {num_corpora} corpora: {per_batch(plan, 5000) / BATCH * 1e9:.0f} ns a sample")
    before = megabytes()
    start = time.perf_counter()
    plan = Plan(schedule(8), {f"c{i}": [10**12 // 8 // 1000] * 1000 for i in range(8)}, data_seed=1)
    plan.batch(10**3)
    print(f"plan over 10^12 samples, {path}: built with its first batch in {time.perf_counter() - start:.2f} s, "
          f"{max(megabytes() - before, 0):.0f} MiB")
    near, far = per_batch(plan, 10**3), per_batch(plan, 10**9)
    print(f"a batch at step 10^3, {path}: {near * 1e6:.0f} us, at step 10^9: {far * 1e6:.0f} us, "
          f"ratio {far / near:.2f}")
start = time.perf_counter()
found = plan.steps_of("c3", 12345)
print(f"every reading of one sample in {plan.schedule.num_steps:,} steps: {len(found)} found in "
      f"{(time.perf_counter() - start) * 1e3:.1f} ms")
"""

EDITING = """
import random
from mixer import Ledger, Revision, compiled

NUM_STEPS, NUM_REVISIONS = 10**6, 10_000
SIZES = {"num_steps": NUM_STEPS, "global_batch_size": BATCH, "seq_len": 2048}

def mixture(rng, num_corpora):
    parts = [rng.randrange(1, 1000) for _ in range(num_corpora)]
    weights = [part * 10**9 // sum(parts) for part in parts]
    weights[0] += 10**9 - sum(weights)
    return {f"c{i}": weight / 10**9 for i, weight in enumerate(weights)}

def seconds(function):
    spent = []
    for _ in range(3):
        start = time.process_time()
        result = function()
        spent.append(time.process_time() - start)
    return result, min(spent)

for num_corpora in (2, 4, 8):
    rng = random.Random(num_corpora)
    first = {"phases": [{"start": 0, "mixture": mixture(rng, num_corpora)}]}
    phases = [{"start": f"{step}ba", "mixture": mixture(rng, num_corpora)}
              for step in sorted(rng.sample(range(1, NUM_STEPS), NUM_REVISIONS))]
    revisions = [Revision(number=i + 1, parent=i, effective_step=int(phase["start"][:-2]), schedule={"phases": [phase]},
                          author="ada", reason="", time="") for i, phase in enumerate(phases)]
    stored = Ledger(base=Schedule.from_dict(first, **SIZES), revisions=tuple(revisions)).to_dict()
    corpora = {f"c{i}": [16_384] * 1000 for i in range(num_corpora)}
    plan, spent = seconds(lambda: Plan(Ledger.from_dict(stored).schedule, corpora, data_seed=1))
    print(f"10,000 revisions over {num_corpora} corpora, from JSON to a plan: {spent:.2f} s")
    written = {"phases": [*first["phases"], *phases]}
    _, spent = seconds(lambda: Plan(Schedule.from_dict(written, **SIZES), corpora, data_seed=1))
    print(f"10,000 phases over {num_corpora} corpora, to a plan: {spent:.2f} s")
    fresh = Plan(Schedule.from_dict(first, **SIZES), corpora, data_seed=1)
    for path, fill_batch in (("NumPy", None), ("compiled", compiled.load())):
        compiled.use(fill_batch)
        edited, single = per_batch(plan, NUM_STEPS // 2), per_batch(fresh, NUM_STEPS // 2)
        print(f"a batch after 5,000 of them, {path}: {edited * 1e6:.0f} us, of a fresh plan: {single * 1e6:.0f} us, "
              f"ratio {edited / single:.2f}")
"""

STREAMING = """
from streaming.base.partition import get_partitions
from streaming.base.shuffle import get_shuffle

before = megabytes()
for exponent in (6, 7):
    shards = 10**exponent // 16_384
    start = time.perf_counter()
    partitions = get_partitions("relaxed", shards * 16_384, 64, 1, 1, 1, BATCH)
    order = get_shuffle("py1e", np.full(shards, 16_384), 64, 9176, 0, 262_144)
    order[partitions]
    print(f"mosaicml-streaming, order of 10^{exponent} samples: {time.perf_counter() - start:.2f} s, "
          f"{megabytes() - before:.0f} MiB at the peak")
"""

OURS = """
from mixer import Plan, Schedule

def per_batch(plan, first_step, repeats=50):
    spent = []
    for step in range(first_step, first_step + 15 * repeats, repeats):
        start = time.process_time()  # of this process alone, so that others on the machine count less
        for offset in range(repeats):
            plan.batch(step + offset)
        spent.append((time.process_time() - start) / repeats)
    return float(np.median(spent))
"""

HELPERS = f"""
import resource, time
import numpy as np
BATCH, WEIGHTS = {BATCH}, {WEIGHTS}
def megabytes(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "mosaicml-streaming"))
    print(f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, {versions}")
    with tempfile.TemporaryDirectory() as folder:
        cold = {**os.environ, "NUMBA_CACHE_DIR": folder}
        for code, environment in (
            ("HOW = 'compiled for the first time'" + LOADING, cold),
            ("HOW = 'loaded'" + LOADING, cold),
            (OURS + PICKING, None),
            (OURS + EDITING, None),
            (STREAMING, None),
        ):
            sys.stdout.flush()
            subprocess.run([sys.executable, "-W", "ignore", "-c", HELPERS + code], env=environment, check=True)
    print(f"whole run: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.0f} s of CPU")


if __name__ == "__main__":
    main()
