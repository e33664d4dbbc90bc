"""How much one service takes: 1,000 trainers that report progress to one process, on SQLite and on PostgreSQL.

    python benchmarks/service/run.py             # all of it, into README.md beside it; some ten minutes on two cores
    python benchmarks/service/run.py --quick     # a smoke test of a minute; writes nothing
    python benchmarks/service/run.py --databases sqlite --rates 500 --seconds 30

Each trainer has a run of its own and one connection; `load.py` sends their reports, in a process of its own, at a rate
that the service's answers do not change. Prints the times of an answer at each rate, the highest rate that is
sustained, and what it costs to sync a page to this disk, which every answered report has waited for. `--profile FILE`
runs the service under cProfile.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT)]

from service.runs import Runs  # noqa: E402
from service.schemas import ClaimIn, RunIn  # noqa: E402
from service.store import Store  # noqa: E402
from tests.postgres import find_programs, postgres  # noqa: E402

HEADING = "## Last result"
RATES = (100, 250, 500)
NUM_TRAINERS = 1000
STEP = 1.15  # from one rate to the next, where the limit is looked for
SUSTAINED = 0.97  # of what was sent must be answered in time
RUN = {
    "data_seed": 17,
    "global_batch_size": 1024,
    "seq_len": 2048,
    "num_steps": 10**6,
    "corpora": {"c4": {"shard_sizes": [16_384] * 200}, "code": {"shard_sizes": [16_384] * 100}},
    "schedule": {
        "phases": [
            {"start": "0ba", "mixture": {"c4": 0.9, "code": 0.1}},
            {"start": "500000ba", "mixture": {"c4": 0.5, "code": 0.5}, "ramp": {"shape": "linear", "length": "50ba"}},
        ]
    },
}


class Service:
    """One process of the service on a database, with runs and the trainers of them."""

    def __init__(self, database: str, num_trainers: int, profile: str | None) -> None:
        self.trainers = make_runs(database, num_trainers)
        program = [sys.executable, "-m", "service"]
        if profile is not None:
            program = [sys.executable, "-m", "cProfile", "-o", profile, "-m", "service"]
        self.process = subprocess.Popen(
            [*program, "serve", "--port", "0", "--db", database],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "ready: " in line, f"the service said {line!r}"
        self.url = line.split("ready: ")[1].strip()

    def load(self, rate: float, seconds: float, seed: int) -> dict:
        """Reports at a rate; what `load.py` prints, with the service's share of a processor."""
        before = self.cpu_seconds()
        command = [sys.executable, str(HERE / "load.py"), self.url, str(rate), str(seconds), str(seed)]
        done = subprocess.run(command, input=json.dumps(self.trainers), capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        for trainer, step in zip(self.trainers, found.pop("steps"), strict=True):
            trainer[2] = step
        return {**found, "cpu": (self.cpu_seconds() - before) / seconds}

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def make_runs(database: str, count: int) -> list[list]:
    """Runs that are claimed: [run id, claim, first step] of each. Not over HTTP, which is not what is measured."""
    store = Store(database)
    runs = Runs(store, plan_cache_size=1)
    made = []
    for number in range(count):
        run = runs.create(RunIn.model_validate({**RUN, "name": f"run {number}"}), actor="bench")[0].row.id
        claim = runs.claim(run, ClaimIn(trainer=f"host {number}", step=0), actor="bench").claim
        made.append([run, claim["claim"], 0])
    store.close()
    return made


@contextmanager
def databases(names: list[str]) -> Iterator[dict[str, str]]:
    """Name → database, as --db takes it; on this disk, not in memory."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER", ROOT)) as folder:
        found = {"sqlite": f"{folder}/runs.db"}
        if "postgresql" in names:
            with postgres() as cluster:
                yield {name: {**found, "postgresql": cluster.make()}[name] for name in names}
        else:
            yield found


def sync_milliseconds(folder: Path) -> list[float]:
    """What 300 appends of 4 KiB take, each written and synced, from the shortest on."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(300):
            begin = time.perf_counter()
            os.write(file.fileno(), b"x" * 4096)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begin) * 1e3)
    return sorted(times)


def measure(name: str, service: Service, arguments: argparse.Namespace) -> list[str]:
    """The rows of one database, printed as they come."""
    rows = []
    service.load(arguments.rates[0], 3, seed=0)  # every connection and run once, before it counts
    for rate in arguments.rates:
        found = [service.load(rate, arguments.seconds, seed) for seed in range(1, arguments.repeats + 1)]
        rows.append(say(name, f"{rate:,.0f}", found))
    if arguments.saturate:
        rate, last = arguments.rates[-1], None
        while True:
            rate *= STEP
            found = service.load(rate, arguments.seconds, seed=9)
            if found["rate"] < SUSTAINED * rate or found["num_errors"]:
                break
            last = found, rate
        rows.append(say(name, f"{last[1] if last else arguments.rates[-1]:,.0f} (the most)", [last[0]] if last else []))
        rows.append(say(name, f"{rate:,.0f} (too many)", [found]))
    return rows


def say(name: str, rate: str, found: list[dict]) -> str:
    """A row of the table: medians of the repeats."""
    wrong = [error for one in found for error in one["errors"]]
    cells = [
        statistics.median(one[key] for one in found) for key in ("rate", "p50", "p95", "p99", "max", "cpu", "lag_p99")
    ]
    shown = [f"{cells[0]:,.0f}", *(f"{cell:,.1f}" for cell in cells[1:5]), f"{cells[5]:.0%}", f"{cells[6]:,.1f}"]
    row = f"| {name} | {rate} | {' | '.join(shown)} |"
    print(row + (f"  ERRORS: {wrong}" if wrong else ""), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke test: 50 trainers, short, nothing written")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--rates", nargs="+", type=float, default=RATES, help="reports a second")
    parser.add_argument("--seconds", type=float, default=30, help="of one measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trainers", type=int, default=NUM_TRAINERS)
    parser.add_argument("--no-saturate", dest="saturate", action="store_false", help="do not look for the limit")
    parser.add_argument("--profile", metavar="FILE", help="run the service under cProfile")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.trainers, arguments.seconds, arguments.repeats, arguments.saturate = 50, 3, 1, False
    is_whole = arguments == parser.parse_args([])
    if find_programs() is None and "postgresql" in arguments.databases:
        print("no PostgreSQL here: left out")
        arguments.databases.remove("postgresql")
    where = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, " + ", ".join(
        f"{name} {version(name)}" for name in ("uvicorn", "fastapi", "sqlalchemy")
    )
    lines = [
        "| database | reports/s asked | answered | p50 ms | p95 ms | p99 ms | max ms | CPU of the service "
        "| generator late, p99 ms |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    with databases(list(arguments.databases)) as found:
        sync = sync_milliseconds(Path(os.environ.get("BENCH_FOLDER", ROOT)))
        cost = f"Appending 4 KiB and syncing it takes {sync[150]:.2f} ms here, {sync[297]:.2f} ms at p99."
        print(f"{where}\n{cost}\n" + "\n".join(lines), flush=True)
        for name in arguments.databases:
            service = Service(found[name], arguments.trainers, arguments.profile)
            try:
                lines += measure(name, service, arguments)
            finally:
                service.stop()
    if is_whole:
        page = HERE / "README.md"
        kept = page.read_text().partition(HEADING)[0]
        page.write_text(
            f"{kept}{HEADING}\n\n{where}, {time.strftime('%Y-%m-%d')}. {cost}\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
