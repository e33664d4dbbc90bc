"""`switchpoint-mixer`: look at the plan of a run before it trains, or after. Tables for people, --json for programs.

A run is a YAML file, a ledger that the service exported, or one that it serves (see `mixer.opening`).
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from mixer import reports
from mixer.comparing import compare
from mixer.errors import MixerError, ShardError
from mixer.opening import open_run
from mixer.plan import Plan
from mixer.plot import plot_plan
from mixer.provenance import Provenance
from mixer.ramp import SHAPES, Ramp
from mixer.reports import Report
from mixer.runfile import PlannedRun
from mixer.schedule import Schedule
from mixer.solving import Solver, Use, needed_by
from mixer.weights import UNIT

PROGRAM = "switchpoint-mixer"
RUNS = """A RUN is one of
  cfg.yaml                                the YAML file of a run
  ledger.jsonl                            what `switchpoint-service export` wrote
  http://127.0.0.1:8321/v1/runs/ID        a run at a service, by its id or its name; SWITCHPOINT_TOKEN is its token
"""
STEPS = "Steps are 20000, 20000ba (steps), 41.9e9tok (tokens) or 0.3dur (share of the run)."
EXAMPLES: dict[str, list[str]] = {
    "show": ["show cfg.yaml", "show http://127.0.0.1:8321/v1/runs/midtraining"],
    "forecast": [
        "forecast cfg.yaml --size c4=160e9tok --size flan=3.5e9tok",
        "forecast cfg.yaml --step 20000",
        "forecast cfg.yaml --what-if flan=0.15@40000ba --what-if math=0.12@41.9e9tok",
        "forecast cfg.yaml --earliest-start math=0.12 --ramp linear:500ba",
        "forecast cfg.yaml --largest-weight math@20000ba --until 50000ba",
        "forecast cfg.yaml --needed-by 20000ba",
    ],
    "batch": ["batch cfg.yaml 6000", "batch cfg.yaml 6000 --documents"],
    "locate": [
        "locate cfg.yaml starcoder 12345",
        "locate cfg.yaml starcoder --document train-00000.parquet:17",
        "locate http://127.0.0.1:8321/v1/runs/midtraining c4 --document c4.json.gz:100-120 --folder c4=data/c4/train",
    ],
    "diff": [
        "diff before.yaml after.yaml --step 40000",
        "diff cfg.yaml http://127.0.0.1:8321/v1/runs/midtraining",
    ],
    "plot": ["plot cfg.yaml --out schedule.svg"],
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0, 1 (the work failed) or 2 (the call or its files were wrong)."""
    arguments = _parser().parse_args(argv)
    try:
        report = arguments.command(_open_runs(arguments), arguments)
        if getattr(arguments, "json", False):
            print(json.dumps(report.data))
        else:
            print(*report.lines, sep="\n")
        sys.stdout.flush()
    except MixerError as error:
        return _complain(str(error), 1 if isinstance(error, ShardError) else 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has gone
        return 1
    except OSError as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        return 130
    return 0


Runs = Mapping[str, PlannedRun]


def show(runs: Runs, arguments: argparse.Namespace) -> Report:
    run = runs[arguments.run]
    run.plan()  # what cannot be trained is not shown as if it could
    return reports.show(run)


def forecast(runs: Runs, arguments: argparse.Namespace) -> Report:
    run = runs[arguments.run]
    answers = _answers(run, arguments)
    if arguments.step is None and answers:
        lines = [line for report in answers.values() for line in (*report.lines, "")]
        return Report(data={name: report.data for name, report in answers.items()}, lines=lines[:-1])
    end = run.schedule.num_steps
    report = reports.forecast(run.plan(), end if arguments.step is None else _steps(arguments.step, run.schedule))
    lines = [line for answer in answers.values() for line in ("", *answer.lines)]
    return Report(
        data={**report.data, **{name: answer.data for name, answer in answers.items()}},
        lines=[*report.lines, *lines],
    )


def batch(runs: Runs, arguments: argparse.Namespace) -> Report:
    plan = runs[arguments.run].plan()
    found = plan.batch(_steps(arguments.step, plan.schedule))
    return reports.batch(
        plan, found, _provenance(runs, arguments, plan), documents=arguments.documents, every=arguments.all
    )


def locate(runs: Runs, arguments: argparse.Namespace) -> Report:
    if (arguments.sample is None) == (arguments.document is None):
        raise MixerError("name either a SAMPLE or a --document SOURCE:RECORD")
    run = runs[arguments.run]
    plan = run.plan()
    start = _steps(arguments.start, plan.schedule)
    end = plan.schedule.num_steps if arguments.end is None else _steps(arguments.end, plan.schedule)
    provenance = _provenance(runs, arguments, plan)
    if arguments.document is None:
        plan.steps_of(arguments.corpus, arguments.sample, start, start)  # refuses a sample that there is not
        samples = [[arguments.sample, arguments.sample + 1]]
    else:
        samples = provenance.samples_of(arguments.corpus, *arguments.document)
    reads = provenance.reads_of(arguments.corpus, samples, start, end)
    asked = (arguments.corpus, samples, arguments.document)
    return reports.locate(asked, reads, start=start, end=end, trained=run.step)


def diff(runs: Runs, arguments: argparse.Namespace) -> Report:
    a, b = runs[arguments.run], runs[arguments.other]
    step = None if arguments.step is None else _steps(arguments.step, a.schedule)
    same_seed = (a.data_seed, a.shuffle_window) == (b.data_seed, b.shuffle_window)
    same_seed = same_seed and a.num_groups == b.num_groups == 1  # else there is no one order to compare
    found = compare(a.plan(), b.plan(), step=step, same_seed=same_seed)
    names = tuple(f"{run.name} ({source})" for run, source in ((a, arguments.run), (b, arguments.other)))
    return reports.diff(found, (names[0], names[1]), every=arguments.all)


def plot(runs: Runs, arguments: argparse.Namespace) -> Report:
    run = runs[arguments.run]
    plan = replace(run, num_groups=1).plan()  # weights and counts are the same
    plot_plan(plan, arguments.out, title=run.name, frontier=run.frontier)
    return Report(data=arguments.out, lines=[arguments.out])


def _provenance(runs: Runs, arguments: argparse.Namespace, plan: Plan) -> Provenance:
    return Provenance(plan, {**runs[arguments.run].folders, **dict(arguments.folder)})


def _open_runs(arguments: argparse.Namespace) -> Runs:
    """The runs that a command names, by the words that name them."""
    sizes = dict(arguments.size)
    token = os.environ.get("SWITCHPOINT_TOKEN", "").strip() or None
    sources = [arguments.run, *([arguments.other] if "other" in arguments else [])]
    runs = {
        source: open_run(source, sizes=sizes, token=token, token_over_http=arguments.token_over_http)
        for source in sources
    }
    files = [run for run in runs.values() if run.ledger is None]
    if sizes and not files:
        raise MixerError(f"{sources[0]} knows the sizes of its corpora: leave --size out")
    known = {name for run in files for name in run.corpora}
    if unknown := sizes.keys() - known:
        raise MixerError(f"{sources[0]} has no corpus '{min(unknown)}', it has {', '.join(sorted(known))}")
    return runs


def _answers(run: PlannedRun, arguments: argparse.Namespace) -> dict[str, Report]:
    """The questions of `forecast`, by their names in JSON."""
    schedule = run.schedule
    end = None if arguments.until is None else _steps(arguments.until, schedule)

    def uses(asked: list[tuple[str, int | None, str | None]]) -> list[Use]:
        steps = [None if step is None else _steps(step, schedule) for _, _, step in asked]
        return [
            Use(corpus=name, weight=weight, start=start, end=end, ramp=_ramp(arguments.ramp, schedule, start))
            for (name, weight, _), start in zip(asked, steps, strict=True)
        ]

    solver = Solver(schedule, run.corpora, frozen=run.frontier or 0, max_epochs=arguments.max_epochs)
    answers = {}
    for name, question in (
        ("what_if", reports.what_if),
        ("earliest_start", reports.earliest_start),
        ("largest_weight", reports.largest_weight),
    ):
        if asked := getattr(arguments, name):
            answers[name] = question(solver, uses(asked))
    if arguments.needed_by is not None:
        step = _steps(arguments.needed_by, schedule)
        answers["needed_by"] = reports.needed_by(needed_by(run.plan(), step, run.shard_bytes), step)
    return answers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Which sample stands where: the plan of a run, by arithmetic.",
        epilog=f"{RUNS}\n{_examples(*EXAMPLES)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(commands, show, "the phases of the schedule, and the revisions made to it")
    _add_questions(_add(commands, forecast, "samples, tokens and epochs of each corpus, and where it begins to repeat"))
    sub = _add(commands, batch, "what stands in each slot of a step")
    sub.add_argument("step", metavar="STEP")
    sub.add_argument("--all", action="store_true", help="every slot, not only the first 16")
    sub.add_argument("--documents", action="store_true", help="and which records of which sources stand there")
    _add_folders(sub)
    sub = _add(commands, locate, "every step that reads a sample, or a source document")
    sub.add_argument("corpus", metavar="CORPUS")
    sub.add_argument("sample", metavar="SAMPLE", type=int, nargs="?")
    sub.add_argument(
        "--document",
        metavar="SOURCE:RECORD[-LAST]",
        type=_document,
        help="a record of a source file, from 1, or several",
    )
    _add_folders(sub)
    sub.add_argument("--start", default="0", metavar="STEP", help="first step to look at")
    sub.add_argument("--end", metavar="STEP", help="first step not to look at (default: the end of the run)")
    sub = _add(commands, diff, "where the weights of two runs differ, and what one reads that the other does not")
    sub.add_argument("--step", metavar="STEP", help="count what is read below it (default: the end of the shorter run)")
    sub.add_argument("--all", action="store_true", help="every difference, not only the first 16")
    sub = _add(commands, plot, "a picture of the schedule, and of how often each corpus has been read")
    sub.add_argument("--out", default="schedule.svg", metavar="FILE", help=".svg, .png or .pdf [%(default)s]")
    return parser


def _add(commands: Any, command: Any, description: str) -> argparse.ArgumentParser:
    """The parser of a command, with what all of them take."""
    sub: argparse.ArgumentParser = commands.add_parser(
        command.__name__,
        help=description,
        description=f"{description}.",
        epilog=f"{RUNS}\n{STEPS}\n\n{_examples(command.__name__)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(command=command)
    sub.add_argument("run", metavar="RUN", help="a YAML file, an exported ledger, or an address")
    if command is diff:
        sub.add_argument("other", metavar="RUN", help="the one to compare it with")
    sub.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="NAME=TOKENS",
        type=_size,
        help="size of a corpus of a YAML file that is not on disk: 12e9tok, or a number of samples",
    )
    sub.add_argument(
        "--token-over-http", action="store_true", help="send the token to another machine without encryption"
    )
    if command is not plot:
        sub.add_argument("--json", action="store_true", help="for programs")
    return sub


def _add_folders(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--folder",
        action="append",
        default=[],
        metavar="NAME=DIR",
        type=_folder,
        help="where a corpus lies, for its documents, if the run does not say",
    )


def _add_questions(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--step", metavar="STEP", help="count what is read below it (default: the whole run)")
    asked = sub.add_argument_group("questions", "each about the schedule as it is written, and as often as you like")
    asked.add_argument(
        "--what-if",
        action="append",
        default=[],
        metavar="NAME=WEIGHT@STEP",
        type=_what_if,
        help="what would be read of a corpus at that weight from that step on",
    )
    asked.add_argument(
        "--earliest-start",
        action="append",
        default=[],
        metavar="NAME[=WEIGHT]",
        type=_earliest_start,
        help="the first step from which it is not read again; without a weight: as it is written",
    )
    asked.add_argument(
        "--largest-weight",
        action="append",
        default=[],
        metavar="NAME[@STEP]",
        type=_largest_weight,
        help="with which it is not read again; without a step: from its first use on",
    )
    asked.add_argument("--needed-by", metavar="STEP", help="what must be on disk for the steps below")
    terms = sub.add_argument_group("their terms")
    terms.add_argument(
        "--until", metavar="STEP", help="from there on the corpus is as written again (default: the end)"
    )
    terms.add_argument(
        "--ramp", metavar="SHAPE:LENGTH", type=_ramp_form, help="how its weight is reached: linear:500ba"
    )
    terms.add_argument(
        "--max-epochs", metavar="N", type=_positive, default=1, help="how often it may be read [%(default)s]"
    )


def _examples(*commands: str) -> str:
    lines = [f"  {PROGRAM} {line}" for command in commands for line in EXAMPLES[command]]
    return "\n".join(["examples:" if len(lines) > 1 else "example:", *lines])


def _size(text: str) -> tuple[str, str]:
    name, equals, size = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=TOKENS like c4=128e9tok, found '{text}'")
    return name, size


def _folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=DIR like c4=data/c4/train, found '{text}'")
    return name, Path(folder)


def _document(text: str) -> tuple[str, int, int]:
    """The source, and the records from the first on to the one after the last."""
    match = re.fullmatch(r"(.+):([0-9]+)(?:-([0-9]+))?", text)
    if not match or int(match[3] or match[2]) < int(match[2]):
        raise argparse.ArgumentTypeError(f"expected SOURCE:RECORD or SOURCE:FIRST-LAST like a.jsonl:17, found '{text}'")
    return match[1], int(match[2]), int(match[3] or match[2]) + 1


Asked = tuple[str, int | None, str | None]
"""Corpus, weight in parts per 10^9, step as written."""


def _what_if(text: str) -> Asked:
    return _asked(text, r"(?P<name>.+)=(?P<weight>[^=@]+)@(?P<step>[^=@]+)", "NAME=WEIGHT@STEP like math=0.12@20000ba")


def _earliest_start(text: str) -> Asked:
    return _asked(text, r"(?P<name>.+?)(=(?P<weight>[^=]+))?(?P<step>)", "NAME=WEIGHT like math=0.12")


def _largest_weight(text: str) -> Asked:
    return _asked(text, r"(?P<name>.+?)(?P<weight>)(@(?P<step>[^@]+))?", "NAME@STEP like math@20000ba")


def _asked(text: str, form: str, like: str) -> Asked:
    match = re.fullmatch(form, text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected {like}, found '{text}'")
    return match["name"], _weight(match["weight"]) if match["weight"] else None, match["step"] or None


def _weight(text: str) -> int:
    weight = Fraction(text) * UNIT if re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9])?", text) else Fraction(0)
    if not 1 <= weight <= UNIT:
        raise argparse.ArgumentTypeError(f"a weight is a number from 1e-9 to 1 like 0.12, found '{text}'")
    return round(weight)


def _ramp_form(text: str) -> tuple[str, str]:
    shape, colon, length = text.partition(":")
    if shape not in SHAPES[1:] or not colon:
        raise argparse.ArgumentTypeError(f"expected linear:500ba or cosine:500ba, found '{text}'")
    return shape, length


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found '{text}'")
    return int(text)


def _steps(text: str, schedule: Schedule, *, start: int = 0) -> int:
    """Steps from `start` on as written on the command line, which need no unit."""
    try:
        return schedule.steps(int(text) if text.isdecimal() else text, start=start)
    except ValueError as error:
        raise MixerError(str(error)) from error


def _ramp(written: tuple[str, str] | None, schedule: Schedule, start: int | None) -> Ramp | None:
    if written is None:
        return None
    if start is None and schedule.batch_sizes and written[1].endswith("tok"):
        raise MixerError(
            "how long a ramp in tokens takes depends on its start, as the batch size changes: give it in ba"
        )
    length = _steps(written[1], schedule, start=start or 0)
    if not length:
        raise MixerError("a ramp takes at least one step")
    return Ramp(shape=written[0], length=length)


def _complain(message: str, code: int) -> int:
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
    return code
