"""`switchpoint-mixer`: look at the plan of a run before it trains, or after. Tables for people, --json for programs."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mixer.errors import MixerError, ShardError
from mixer.plan import Plan
from mixer.plot import plot_plan
from mixer.runfile import RunFile, load_run

EXAMPLES = """examples:
  switchpoint-mixer show cfg.yaml
  switchpoint-mixer forecast cfg.yaml --size c4=160e9tok --size flan=3.5e9tok
  switchpoint-mixer batch cfg.yaml 6000
  switchpoint-mixer locate cfg.yaml starcoder 12345
  switchpoint-mixer plot cfg.yaml --out schedule.svg
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0, 1 (the work failed) or 2 (the call or its files were wrong)."""
    arguments = _parser().parse_args(argv)
    try:
        run = load_run(arguments.config, dict(arguments.size))
        arguments.command(run, run.plan(), arguments)
        sys.stdout.flush()
    except MixerError as error:
        print(f"switchpoint-mixer: {error}", file=sys.stderr)
        return 1 if isinstance(error, ShardError) else 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has gone
        return 1
    except OSError as error:
        print(f"switchpoint-mixer: {error}", file=sys.stderr)
        return 1
    return 0


def show(run: RunFile, plan: Plan, arguments: argparse.Namespace) -> None:
    schedule = run.schedule
    if arguments.json:
        return _print_json({"run": run.name, **schedule.to_dict()})
    print(f"{run.name}: {schedule.num_steps:,} steps x {schedule.global_batch_size:,} samples x "
          f"{schedule.seq_len:,} tokens = {_count(schedule.num_steps * schedule.tokens_per_step)} tokens")  # fmt: skip
    rows = [
        [
            f"{phase.start:,}",
            _count(phase.start * schedule.tokens_per_step),
            ", ".join(f"{name} {weight / 1e9:g}" for name, weight in phase.mixture.items() if weight),
            f"{phase.ramp.shape} over {phase.ramp.length:,}" if phase.ramp else "",
        ]
        for phase in schedule.phases
    ]
    _print_table(["from step", "tokens", "mixture", "ramp"], rows)
    return None


def forecast(run: RunFile, plan: Plan, arguments: argparse.Namespace) -> None:
    step = plan.schedule.num_steps if arguments.step is None else arguments.step
    forecasts = plan.forecast(step)
    if arguments.json:
        return _print_json({"step": step, "corpora": {name: vars(f) for name, f in forecasts.items()}})
    print(f"below step {step:,}:")
    rows = [
        [name, f"{f.samples:,}", _count(f.tokens), f"{f.epochs:.3f}",
         "never" if f.first_repeat_step is None else f"{f.first_repeat_step:,}"]
        for name, f in forecasts.items()
    ]  # fmt: skip
    _print_table(["corpus", "samples", "tokens", "epochs", "repeats from step"], rows)
    for name, f in forecasts.items():
        if f.first_repeat_step is not None:
            print(f"warning: {name} is read again from step {f.first_repeat_step:,} on; to avoid it use it from step "
                  f"{f.earliest_start:,} on, or at an average weight of at most {f.largest_weight:.4g}")  # fmt: skip
    return None


def batch(run: RunFile, plan: Plan, arguments: argparse.Namespace) -> None:
    found = plan.batch(arguments.step)
    names = [plan.names[index] for index in found.corpus.tolist()]
    columns = {"ordinal": found.ordinal.tolist(), "epoch": found.epoch.tolist(), "sample_id": found.sample_id.tolist()}
    if arguments.json:
        return _print_json({"step": arguments.step, "corpus": names, **columns})
    print(f"step {arguments.step:,}: " + ", ".join(f"{n:,} of {name}" for name, n in sorted(Counter(names).items())))
    shown = len(names) if arguments.all else 16
    lines = zip(names, *columns.values(), strict=True)
    rows = [[str(slot), name, *map(str, rest)] for slot, (name, *rest) in enumerate(lines)]
    _print_table(["slot", "corpus", *columns], rows[:shown])
    if shown < len(rows):
        print(f"… and {len(rows) - shown:,} more (--all)")
    return None


def locate(run: RunFile, plan: Plan, arguments: argparse.Namespace) -> None:
    end = plan.schedule.num_steps if arguments.end is None else arguments.end
    found = plan.steps_of(arguments.corpus, arguments.sample, arguments.start, end)
    if arguments.json:
        return _print_json([{"step": step, "slot": slot} for step, slot in found])
    print(
        f"{arguments.corpus} sample {arguments.sample:,}: read {len(found):,} times from {arguments.start:,} to {end:,}"
    )
    _print_table(["step", "slot"], [[f"{step:,}", str(slot)] for step, slot in found])
    return None


def plot(run: RunFile, plan: Plan, arguments: argparse.Namespace) -> None:
    plot_plan(plan, run.name, arguments.out)
    print(arguments.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="switchpoint-mixer",
        description="Which sample stands where: the plan of a run, from its YAML file.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(command: Any, description: str) -> argparse.ArgumentParser:
        example = next(line for line in EXAMPLES.splitlines() if f" {command.__name__} " in line)
        sub = commands.add_parser(
            command.__name__, help=description, description=description, epilog=f"example: {example.strip()}"
        )
        sub.set_defaults(command=command)
        sub.add_argument("config", help="the run's YAML file")
        sub.add_argument("--size", action="append", default=[], metavar="NAME=TOKENS", type=_size,
                         help="size of a corpus that is not on disk: 12e9tok, or a number of samples")  # fmt: skip
        if command is not plot:
            sub.add_argument("--json", action="store_true", help="for programs")
        return sub

    add(show, "the phases of the schedule")
    add(forecast, "samples, tokens and epochs of each corpus, and where it begins to repeat").add_argument(
        "--step", type=int, help="count what is read below this step (default: the whole run)"
    )
    sub = add(batch, "what stands in each slot of a step")
    sub.add_argument("step", type=int)
    sub.add_argument("--all", action="store_true", help="every slot, not only the first 16")
    sub = add(locate, "every step that reads a sample")
    sub.add_argument("corpus")
    sub.add_argument("sample", type=int)
    sub.add_argument("--start", type=int, default=0, help="first step to look at")
    sub.add_argument("--end", type=int, help="first step not to look at (default: the end of the run)")
    add(plot, "a picture of the schedule").add_argument("--out", default="schedule.svg", help=".svg, .png or .pdf")
    return parser


def _size(text: str) -> tuple[str, str]:
    name, equals, size = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=TOKENS like c4=128e9tok, found '{text}'")
    return name, size


def _print_table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_json(value: Any) -> None:
    print(json.dumps(value))


def _count(tokens: int) -> str:
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if tokens >= size:
            return f"{tokens / size:.1f}{unit}"
    return f"{tokens:,}"
