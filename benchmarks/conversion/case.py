"""One system, one input, in a process of its own: `case.py SYSTEM REQUEST`; prints one JSON object.

`seconds` is the wall time of the system's own call, without the imports before it but with whatever it starts and
loads; `cpu_seconds` is that of all its processes, and `ids` the hash of its first `check_tokens` ids, read back from
what it wrote.
"""

import hashlib
import importlib
import json
import resource
import sys
import time

import numpy as np
from systems import Request


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    name, text = sys.argv[1:]
    asked = json.loads(text)
    check_tokens = asked.pop("check_tokens")
    request = Request(**asked)
    system = importlib.import_module(f"systems.{name}")
    getattr(system, "prepare", lambda request: None)(request)
    cpu, start = cpu_seconds(), time.perf_counter()
    system.convert(request)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    result = {"version": system.VERSION, "seconds": seconds, "cpu_seconds": cpu}
    if check_tokens:
        ids = np.asarray(system.read_ids(request), "<u4")
        result |= {"tokens": len(ids), "ids": hashlib.sha256(ids[:check_tokens].tobytes()).hexdigest()}
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
