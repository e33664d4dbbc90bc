"""Many runs of one configuration: all combinations of some values, started, continued and summed up.

    python -m trainer.sweep trainer/configs/sft/gsm8k.yaml 160m.yaml --paper-seeds --over lr_schedule.peak=4e-4,8e-4

Each combination has a folder of its own, OUT/<its values>, with `log.txt`, the metrics file, checkpoints, and, last of
all, `done.json`. The same command again skips what is done, and lets what was killed go on from its newest checkpoint.
A folder that holds a run of another configuration is refused. `seed` stands for the data seed too, unless that is swept
over or given by itself: as in the paper, a seed is another order of samples. Runs are processes, a few at a time.

Exit codes: 0 all done, 1 a run failed (the others are done), 2 the call or the configuration is wrong, 130 interrupted.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from tqdm import tqdm

from trainer.config import Config
from trainer.errors import ConfigError, TrainerError
from trainer.loading import load
from trainer.summary import as_yaml
from trainer.sweep_results import Outcome, as_csv, as_json, as_table, best, final_losses, summarise

PAPER_SEEDS = "1337,895,3641,3181,9762"
PAPER_RATES = (
    "4e-6,8e-6,1e-5,2e-5,4e-5,5e-5,6e-5,7e-5,8e-5,9e-5,1e-4,1.2e-4,1.4e-4,1.6e-4,1.8e-4,2e-4,2.4e-4,4e-4,5e-4,6e-4,"
    "8e-4,1e-3,2e-3,3e-3,4e-3,6e-3"
)
_OUTPUTS = ("save_folder", "metrics_file", "autoresume", "run_name")


class Task(NamedTuple):
    """One combination: its values, where it goes, and the overrides that make its run."""

    values: Mapping[str, str]
    folder: Path
    overrides: Sequence[str]
    config: Config

    @property
    def done(self) -> Path:
        return self.folder / "done.json"

    @property
    def identity(self) -> str:
        """The whole configuration, as YAML."""
        return as_yaml(self.config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep; returns the exit code."""
    options = _parser().parse_intermixed_args(arguments)
    try:
        tasks = plan(options.config, options.overrides, _axes(options), options.out)
        open_tasks = [task for task in tasks if not is_done(task)]
    except TrainerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    _say(f"{len(tasks)} runs, {len(tasks) - len(open_tasks)} of them done")
    if options.dry_run:
        for task in open_tasks:
            _say(str(task.folder))
        return 0
    devices = options.devices.split(",") if options.devices else [None] * options.jobs
    try:
        failed = run_all(open_tasks, devices, options.command.split() if options.command else _COMMAND)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on where this one stopped\n")
        return 130
    report(tasks, options.out, options.loss or next(iter(tasks[0].config.corpora)))
    for task in failed:
        sys.stderr.write(f"failed: {task.folder}, see {task.folder / 'log.txt'}\n")
    return 1 if failed else 0


def plan(config: Path, overrides: Sequence[str], axes: Mapping[str, Sequence[str]], out: Path) -> list[Task]:
    """All combinations of `axes`, key to values, the last key changing fastest. Raises ConfigError for any of them."""
    given = {override.partition("=")[0] for override in overrides} | set(axes)
    if taken := sorted(given.intersection(_OUTPUTS)):
        raise ConfigError([f"{taken[0]} is chosen by the sweep, a folder for each run: leave it out, or give --out"])
    tasks = []
    for combination in product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        folder = out / (",".join(f"{key}={value}" for key, value in values.items()).replace("/", "_") or "run")
        changed = [f"{key}={value}" for key, value in values.items()]
        if "seed" in values and "data_seed" not in given:
            changed.append(f"data_seed={values['seed']}")
        outputs = [f"save_folder={folder / 'checkpoints'}", f"metrics_file={folder / 'metrics.jsonl'}"]
        every = [*overrides, *changed, *outputs, "autoresume=true"]
        tasks.append(Task(values, folder, every, load(config, every)))
    return tasks


def is_done(task: Task) -> bool:
    """Whether this very run is finished; raises ConfigError where the folder holds one of another configuration."""
    marks = [path for path in (task.folder / "config.yaml", task.done) if path.exists()]
    if not marks:
        return False
    if (task.folder / "config.yaml").read_text() != task.identity:
        raise ConfigError([f"{task.folder} holds a run of another configuration: give another --out, or remove it"])
    return task.done in marks


def run_all(tasks: Sequence[Task], devices: Sequence[str | None], command: Sequence[str]) -> list[Task]:
    """Run `tasks`, one on each of `devices` at a time; returns those that failed, in order."""
    free: SimpleQueue[str | None] = SimpleQueue()
    for device in devices:
        free.put(device)
    running: set[subprocess.Popen[bytes]] = set()
    stopping = threading.Event()
    pool = ThreadPoolExecutor(len(devices))

    def work(task: Task) -> bool:
        device = free.get()
        try:
            return stopping.is_set() or _run(task, device, command, running)
        finally:
            free.put(device)

    try:
        outcomes = list(tqdm(pool.map(work, tasks), total=len(tasks), disable=None, unit="run"))
        return [task for task, good in zip(tasks, outcomes, strict=True) if not good]
    finally:
        stopping.set()
        for process in list(running):
            process.terminate()
        pool.shutdown()


def _run(task: Task, device: str | None, command: Sequence[str], running: set["subprocess.Popen[bytes]"]) -> bool:
    """One run, in a process of its own, to its end; whether it went well."""
    task.folder.mkdir(parents=True, exist_ok=True)
    _write(task.folder / "config.yaml", task.identity)
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": device} if device is not None else {})
    with (task.folder / "log.txt").open("ab") as output:
        process = subprocess.Popen(
            [*command, str(task.folder / "config.yaml")], stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        running.add(process)
        try:
            code = process.wait()
        finally:
            running.discard(process)
    if code == 0:
        _write(task.done, json.dumps({"values": task.values, "losses": final_losses(_metrics(task))}, indent=1))
    return code == 0


def report(tasks: Sequence[Task], out: Path, loss: str) -> None:
    """Write results.json and results.csv of what is done into `out`, and print the table and the best setting."""
    outcomes = [Outcome(task.values, final_losses(_metrics(task))) for task in tasks if task.done.exists()]
    summaries = summarise(outcomes)
    chosen = best(summaries, loss)
    if not outcomes:
        return
    _write(out / "results.json", as_json(outcomes, summaries, chosen, loss))
    _write(out / "results.csv", as_csv(outcomes))
    _say(as_table(summaries))
    if chosen and chosen.values:
        shown = " ".join(f"{key}={value}" for key, value in chosen.values.items())
        _say(f"lowest {loss}: {shown}")


_COMMAND = (sys.executable, "-m", "trainer")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _metrics(task: Task) -> Path:
    return task.folder / "metrics.jsonl"


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _axes(options: argparse.Namespace) -> dict[str, list[str]]:
    """Key to values, in the order given; raises ConfigError for what is none, or stands twice."""
    rates = [f"lr_schedule.peak={PAPER_RATES}"] if options.paper_rates else []
    given = [*options.over, *rates, *([f"seed={PAPER_SEEDS}"] if options.paper_seeds else [])]
    axes: dict[str, list[str]] = {}
    for one in given:
        key, equals, values = one.partition("=")
        chosen = [value for value in values.split(",") if value]
        if not equals or not key or not chosen or key in axes or len(set(chosen)) < len(chosen):
            raise ConfigError([f"--over {one!r} must be a new key=value,value,... as in --over seed=1337,895"])
        axes[key] = chosen
    return axes


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.sweep",
        description="Run one configuration with all combinations of some values, and compare the final losses.",
        epilog="Example: python -m trainer.sweep trainer/configs/sft/gsm8k.yaml --paper-seeds --paper-rates --jobs 2",
    )
    add: Callable[..., object] = parser.add_argument
    add("config", type=Path, metavar="cfg.yaml", help="the configuration of every run")
    add("overrides", nargs="*", metavar="key=value", help="replaces a key in every run; or a file, laid over")
    add("--over", action="append", default=[], metavar="key=v1,v2", help="a key and the values it takes; repeatable")
    add("--paper-seeds", action="store_true", help=f"--over seed={PAPER_SEEDS}")
    add("--paper-rates", action="store_true", help="--over lr_schedule.peak= the 26 candidates of the paper")
    add("--out", type=Path, default=Path("sweep"), metavar="DIR", help="where the runs go; default %(default)s")
    add("--jobs", type=_positive, default=1, metavar="N", help="runs at a time; default %(default)s")
    add("--devices", metavar="0,1", help="GPUs, of which each run has one; that many runs at a time")
    add("--loss", metavar="NAME", help="what the best setting is chosen by; default: the first corpus's held-out loss")
    add("--command", metavar="CMD", help="what starts a run, as in 'composer -n 8 trainer/run.py'")
    add("--dry-run", action="store_true", help="check every run, list those that would be started, and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
