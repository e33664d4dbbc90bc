"""MB of text a second: this project's conversion beside others', and beside tokenizers alone.

    python benchmarks/conversion/run.py                 # all of it; about three minutes on two idle cores
    python benchmarks/conversion/run.py --peers ''      # without the others, which are installed at the first call
    python benchmarks/conversion/run.py --quick         # a smoke test: little text, no environments are made

Every system is the real one, in an environment of its own (`../environments.py`), used through its documented API
(`systems/`, one file each). One thing runs at a time, in a process bound to one core or two. Peers get less text than
what is fast, from JSON lines, the same for all; what they wrote is read back, and its ids are those of Hugging Face's
tokenizers, or the line says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from data import FORMS, read_texts, train_tokenizer, write_files
from environments import NotInstalled, python_for

HERE = Path(__file__).parent
SAMPLES = HERE.parents[2] / "shared" / "data"
PEERS = {"foundry": "llm-foundry", "litdata": "LitData optimize", "datatrove": "datatrove"}
SEQ_LEN = 2048
LIMIT_SECONDS = 900


class Bench:
    """Runs cases and keeps what they gave."""

    def __init__(self, folder: Path, tokenizer: Path) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self.results: list[dict] = []

    def run(self, system: str, python: str, inputs: Path, num_bytes: int, *, cores: int, check: int = 0) -> dict:
        out = self.folder / "out" / f"{len(self.results)}"
        out.mkdir(parents=True)
        request = {
            "inputs": [str(path) for path in sorted(inputs.iterdir())],
            "tokenizer": str(self.tokenizer),
            "out": str(out),
            "cores": cores,
            "check_tokens": check,
        }
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(self.folder / "hf"),
            "TOKENIZERS_PARALLELISM": "true" if cores > 1 else "false",
        }
        allowed = sorted(os.sched_getaffinity(0))[:cores]
        done = subprocess.run(
            [python, "-W", "ignore", str(HERE / "case.py"), system, json.dumps(request)],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        )
        subprocess.run(["rm", "-rf", str(out)], check=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"version"')]
        if done.returncode or not lines:
            print(f"{system} broke off:\n{done.stderr[-1500:]}", file=sys.stderr)
            return {}
        result = json.loads(lines[-1])
        result |= {"system": system, "form": inputs.name, "cores": cores, "mb": num_bytes / 1e6}
        result["speed"] = result["mb"] / result["seconds"]
        self.results.append(result)
        return result


def line(title: str, result: dict, base: dict, note: str = "") -> str:
    ratio = f"{result['speed'] / base['speed']:>7.2f}" if base else ""
    numbers = f"{result['speed']:>8.1f} {result['mb'] / result['cpu_seconds']:>8.1f}"
    return f"{title:<34} {result['cores']:>5} {numbers} {ratio}  {note}".rstrip()


def measure(bench: Bench, sizes: dict[str, int], peers: list[str], *, install: bool) -> None:
    forms, files = bench.folder / "large", bench.folder / "small"
    print(f"{'what':<34} {'cores':>5} {'MB/s':>8} {'a CPU s':>8} {'ratio':>7}")
    alone = {}
    for cores in (1, 2):
        alone[cores] = bench.run("gigatoken", sys.executable, forms / "jsonl", sizes["large"], cores=cores)
        print(line("gigatoken alone", alone[cores], {}))
        for form in FORMS:
            result = bench.run("ours", sys.executable, forms / form, sizes["large"], cores=cores)
            print(line(f"ours, from {form}", result, alone[cores], "of gigatoken alone"), flush=True)
    reference = bench.run("huggingface", sys.executable, files / "jsonl", sizes["small"], cores=2, check=1)
    check = reference["tokens"] // SEQ_LEN * SEQ_LEN
    for cores in (1, 2):
        cases = [("Hugging Face's tokenizers alone", "huggingface", sys.executable)]
        cases += [("ours, as little text", "ours", sys.executable)]
        for name in peers:
            try:
                cases.append((PEERS[name], name, python_for(name, install=install)))
            except NotInstalled as reason:
                print(f"{PEERS[name]}: not installed here: {reason}")
        for title, system, python in cases:
            result = bench.run(system, python, files / "jsonl", sizes["small"], cores=cores, check=check)
            if not result:
                continue
            reference = result if system == "huggingface" else reference
            same = "" if result["ids"] == reference["ids"] else "OTHER IDS"
            ours = next(r for r in bench.results if (r["system"], r["cores"]) == ("ours", cores))
            note = f"{same} ours is {ours['speed'] / result['speed']:.1f}x" if system != "ours" else same
            print(line(f"{title} {result['version']}", result, {}, note), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure conversion.", epilog=__doc__)
    parser.add_argument("--tokenizer", type=Path, help="folder with tokenizer.json")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="JSON lines with real documents")
    parser.add_argument("--mb", type=float, default=240, help="MB of text for ours and gigatoken; default %(default)s")
    parser.add_argument("--peer-mb", type=float, default=8, help="MB of text for the others; default %(default)s")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated, of: %(default)s")
    parser.add_argument("--quick", action="store_true", help="little text; makes no environments")
    parser.add_argument("--json", type=Path, help="also write every result there")
    arguments = parser.parse_args()
    peers = [name for name in arguments.peers.split(",") if name]
    if unknown := set(peers) - set(PEERS):
        parser.error(f"unknown peers {', '.join(sorted(unknown))}; known are {', '.join(PEERS)}")
    large, small = (2, 1) if arguments.quick else (arguments.mb, arguments.peer_mb)
    texts = read_texts(arguments.text or sorted(SAMPLES.glob("c4/c4-train*.json.gz")))
    cores = len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {cores} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = arguments.tokenizer or SAMPLES / "tokenizers" / "gpt-neox-20b"
        bench = Bench(folder, tokenizer.absolute() if tokenizer.exists() else train_tokenizer(texts, folder))
        sizes = {
            "large": write_files(texts, folder / "large", num_bytes=int(large * 1e6), num_files=8, forms=FORMS),
            "small": write_files(texts, folder / "small", num_bytes=int(small * 1e6), num_files=2, forms=FORMS[:1]),
        }
        measure(bench, sizes, peers, install=not arguments.quick)
        if arguments.json:
            arguments.json.write_text(json.dumps(bench.results, indent=1))


if __name__ == "__main__":
    main()
