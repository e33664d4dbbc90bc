"""Mixing, side by side: ours beside levanter, grain, LitData, mosaicml-streaming and Megatron's blending.

    python benchmarks/mixing/run.py                              # all of it; some seven minutes on two cores
    python benchmarks/mixing/run.py --quick --systems ours,draws # a smoke test, small sizes, in seconds

Every system is the real one, from PyPI, in an environment of its own (`../environments.py`), used through its
documented API with its defaults (`systems/`, one file each, says what was chosen where there is none). What is measured
is in `measure.py`. `--quick` makes no environments; a system without one is left out.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from environments import NotInstalled, python_for
from measure import RESUMES, SIZES
from rows import LEGEND, rows
from table import render

HERE = Path(__file__).parent
TITLES = {
    "ours": "ours",
    "levanter": "levanter",
    "grain": "grain",
    "litdata": "LitData",
    "streaming": "mosaicml-streaming",
    "megatron": "Megatron-LM",
    "draws": "(independent draws)",
}
LIMITS = {"seconds": 60, "gib": 8}


def measured(name: str, python: str, *, quick: bool) -> dict[str, dict]:
    """Task (with its size) → result, of one system in a process of its own."""
    request = json.dumps({"quick": quick, "limits": LIMITS})
    command = [python, "-W", "ignore", str(HERE / "measure.py"), name, request]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"task"')]
    if done.returncode:
        print(f"{name} broke off:\n{done.stderr[-2000:]}", file=sys.stderr)
    return {line["task"]: line["result"] for line in lines}


def machine() -> str:
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    return f"{platform.machine()}, {cores} cores (load at the start {load:.1f}), Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes; makes no environments")
    parser.add_argument("--systems", default=",".join(TITLES), help="comma-separated, of: %(default)s")
    parser.add_argument("--json", type=Path, help="also write every result there")
    arguments = parser.parse_args()
    names = arguments.systems.split(",")
    if unknown := set(names) - set(TITLES):
        parser.error(f"unknown systems {', '.join(sorted(unknown))}; known are {', '.join(TITLES)}")
    print(machine())
    table, headings = {}, {}
    for name in names:
        headings[name] = TITLES[name]
        print(f"measuring {TITLES[name]}", file=sys.stderr, flush=True)
        try:
            table[name] = measured(name, python_for(name, install=not arguments.quick), quick=arguments.quick)
        except NotInstalled as reason:
            print(f"{TITLES[name]}: not installed here: {reason}")
        else:
            headings[name] += " " + table[name].get("import", {}).get("version", "(broke off)")
    print(f"{LEGEND}\nGiven up at {LIMITS['seconds']} s of CPU or {LIMITS['gib']} GiB above the import.\n")
    print(render(rows(SIZES[arguments.quick], RESUMES[arguments.quick]), table, headings))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\nWhole run: {(used.ru_utime + used.ru_stime) / 60:.1f} minutes of CPU.")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
