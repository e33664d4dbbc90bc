"""Checkpoints that are complete or absent, whatever kills the process.

Composer's own saver writes in place and replaces its "latest" link in two steps: a kill can leave a torn file under
the final name, or no link at all, and a run that resumes over a later file is refused. Here a checkpoint is written
under a temporary name, forced to disk and then renamed to `step-00000040.pt`: the rename is the commit mark, and
the newest name is the newest checkpoint. What is inside is Composer's (`composer.utils.checkpoint`): model,
optimizer, time, random state, and the position in the data. The folder must be shared by all nodes.
"""

import contextlib
import logging
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from composer import Callback, Logger, State
from composer.utils import checkpoint, dist

from trainer.config import Config
from trainer.errors import CheckpointError, ResumeError
from trainer.models.size import identity

log = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d{8,})\.pt")


def resume_point(config: Config) -> Path | None:
    """The checkpoint to start from, the same on every rank: with `autoresume` the newest, else `load_path`, else None.

    Raises ResumeError where a run without `autoresume` would write among later checkpoints of another run, and where
    `load_path` is no checkpoint.
    """
    answer: list[Path | ResumeError | None] = [None]
    if dist.get_global_rank() == 0:
        try:
            answer = [_resume_point(config)]
        except ResumeError as error:
            answer = [error]
    dist.broadcast_object_list(answer)
    if isinstance(answer[0], ResumeError):
        raise answer[0]
    return answer[0]


def _resume_point(config: Config) -> Path | None:
    saved = complete_checkpoints(config.save_folder) if config.save_folder else []
    if config.autoresume and saved:
        return _checked(saved[-1], config)
    if config.load_path and not zipfile.is_zipfile(config.load_path):
        raise ResumeError(f"load_path must name a checkpoint like step-00001000.pt, found {config.load_path}")
    if saved and config.load_path != saved[-1]:
        raise ResumeError(
            f"save_folder {config.save_folder} already holds {saved[-1].name}: go on from it with autoresume=true, "
            "or give another save_folder"
        )
    return _checked(config.load_path, config) if config.load_path else None


def _checked(path: Path, config: Config) -> Path:
    """`path`, unless it holds another model; tensors stay on disk. What else must fit, mixer checks on loading."""
    saved = torch.load(path, map_location="cpu", mmap=True, weights_only=False)["state"]
    kept = dict(saved["callbacks"]).get(Checkpoints.__qualname__, {})
    was, now = kept.get("model"), identity(config.model)
    if was is not None and was != now:
        differing = ", ".join(f"{key} was {was.get(key)}, is {now[key]}" for key in now if was.get(key) != now[key])
        raise ResumeError(f"{path} holds another model: {differing}")
    return path


def complete_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in `folder`, oldest first. A file that was damaged later is left out, with a warning."""
    named = [path for path in folder.glob("step-*.pt") if _NAME.fullmatch(path.name)]
    complete = []
    for path in sorted(named, key=lambda path: int(path.stem.removeprefix("step-"))):
        if zipfile.is_zipfile(path):  # looks for the directory that torch.save writes last
            complete.append(path)
        else:
            log.warning("%s is not a whole checkpoint and is left out", path)
    return complete


class Checkpoints(Callback):
    """Saves into `folder` at each of the configuration's intervals and at the end, and keeps the newest."""

    def __init__(self, folder: Path, config: Config) -> None:
        self._folder = folder
        self._interval = config.steps(config.save_interval)
        self._num_steps = config.num_steps
        self._num_to_keep = config.save_num_checkpoints_to_keep
        self._model = identity(config.model)

    def state_dict(self) -> dict[str, Any]:
        return {"model": self._model}

    def fit_start(self, state: State, logger: Logger) -> None:
        if dist.get_global_rank() == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            for torn in self._folder.glob("step-*.tmp"):
                torn.unlink()

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        step = int(state.timestamp.batch)
        if step % self._interval and step != self._num_steps:
            return
        final = self._folder / f"step-{step:08d}.pt"
        temporary = final.with_suffix(".tmp")
        try:
            checkpoint.save_checkpoint(state, str(temporary))
            if dist.get_global_rank() == 0:
                publish(temporary, final)
                self._remove_old()
        except (OSError, RuntimeError) as error:
            cause = _os_error(error)
            if cause is None:
                raise
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise CheckpointError(
                f"the checkpoint {final} could not be written: {cause.strerror or cause}; earlier ones are untouched: "
                "free some space and start again with autoresume=true"
            ) from error
        dist.barrier()

    def _remove_old(self) -> None:
        if self._num_to_keep < 0:
            return
        kept = max(1, self._num_to_keep)
        for path in complete_checkpoints(self._folder)[:-kept]:
            path.unlink()


def _os_error(error: BaseException | None) -> OSError | None:
    """The system's error behind `error`: torch.save tells of a full disk by a RuntimeError raised while handling it."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def publish(temporary: Path, final: Path) -> None:
    """Force `temporary` to disk and give it its final name, in this order."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
