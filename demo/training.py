"""The main stage: train across the switchpoint, edit the schedule meanwhile, kill the trainer, resume it."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from demo.editing import Edit, find_run, post_revision
from demo.metrics import Line, read_history
from demo.processes import Child, DemoError, start_trainer
from demo.settings import Settings

PATIENCE = 180.0  # seconds without a new step
LOOK_EVERY = 0.1  # seconds

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What happened, besides what the metrics file says."""

    run_id: str
    edit: Edit
    killed_after: int  # the last step that the killed trainer had written down
    resumed_at: int


def train(config: Path, url: str, settings: Settings, say: Say) -> Trained:
    """Both launches of the trainer, with the edit and the kill between them."""
    with start_trainer(config, log=settings.log("train-1")) as trainer:
        _wait(trainer, settings, settings.edit_at, "importing Composer, then the first steps")
        run_id = find_run(url)
        edit = post_revision(url, run_id, settings)
        revision = edit.revision
        say(
            f"step {edit.step}: {revision['author']} posts revision {revision['number']} over REST, "
            f"in force from step {revision['effective_step']} (frontier was {edit.frontier})"
        )
        _wait(trainer, settings, settings.kill_at, "trains on", revision=revision["number"])
        trainer.kill()
    lines = read_history(settings.metrics_file).lines
    killed_after = lines[-1]["step"]
    say(f"step {killed_after}: the trainer is killed (SIGKILL); it knew revision {lines[-1]['revision']}")
    with start_trainer(config, log=settings.log("train-2")) as trainer:
        _wait(trainer, settings, settings.num_steps - 1, "starts again", beyond=len(lines))
        if trainer.wait(PATIENCE) != 0:
            raise trainer.failed()
    resumed_at = read_history(settings.metrics_file).lines[len(lines)]["step"]
    say(f"resumed at step {resumed_at} from its newest checkpoint; step {settings.num_steps}: done")
    return Trained(run_id=run_id, edit=edit, killed_after=killed_after, resumed_at=resumed_at)


def _wait(trainer: Child, settings: Settings, step: int, doing: str, *, revision: int = 0, beyond: int = 0) -> None:
    """Return once a line after the first `beyond` is of `step`, or a later one, and of `revision`."""
    progress = _Progress(settings.num_steps, doing)
    seen: Line | None = None
    since = time.monotonic()
    while True:
        ended = trainer.exit_code
        lines = read_history(settings.metrics_file).lines
        line = lines[-1] if len(lines) > beyond else None
        if line and line["step"] >= step and line["revision"] >= revision:
            progress.end()
            return
        if ended is not None:
            progress.end()
            if ended:
                raise trainer.failed()
            raise DemoError("the trainer was done before all could happen: try more --steps", trainer.log)
        if line and line != seen:
            seen, since = line, time.monotonic()
            progress.show(line["step"], line["loss"])
        if time.monotonic() - since > PATIENCE:
            raise DemoError(f"the trainer made no step for {PATIENCE:.0f} seconds", trainer.log)
        time.sleep(LOOK_EVERY)


class _Progress:
    """A line that is written over, on a terminal; nothing elsewhere."""

    def __init__(self, num_steps: int, doing: str) -> None:
        self._num_steps = num_steps
        self._on = sys.stdout.isatty()
        if self._on:
            print(f"          … {doing}", end="\r", flush=True)

    def show(self, step: int, loss: float) -> None:
        if self._on:
            done = round(30 * (step + 1) / self._num_steps)
            bar = "█" * done + "░" * (30 - done)
            print(f"\033[K          {bar} step {step + 1}/{self._num_steps}  loss {loss:.2f}", end="\r", flush=True)

    def end(self) -> None:
        if self._on:
            print("\033[K", end="", flush=True)
