"""Training, side by side: our trainer beside a plain loop over the same model with its data in device memory.

    python benchmarks/training/run.py                      # on a GPU: Pythia 70M, 160M and 410M at the paper's sizes
    python benchmarks/training/run.py --device cpu         # tiny sizes
    python benchmarks/training/run.py --midtraining        # a real run across a switchpoint on sample data

Prints tokens/s, MFU, the share of time in which training waits for data, peak memory and the ratio of ours to the
plain loop, with and without torch.compile, and with activations that are recomputed. Each measurement runs in a
process of its own (`case.py`); they take turns.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from trainer.models.settings import ModelConfig  # noqa: E402
from trainer.models.size import flops_per_token, peak_flops  # noqa: E402

SAMPLES = ROOT.parent / "shared" / "data"
MICROBATCH = {"pythia-70m": 32, "pythia-160m": 16, "pythia-410m": 8, "pythia-1b": 4}  # what 80 GB hold
GPU = {"device": "gpu", "precision": "amp_bf16", "seq_len": 2048, "batch": 1024, "vocab_size": 50_304}
CPU = {"device": "cpu", "precision": "fp32", "seq_len": 128, "batch": 16, "microbatch": 8, "vocab_size": 1024}
COLUMNS = (
    "model", "microbatch", "compile", "recompute", "system", "tokens/s", "MFU", "data wait", "peak memory",
    "of the plain loop",
)  # fmt: skip


def main() -> int:
    options = _parser().parse_args()
    device = options.device or ("gpu" if has_gpu() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        if options.midtraining:
            return midtraining(Path(folder), options.data, device=device, steps=options.steps or 60)
        sizes = GPU if device == "gpu" else CPU
        models = [f"pythia-{name}" for name in options.models or ("70m", "160m", "410m")]
        if device == "cpu" and not options.models:
            models = ["tiny"]
        steps = options.steps or (12 if device == "gpu" else 40)
        given = {key: value for key in ("batch", "microbatch") if (value := getattr(options, key))}
        ways = [
            {"compile": compiled == "yes", "recompute": recompute == "yes"}
            for recompute in options.recompute
            for compiled in options.compile
        ]
        settings = {**sizes, **given, "steps": steps, "warmup": steps // 4, "threads": options.threads}
        compare(Path(folder), models, settings, ways=ways, repeats=options.repeats)
    return 0


def compare(
    folder: Path, models: list[str], sizes: dict[str, Any], *, ways: list[dict[str, bool]], repeats: int
) -> None:
    """Measure and print the table."""
    num_rows = sizes["batch"] * (sizes["steps"] + 2)
    for number, name in enumerate(("c4", "starcoder")):
        write_corpus(
            folder / name / "train",
            num_rows=num_rows,
            seq_len=sizes["seq_len"],
            num_ids=sizes["vocab_size"],
            seed=number,
        )
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    machine = ""
    for model in models:
        for way in ways:
            microbatch = sizes.get("microbatch") or MICROBATCH[model]
            case = {**sizes, **way, "model": model, "microbatch": microbatch, "folder": str(folder)}
            found: dict[str, list[dict[str, Any]]] = {"plain": [], "ours": []}
            for _ in range(repeats):
                for system, results in found.items():
                    results.append(measure({**case, "system": system}))
            best = {system: min(results, key=lambda one: one["seconds"]) for system, results in found.items()}
            machine = best["ours"]["machine"]
            for system, one in best.items():
                print(row(case, system, one, best["plain"]["seconds"]), flush=True)
    print(f"\n{machine or platform.machine()}, {os.cpu_count()} cores, {versions()}")
    print(json.dumps(sizes))


def row(case: dict[str, Any], system: str, one: dict[str, Any], limit_s: float) -> str:
    rate = case["batch"] * case["seq_len"] / one["seconds"]
    flops = rate * flops_per_token(
        ModelConfig.model_validate({"name": case["model"], "vocab_size": case["vocab_size"]}), case["seq_len"]
    )
    peak = peak_flops(one["machine"])
    mfu = f"{flops / peak:.1%}" if peak else "–"
    cells = [case["model"], case["microbatch"], _word(case["compile"]), _word(case["recompute"]), system]
    cells += [f"{rate:,.0f}", mfu, f"{one['wait']:.2%}", f"{one['memory'] / 1e9:.2f} GB"]
    return f"| {' | '.join(map(str, cells))} | {limit_s / one['seconds']:.3f} |"


def _word(answer: bool) -> str:
    return "yes" if answer else "no"


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Run `case.py`; what it writes goes to standard error when it fails."""
    command = [sys.executable, str(Path(__file__).with_name("case.py")), json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{case}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def write_corpus(folder: Path, *, num_rows: int, seq_len: int, num_ids: int, seed: int) -> None:
    from streaming import MDSWriter

    generator = np.random.default_rng(seed)
    with MDSWriter(out=str(folder), columns={"tokens": f"ndarray:uint16:{seq_len}"}, hashes=["sha1"]) as writer:
        for _ in range(num_rows):
            writer.write({"tokens": generator.integers(0, num_ids, seq_len, dtype=np.uint16)})


def midtraining(folder: Path, data: Path, *, device: str, steps: int) -> int:
    """C4 alone, then 20% code from half of the run on: convert the samples, train, and print the held-out losses."""
    seq_len, batch = (2048, 64) if device == "gpu" else (128, 16)
    patterns = {"c4": "c4-train.*.json.gz", "starcoder": "*.parquet"}
    inputs = {name: sorted((data / name).glob(pattern)) for name, pattern in patterns.items()}
    tokenizer = data / "tokenizers" / "gpt-neox-20b"
    for name, files in inputs.items():
        given = {"corpus": name, "seq-len": seq_len, "holdout": 0.05, "tokenizer": tokenizer, "out": folder}
        options = [word for key, value in given.items() for word in (f"--{key}", str(value))]
        command = [sys.executable, "-m", "shards", "convert", *options, *map(str, files)]
        subprocess.run(command, check=True, cwd=ROOT)
    config = {
        "base": str(ROOT / "trainer" / "configs" / "tiny.yaml"),
        "max_duration": f"{steps}ba",
        "global_batch_size": batch,
        "seq_len": seq_len,
        "model": {"name": "pythia-70m" if device == "gpu" else "tiny"},
        "device": device,
        "precision": "amp_bf16" if device == "gpu" else "fp32",
        "lr_schedule": {"kind": "cosine", "peak": 1e-3, "warmup": "0.1dur"},
        "corpora": {name: {"local": str(folder / name / "train")} for name in inputs},
        "schedule": {
            "phases": [
                {"start": 0, "mixture": {"c4": 1.0}},
                {"start": steps // 2, "mixture": {"c4": 0.8, "starcoder": 0.2}},
            ]
        },
        "eval": {"interval": f"{steps}ba", "num_samples": 64},
        "save_folder": str(folder / "checkpoints"),
        "metrics_file": str(folder / "metrics.jsonl"),
    }
    (folder / "cfg.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run([sys.executable, "-m", "trainer", str(folder / "cfg.yaml")], check=False, cwd=ROOT)
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, {versions()}")
    return done.returncode


def versions() -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "mosaicml", "transformers"))


def has_gpu() -> bool:
    """Whether the driver's own program finds one."""
    program = shutil.which("nvidia-smi")
    return program is not None and subprocess.run([program, "-L"], capture_output=True, check=False).returncode == 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), help="default: a GPU where there is one")
    parser.add_argument("--models", nargs="+", choices=("70m", "160m", "410m", "1b"), help="default: 70m 160m 410m")
    parser.add_argument("--batch", type=int, help="samples a step")
    parser.add_argument("--microbatch", type=int, help="samples at a time")
    parser.add_argument("--steps", type=int, help="steps of each run, a quarter of which is not counted")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, on a CPU")
    parser.add_argument("--repeats", type=int, default=1, help="the fastest of so many counts")
    parser.add_argument(
        "--compile",
        nargs="+",
        choices=("no", "yes"),
        default=["no", "yes"],
        help="without torch.compile, with it, or both",
    )
    parser.add_argument(
        "--recompute",
        nargs="+",
        choices=("no", "yes"),
        default=["no"],
        help="activations kept (the default), recomputed in the backward pass, or both",
    )
    parser.add_argument("--midtraining", action="store_true", help="a real run across a switchpoint on sample data")
    parser.add_argument("--data", type=Path, default=SAMPLES, help="the sample data")
    return parser


if __name__ == "__main__":
    sys.exit(main())
