"""Peak memory of a conversion: the command, its workers and all below them, sampled while it runs.

    python benchmarks/conversion/memory.py --tokenizer DIR INPUT...

Memory is proportional set size (a page that several processes share counts once), from /proc; its sum over them all
is taken every 20 ms. Prints one JSON object.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

SECONDS = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", default="packed")
    arguments = parser.parse_args()
    out = Path(tempfile.mkdtemp(prefix="memory-"))
    command = [sys.executable, "-m", "shards", "convert", "--corpus", "c4", "--tokenizer", arguments.tokenizer]
    command += ["--out", str(out), "--workers", str(arguments.workers), "--rows", arguments.rows, *arguments.inputs]
    try:
        print(json.dumps({**measure(command), "input_bytes": sum(map(_size, arguments.inputs))}))
    finally:
        shutil.rmtree(out, ignore_errors=True)


def measure(command: list[str]) -> dict[str, float]:
    """Run `command`; the peak of the sum over its processes, in GiB, and its CPU and wall seconds."""
    peak_pss = peak_rss = cpu = 0.0
    with psutil.Popen(command, stdout=subprocess.DEVNULL) as process:
        start = process.create_time()
        while process.poll() is None:
            pss = rss = seconds = 0.0
            for one in [process, *_below(process)]:
                try:
                    memory, times = one.memory_full_info(), one.cpu_times()
                except psutil.Error:
                    continue
                pss, rss = pss + memory.pss, rss + memory.rss
                seconds += times.user + times.system
            peak_pss, peak_rss, cpu = max(peak_pss, pss), max(peak_rss, rss), max(cpu, seconds)
            time.sleep(SECONDS)
            end = time.time()
    assert process.returncode == 0, process.returncode
    return {
        "peak_pss_gib": round(peak_pss / 2**30, 3),
        "peak_rss_gib": round(peak_rss / 2**30, 3),
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(end - start, 1),
    }


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def _size(name: str) -> int:
    return Path(name).stat().st_size


if __name__ == "__main__":
    main()
