"""Reading, side by side: ours beside mosaicml-streaming and LitData on the same tokens, and the limit of this machine.

    python benchmarks/reading/run.py             # all of it, into README.md beside it; some half an hour on two cores
    python benchmarks/reading/run.py --quick     # a smoke test, small sizes, under two minutes; writes nothing

Every system reads through its own data loader, as its users would have it (`systems/`, one file each), in an
environment of its own (`../environments.py`). What is measured is in `case.py`, how often and in which sizes in
`plan.py`. Each measurement runs in a process of its own; systems take turns, so that what else the machine does meets
all of them. `--quick` makes no environments; a system without one is left out.
"""

import argparse
import json
import os
import platform
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import leftovers
from data import SHARDS, WEIGHTS, write_tokens
from environments import ENVIRONMENTS, NotInstalled, python_for
from plan import (
    BIG,
    FULL,
    LIMITS,
    QUICK,
    READERS,
    TITLES,
    WRITERS,
    Case,
    Sizes,
    checks,
    colds,
    firsts,
    kill,
    rates,
    ratios,
    rows,
    shares_off,
)
from server import BUCKET, ENVIRONMENT
from systems import Source
from table import Results, render

HERE = Path(__file__).parent
HEADING = "## Last result"
SHARES_OFF = 0.1  # in some thousand samples; a system that shuffles within blocks keeps a share in the long run alone
PARTS = ("rates", "firsts", "colds", "kill")
TIMEOUT_S = 600  # of a process, with its import: something is wrong then


class Bench:
    """Runs cases in processes of their own and keeps what they say."""

    def __init__(self, folder: Path, sizes: Sizes, pythons: dict[str, str]) -> None:
        self.folder, self.sizes, self.pythons = folder, sizes, pythons
        self.results: Results = defaultdict(lambda: defaultdict(list))
        self.versions: dict[str, str] = {}
        self.sources: dict[str, Source] = {}
        for name in ("tmp", "home"):
            (folder / name).mkdir()

    def prepare(self) -> None:
        """Writes the corpora in every system's format, and has them in the page cache."""
        sizes = self.sizes
        six = self._source("six", WEIGHTS, SHARDS, sizes.shard_rows)
        one = self._source("huge", (1.0,), (1,), sizes.huge_shard_rows)
        huge = replace(one, shards=(sizes.huge_shards,))
        for source, systems in ((six, READERS), (one, sizes.huge_systems)):
            write_tokens(source)
            for system in self._writers(systems):
                self._must(system, "prepare", source)
        for system in self._writers(sizes.huge_systems):
            self._must(system, "multiply", one, num_shards=sizes.huge_shards)
        self.sources = {"six": six, "huge": huge}
        for path in Path(six.folder).rglob("*"):
            if path.is_file():
                path.read_bytes()

    def take_turns(self, cases: list[Case], repeats: int) -> None:
        for turn in range(repeats):
            for case in cases:
                for system in case.systems:
                    if system in self.pythons and not self._failed(system, case):
                        say(f"{case.name}, {TITLES[system]}, {turn + 1} of {repeats}")
                        self.results[system][case.name].append(self.measured(system, case))

    def measured(self, system: str, case: Case) -> dict:
        request = dict(case.request)
        if case.task == "first":
            request["state"] = self._state(system, case) if case.step else None
        source = self.sources[case.source]
        if source.remote is not None:
            with tempfile.TemporaryDirectory(dir=self.folder) as cache:
                return self._child(system, case.task, replace(source, cache=cache), case, request)
        return self._child(system, case.task, source, case, request)

    def killed(self, system: str, case: Case) -> dict:
        """What is left of a run that was killed with all its workers, while it read."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            homes = {"TMPDIR": folder, "HOME": folder}
            before, segments = self._files(folder), leftovers.segments()
            command = self._command(system, case.task, self.sources["six"], case, case.request)
            child = subprocess.Popen(
                command, env=self._environment() | homes, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
            with child:
                is_reading, _, _ = select.select([child.stdout], [], [], TIMEOUT_S)  # or it has ended
                reading = is_reading and child.stdout.readline()
                time.sleep(0.5)  # in mid-run, not at a moment of its own choice
                os.killpg(child.pid, signal.SIGKILL)
            if not reading:
                return {"failed": "broke off"}
            stale, files = leftovers.stale(segments), self._files(folder) - before
            found = {"segments": len(stale), "bytes": leftovers.num_bytes(stale), "files": len(files)}
            names = {"names": [path.name for path in stale], "paths": sorted(path.name for path in files)}
            leftovers.remove(stale)
            return found | names

    def _files(self, folder: str) -> set[Path]:
        return leftovers.files(Path(folder), Path(self.sources["six"].folder))

    def _source(self, name: str, weights: tuple[float, ...], shards: tuple[int, ...], shard_rows: int) -> Source:
        folder = self.folder / name
        folder.mkdir()
        return Source(folder=str(folder), weights=weights, shards=shards, shard_rows=shard_rows)

    def _readers(self) -> list[str]:
        return [system for system in READERS if system in self.pythons]

    def _writers(self, systems: Sequence[str]) -> list[str]:
        return sorted({WRITERS[system] for system in systems if system in self.pythons})

    def _failed(self, system: str, case: Case) -> bool:
        return any("failed" in result for result in self.results[system][case.name])

    def _state(self, system: str, case: Case) -> str:
        """The file with a checkpoint of that step."""
        path = self.folder / f"{system} {case.source} {case.step}.pickle"
        if not path.exists():
            request = {"step": case.step, "path": str(path)}
            self._child(system, "checkpoint", self.sources[case.source], case, request)
        return str(path)

    def _must(self, system: str, task: str, source: Source, **request) -> None:
        case = Case(name=task, task=task, source="", loading=BIG)
        result = self._child(system, task, source, case, request)
        if "failed" in result:
            raise SystemExit(f"{TITLES[system]} could not {task}: {result['failed']}")

    def _child(self, system: str, task: str, source: Source, case: Case, request: dict) -> dict:
        command = self._command(system, task, source, case, request)
        segments = leftovers.segments()
        try:
            done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return {"failed": f"no result after {TIMEOUT_S} s"}
        leftovers.remove(leftovers.stale(segments))
        if done.returncode == -signal.SIGALRM:
            return {"failed": f"> {LIMITS['seconds']} s"}
        if done.returncode:
            print(f"{system}, {case.name}, broke off:\n{done.stderr[-2000:]}", file=sys.stderr)
            said = [line for line in done.stderr.splitlines() if line.strip()]
            return {"failed": f"broke off: {said[-1][:100] if said else done.returncode}"}
        answer = json.loads(done.stdout.splitlines()[-1])
        self.versions[system] = answer["version"]
        return answer["result"]

    def _command(self, system: str, task: str, source: Source, case: Case, request: dict) -> list[str]:
        asked = {"source": asdict(source), "loading": asdict(case.loading), **request}
        return [
            self.pythons.get(system, sys.executable),
            "-W",
            "ignore",
            str(HERE / "case.py"),
            system,
            task,
            json.dumps(asked),
        ]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        remote = self.sources.get("remote")
        return {
            **kept,
            **ENVIRONMENT,
            "PYTHONPATH": str(HERE.parents[1]),
            "PYTHONPYCACHEPREFIX": str(ENVIRONMENTS / "pycache"),
            "TMPDIR": str(self.folder / "tmp"),
            "HOME": str(self.folder / "home"),
            **({"S3_ENDPOINT_URL": remote.endpoint} if remote else {}),
        }

    @contextmanager
    def server(self) -> Iterator[None]:
        """Everything of the six corpora on an S3 server."""
        six = self.sources["six"]
        command = [sys.executable, "-W", "ignore", str(HERE / "server.py"), six.folder]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, env=self._environment(), text=True, **pipes) as process:
            endpoint = process.stdout.readline().strip()
            self.sources["remote"] = replace(six, remote=f"s3://{BUCKET}", endpoint=endpoint or None)
            try:
                yield
            finally:
                del self.sources["remote"]
                process.stdin.close()


def say(text: str) -> None:
    print(f"measuring {text}", file=sys.stderr, flush=True)


def verified(bench: Bench) -> str:
    """Raises SystemExit unless every row that was read is one of the source, and corpora have about their shares."""
    bench.take_turns(checks(), 1)
    for system in READERS:
        for result in bench.results[system]["verify"]:
            if "failed" in result or sum(result["found"]) != result["read"] or shares_off(result["found"]) > SHARES_OFF:
                raise SystemExit(f"{TITLES[system]} does not deliver the rows of the source: {result}")
    return "Before anything was timed, the rows of 8 batches of each were looked up in the source: all were there."


def measure(bench: Bench, *, parts: Sequence[str], repeats: int) -> str:
    bench.prepare()
    note = verified(bench)
    sizes = bench.sizes
    if "rates" in parts:
        bench.take_turns(rates(sizes), repeats)
    if "firsts" in parts:
        bench.take_turns(firsts(sizes), min(repeats, 3))
    if "colds" in parts:
        with bench.server():
            bench.take_turns(colds(sizes), min(repeats, 3))
    for system in bench._readers() if "kill" in parts else ():
        say(f"kill, {TITLES[system]}")
        bench.results[system]["kill"].append(bench.killed(system, kill()))
    return note


def machine() -> str:
    load = os.getloadavg()[0]
    return (
        f"{datetime.now():%Y-%m-%d}, {platform.machine()}, {len(os.sched_getaffinity(0))} cores "
        f"(load at the start {load:.1f}), Python {platform.python_version()}."
    )


def interpreters(names: list[str], *, install: bool) -> tuple[dict[str, str], dict[str, str]]:
    """System → its interpreter, and system → why there is none."""
    found, absent = {}, {}
    for name in names:
        try:
            found[name] = python_for("ours" if name == "limit" else name, install=install)
        except NotInstalled as reason:
            absent[name] = f"not installed here: {reason}"
    return found, absent


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, once; makes no environments, writes nothing")
    parser.add_argument("--systems", default=",".join(TITLES), help="comma-separated, of: %(default)s")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated, of: %(default)s")
    parser.add_argument(
        "--repeats",
        type=int,
        help="of each rate, for a trial: the README stays as it is (default: 5, or 1 with --quick)",
    )
    parser.add_argument("--json", type=Path, help="also write every result there")
    arguments = parser.parse_args()
    arguments.systems = arguments.systems.split(",")
    if unknown := set(arguments.systems) - set(TITLES):
        parser.error(f"unknown systems {', '.join(sorted(unknown))}; known are {', '.join(TITLES)}")
    arguments.parts = arguments.parts.split(",")
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}")
    return arguments


def main() -> None:
    arguments = parse()
    sizes = QUICK if arguments.quick else FULL
    lines, start = [machine(), ""], time.perf_counter()
    pythons, absent = interpreters(arguments.systems, install=not arguments.quick)
    before = leftovers.segments()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), sizes, pythons)
        try:
            lines += [measure(bench, parts=arguments.parts, repeats=arguments.repeats or sizes.repeats), ""]
        finally:
            leftovers.remove(leftovers.stale(before))
    headings = {name: f"{TITLES[name]} {bench.versions.get(name, '')}".strip() for name in arguments.systems}
    lines += [render(rows(sizes), bench.results, headings, absent), "", *(r.line(bench.results) for r in ratios())]
    lines += ["", f"Whole run: {(time.perf_counter() - start) / 60:.0f} minutes."]
    text = "\n".join(lines)
    print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(bench.results, indent=1))
    whole = arguments.systems == list(TITLES) and arguments.parts == list(PARTS)
    if whole and not arguments.quick and not arguments.repeats:
        readme = HERE / "README.md"
        prose = readme.read_text().partition(HEADING)[0]
        readme.write_text(f"{prose}{HEADING}\n\n{text}\n")


if __name__ == "__main__":
    main()
