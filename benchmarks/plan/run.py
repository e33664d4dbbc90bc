"""The plan's cost: picking, building, random access; and how a stock streaming order scales beside it.

    python benchmarks/plan/run.py

Prints nanoseconds of CPU a sample at batch 1,024 for 1 to 8 corpora, the ratio of a batch at step 10^9 to one at step
10^3 of a plan over 10^12 samples, the time and memory to build it; then, in the same process tree, the time and memory
that mosaicml-streaming needs to order one epoch (its `get_partitions` and `get_shuffle`), which grows with the corpus.
"""

import platform
import resource
import subprocess
import sys
from importlib.metadata import version

BATCH = 1024
WEIGHTS = (0.4, 0.2, 0.15, 0.1, 0.05, 0.05, 0.03, 0.02)

OURS = """
import numpy as np
from mixer import Plan, Schedule

def schedule(num_corpora, num_steps=2 * 10**9):
    weights = WEIGHTS[:num_corpora]
    mixture = {f"c{i}": w for i, w in enumerate(weights)}
    mixture["c0"] += 1 - sum(weights)
    phases = [{"start": 0, "mixture": {"c0": 1}},
              {"start": 500, "mixture": mixture, "ramp": {"shape": "cosine", "length": 500}}]
    return Schedule.from_dict({"phases": phases}, num_steps=num_steps, global_batch_size=BATCH, seq_len=2048)

def per_batch(plan, step, repeats=50):
    best = []
    for _ in range(15):
        start = time.process_time()  # of this process alone, so that others on the machine count less
        for offset in range(repeats):
            plan.batch(step + offset)
        best.append((time.process_time() - start) / repeats)
    return float(np.median(best))

for num_corpora in (1, 2, 4, 8):
    plan = Plan(schedule(num_corpora), {f"c{i}": [16_384] * 1000 for i in range(8)}, data_seed=1)
    print(f"picking, {num_corpora} corpora: {per_batch(plan, 5000) / BATCH * 1e9:.0f} ns a sample")
before = megabytes()
start = time.perf_counter()
plan = Plan(schedule(8), {f"c{i}": [10**12 // 8 // 1000] * 1000 for i in range(8)}, data_seed=1)
plan.batch(10**3)
print(f"plan over 10^12 samples: built with its first batch in {time.perf_counter() - start:.2f} s, "
      f"{max(megabytes() - before, 0):.0f} MiB")
near, far = per_batch(plan, 10**3), per_batch(plan, 10**9)
print(f"a batch at step 10^3: {near * 1e6:.0f} us, at step 10^9: {far * 1e6:.0f} us, ratio {far / near:.2f}")
start = time.perf_counter()
found = plan.steps_of("c3", 12345)
print(f"every reading of one sample in {plan.schedule.num_steps:,} steps: {len(found)} found in "
      f"{(time.perf_counter() - start) * 1e3:.1f} ms")
"""

STREAMING = """
import numpy as np
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

HELPERS = f"""
import resource, time
BATCH, WEIGHTS = {BATCH}, {WEIGHTS}
def megabytes(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""


def main() -> None:
    cores = len(__import__("os").sched_getaffinity(0))
    print(f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, NumPy {version('numpy')}, "
          f"mosaicml-streaming {version('mosaicml-streaming')}")  # fmt: skip
    for code in (OURS, STREAMING):
        sys.stdout.flush()
        subprocess.run([sys.executable, "-W", "ignore", "-c", HELPERS + code], check=True)
    print(f"whole run: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.0f} s of CPU")


if __name__ == "__main__":
    main()
