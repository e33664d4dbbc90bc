"""The callback that writes checkpoints.

Composer's own saver writes in place and replaces its "latest" link in two steps: a kill can leave a torn file under
the final name, or no link at all, and a run that resumes over a later file is refused. Here a checkpoint is written
under a temporary name, forced to disk and renamed: the newest name is the newest checkpoint, and older ones are removed
only after it is there. What is inside is Composer's: model, optimizer, time, random state, the position in the data.
A save folder on disk must be shared by all nodes. One in a bucket is written into a spool on each node first.
"""

import contextlib
import logging
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from composer import Callback, Logger, State
from composer.utils import dist, reproducibility

from trainer.checkpoints import sharded
from trainer.checkpoints.bucket import Bucket
from trainer.checkpoints.files import MADE_WITH, complete_checkpoints, describe, publish, remove
from trainer.checkpoints.names import Name, superseded
from trainer.checkpoints.reading import made_with
from trainer.checkpoints.settings import folder_of, make_private
from trainer.checkpoints.together import together
from trainer.checkpoints.uploads import Uploads
from trainer.config import Config
from trainer.errors import CheckpointError
from trainer.stopping import Stopping

log = logging.getLogger(__name__)


class Checkpoints(Callback):
    """Saves at each interval, at switchpoints, at the end, and where the run is asked to end; keeps the newest.

    `switchpoints` is asked each step, since a live schedule changes them.
    """

    def __init__(self, config: Config, *, switchpoints: Callable[[], Collection[int]], stopping: Stopping) -> None:
        folder = folder_of(config)
        assert folder
        self._folder = folder
        self._interval = config.steps(config.save_interval)
        self._num_steps = config.num_steps
        self._num_to_keep = config.save_num_checkpoints_to_keep
        self._switchpoints = switchpoints if config.save_at_switchpoints else list
        self._stopping = stopping
        self._made_with = made_with(config)
        self._bucket = Bucket(config.save_folder) if isinstance(config.save_folder, str) else None
        self._uploads: Uploads | None = None
        self._unsent: sharded.Unsent | None = None
        if self._bucket and dist.get_global_rank() == 0:
            self._uploads = Uploads(self._bucket, num_to_keep=self._num_to_keep)
        # In a shared folder rank 0 renames and removes; in a spool, which each node has, its first rank.
        self._tidies = dist.get_local_rank() == 0 if self._bucket else dist.get_global_rank() == 0

    def state_dict(self) -> dict[str, Any]:
        return {MADE_WITH: self._made_with}

    def fit_start(self, state: State, logger: Logger) -> None:
        together(self._begin if self._tidies else None)

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        step = int(state.timestamp.batch)
        at_switchpoint = step in self._switchpoints() and step < self._num_steps
        due = at_switchpoint or step % self._interval == 0 or step == self._num_steps or self._stopping.signal
        if not due:
            return
        self._settle()
        if self._unsent and self._tidies:
            remove(self._unsent.folder)
        name = Name(step, at_switchpoint, is_sharded=state.fsdp_sharded_state_dict_enabled)
        write = self._write_parts if name.is_sharded else self._write_file
        write(state, self._folder / str(name))

    def fit_end(self, state: State, logger: Logger) -> None:
        self._settle()
        together(self._uploads.finish if self._uploads else None)
        if self._bucket and self._unsent:
            error = self._unsent.send(self._bucket, num_to_keep=self._num_to_keep)
            if error:
                raise CheckpointError(f"{error}; the parts of the newest checkpoint are in {self._unsent.folder}")

    def close(self, state: State, logger: Logger) -> None:
        """Also after an error: what is on its way arrives."""
        if self._uploads:
            with contextlib.suppress(CheckpointError):
                self._uploads.settle()

    def _begin(self) -> None:
        with self._told(self._folder):
            make_private(self._folder) if self._bucket else self._folder.mkdir(parents=True, exist_ok=True)
        for torn in self._folder.glob("step-*.tmp"):
            remove(torn)

    def _settle(self) -> None:
        together(self._uploads.settle if self._uploads else None)

    def _write_file(self, state: State, final: Path) -> None:
        """The whole state by rank 0; every rank has a part in collecting it."""
        collected = {"state": state.state_dict(), "rng": reproducibility.get_rng_state()}

        def write() -> None:
            temporary = final.with_name(f"{final.name}.tmp")
            with self._told(final, temporary):
                with temporary.open("wb") as file:  # by Python's own writing the system's error is known
                    torch.save(collected, file)
                publish(temporary, final)

        together(write if dist.get_global_rank() == 0 else None)
        if self._uploads:
            self._uploads.send(final)
        elif self._tidies and not self._bucket:
            self._remove_old()

    def _write_parts(self, state: State, final: Path) -> None:
        """Every rank its own part."""
        temporary = final.with_name(f"{final.name}.tmp")
        with self._told(final, temporary):
            parts = sharded.write(state, temporary)
        told: dict[str, Any] = {}
        for of_rank in together(lambda: describe(parts)):
            told |= of_rank or {}

        def commit() -> None:
            with self._told(final, temporary):
                sharded.commit(temporary, final, told, self._made_with)

        together(commit if self._tidies else None)
        if self._bucket:
            self._unsent = sharded.Unsent(final, [part.name for part in parts])
            if error := self._unsent.send(self._bucket, num_to_keep=self._num_to_keep):
                log.warning("%s; it stays in %s until the next is written", error, self._folder)
            else:
                self._unsent = None
        elif self._tidies:
            self._remove_old()

    def _remove_old(self) -> None:
        there = {Name.parse(path.name): path for path in complete_checkpoints(self._folder)}
        for name in superseded([name for name in there if name], self._num_to_keep):
            remove(there[name])

    @contextlib.contextmanager
    def _told(self, final: Path, temporary: Path | None = None):
        """The system's errors in one line; what was begun is removed."""
        try:
            yield
        except (OSError, RuntimeError, torch.distributed.checkpoint.CheckpointException) as error:
            cause = _os_error(error)
            if cause is None:
                raise
            if temporary:
                with contextlib.suppress(OSError):
                    shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink(missing_ok=True)
            raise CheckpointError(
                f"the checkpoint {final} could not be written: {cause.strerror or cause}; earlier ones are untouched: "
                "free some space and start again with autoresume=true"
            ) from error


def _os_error(error: BaseException | None) -> OSError | None:
    """The system's error behind `error`: torch.save tells of a full disk by a RuntimeError raised while handling it."""
    if failures := getattr(error, "failures", None):  # by rank, of writing in parts
        error = next(iter(failures.values()))[0]
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
