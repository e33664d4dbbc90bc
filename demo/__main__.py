"""`python -m demo`: the stages from top to bottom.

Exit codes: 0 all batches were as planned, 1 a stage failed (one line, and the end of its log), 2 the call was wrong.
"""

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from demo.check import Result, Run, check, read_run, same_without_service
from demo.conversion import Converted, convert_all, train_tokenizer
from demo.corpora import Inputs, find_samples, write_stand_ins
from demo.facts import Facts
from demo.metrics import read_history
from demo.processes import ROOT, DemoError, dry_run, export_ledger, serve
from demo.report import write_picture, write_report
from demo.settings import FEWEST_STEPS, Settings, run_config, without_service, write_yaml
from demo.training import train
from mixer import MixerError
from shards import ShardsError

SAMPLES = ROOT.parent / "shared" / "data"
MARKER = ".switchpoint-demo"  # names a folder that this program made and may empty
LOG_LINES = 15


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so children are ended
    try:
        settings = _settings(options)
        return run_demo(settings, picture=options.picture)
    except (DemoError, ShardsError, MixerError, httpx.HTTPError) as error:
        sys.stdout.flush()
        print(f"demo: {' '.join(str(error.args[0]).split())}", file=sys.stderr)
        if isinstance(error, DemoError) and error.log and error.log.exists():
            lines = error.log.read_text("utf-8", errors="replace").splitlines()
            print(f"the end of {error.log}:", *lines[-LOG_LINES:], sep="\n  ", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was started has been ended", file=sys.stderr)
        return 130


def run_demo(settings: Settings, *, picture: Path | None = None) -> int:
    """All stages, in a fresh `settings.out`; returns the exit code."""
    out = settings.out
    _start_fresh(out)
    kind = "the real samples" if settings.samples else "stand-ins made from Python itself"
    print(
        f"Switchpoint demo: {settings.num_steps} steps of a tiny model on {kind}; everything goes to {_shown(out)}/\n"
    )
    stages = Stages()
    with ExitStack() as children:
        with stages.stage("corpora", "six corpora as files"):
            inputs = find_samples(settings.samples) if settings.samples else _make_inputs(settings)
            stages.say(inputs.described)
        with stages.stage("tokenizer", "byte-level BPE"):
            tokenizer, described = _tokenizer(inputs, out)
            stages.say(described)
        with stages.stage("convert", f"text to MDS shards of {settings.seq_len} tokens a row"):
            done = _say_converted(stages)
            corpora = convert_all(inputs, tokenizer, out / "mds", seq_len=settings.seq_len, on_done=done)
            shards = {name: one.folder / "train" for name, one in corpora.items()}
        with stages.stage("serve", "the live schedule over HTTP"):
            url = children.enter_context(serve(settings.database, log=settings.log("service")))
            stages.say(url)
        with stages.stage("train", f"C4 alone to step {settings.switchpoint}, then six corpora"):
            vocab_size = corpora["c4"].train.parameters["vocab_size"]
            config = run_config(settings, corpora=shards, vocab_size=vocab_size, url=url)
            write_yaml(out / "run.yaml", config)
            trained = train(out / "run.yaml", url, settings, stages.say)
    with stages.stage("check", "every batch again, from the ledger and the shards"):
        export_ledger(settings.database, trained.run_id, out / "ledger.jsonl")
        ledger_run, history = read_run(out / "ledger.jsonl"), read_history(settings.metrics_file)
        result = check(ledger_run, shards, history)
        stages.say(
            f"{result.num_as_planned} of {result.num_steps} as planned; {result.num_twice} of them trained twice"
        )
        same = _check_without_service(ledger_run, config, settings)
        stages.say(f"{same} of {result.num_steps} the same from same.yaml, which needs no service")
    with stages.stage("report", "one page"):
        facts = Facts(
            settings=settings, described=inputs.described, corpora=corpora, tokenizer=described, trained=trained,
            run=ledger_run, history=history, result=result, same_without_service=same, stages=stages.seconds,
        )  # fmt: skip
        write_report(facts, out / "report.html")
        if picture:
            write_picture(facts, picture)
    _summary(facts)
    return _verdict(result, same, out)


class Stages:
    """Lines on the terminal, each with the seconds since the start; keeps how long every stage took."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.seconds: list[tuple[str, float]] = []

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[None]:
        """A block of work."""
        begin = time.monotonic()
        print(f"{begin - self._start:6.1f} s  {name:<10} {text}", flush=True)
        yield
        self.seconds.append((name, time.monotonic() - begin))

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._start:6.1f} s  {'':<10}   {text}", flush=True)


def _check_without_service(run: Run, config: dict[str, Any], settings: Settings) -> int:
    """Write same.yaml, let the trainer check it, and count the steps whose batch it leaves as it was."""
    same = settings.out / "same.yaml"
    write_yaml(same, without_service(config, run.ledger.schedule.to_dict(), settings.out / "same"))
    dry_run(same, log=settings.log("same"))
    return same_without_service(run, same)


def _make_inputs(settings: Settings) -> Inputs:
    return write_stand_ins(settings.out / "corpora", workers=settings.num_workers)


def _tokenizer(inputs: Inputs, out: Path) -> tuple[Path, str]:
    """The folder of the tokenizer, and what it is."""
    if inputs.tokenizer:
        return inputs.tokenizer, "the GPT-NeoX tokenizer"
    num_ids = train_tokenizer(inputs, out / "tokenizer")
    return out / "tokenizer", f"a byte-level BPE of {num_ids:,} ids, trained on the corpora"


def _say_converted(stages: Stages) -> Callable[[Converted], None]:
    def say(one: Converted) -> None:
        speed = one.text_bytes / 1e6 / one.seconds
        documents = one.train.documents + one.holdout.documents
        stages.say(f"{one.name:<12} {documents:>7,} documents  {one.train.tokens:>10,} tokens  {speed:5.1f} MB/s")

    return say


def _summary(facts: Facts) -> None:
    """The losses of every corpus, at the switchpoint and at the end."""
    losses, marks = facts.history.evaluations, facts.marks
    before, after = losses[marks.switchpoint], losses[marks.num_steps]
    print(f"\n{'held-out loss':<14} {'switchpoint':>12} {'end':>8} {'change':>8} {'tokens read':>13}")
    forecast = facts.run.plan().forecast()
    for name in sorted(before, key=lambda name: before[name] - after[name], reverse=True):
        change = after[name] - before[name]
        print(f"{name:<14} {before[name]:>12.3f} {after[name]:>8.3f} {change:>+8.3f} {forecast[name].tokens:>13,}")


def _verdict(result: Result, same: int, out: Path) -> int:
    print(
        f"\n{result.num_as_planned} of {result.num_steps} batches as planned. The report: {_shown(out / 'report.html')}"
    )
    if result.passed and same == result.num_steps:
        return 0
    sys.stdout.flush()
    faults = [*result.faults, *([] if same == result.num_steps else ["same.yaml gives other batches"])]
    print("demo: the run was not as planned: " + "; ".join(faults[:3]), file=sys.stderr)
    return 1


def _start_fresh(out: Path) -> None:
    """An empty folder at `out`; refuses to empty one that holds anything this program did not make."""
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / MARKER).exists())):
        raise DemoError(f"{out} exists and was not made by the demo: name another folder with --out")
    try:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).touch()
    except OSError as error:
        raise DemoError(f"cannot write to {out}: {error.strerror}") from error


def _settings(options: argparse.Namespace) -> Settings:
    samples = None if options.no_samples else options.samples or (SAMPLES if SAMPLES.is_dir() else None)
    out = options.out.resolve()
    if samples:
        # the real vocabulary is six times as large, and so is the cost of a step
        return Settings(out=out, num_steps=options.steps or 150, samples=samples.resolve(), eval_samples=16)
    steps = options.steps or 300
    return Settings(out=out, num_steps=steps, samples=None, eval_samples=32 if steps >= 100 else 8)


def _shown(path: Path) -> Path:
    """`path` as short as it can be said from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _steps(text: str) -> int:
    if not text.isdigit() or int(text) < FEWEST_STEPS:
        raise argparse.ArgumentTypeError(f"needs at least {FEWEST_STEPS} steps for all that happens, found {text!r}")
    return int(text)


def _folder(text: str) -> Path:
    if not (path := Path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Convert corpora, serve a live schedule, train across a switchpoint, edit, kill, resume, check.",
        epilog="Example: python -m demo --out demo-out --steps 300",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo-out"), metavar="DIR", help="everything goes here [%(default)s]"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--samples", type=_folder, metavar="DIR", help="folder with real samples [../shared/data, if it is there]"
    )
    where.add_argument("--no-samples", action="store_true", help="use stand-ins even where samples are at hand")
    parser.add_argument("--steps", type=_steps, metavar="N", help="steps to train [300; 150 with samples]")
    parser.add_argument("--picture", type=Path, metavar="SVG", help="also write the plot of shares to this file")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    sys.exit(main())
