"""Which checkpoint a run starts from, brought to this machine and found fit to be loaded."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from composer import Callback, Logger, State, Trainer
from composer.utils import dist, reproducibility

from trainer.checkpoints import sharded
from trainer.checkpoints.bucket import Bucket
from trainer.checkpoints.files import complete_checkpoints, damage, is_complete
from trainer.checkpoints.names import Name
from trainer.checkpoints.reading import ALLOWED, check
from trainer.checkpoints.settings import make_private, spool_of
from trainer.checkpoints.together import together
from trainer.config import Config
from trainer.errors import ResumeError

log = logging.getLogger(__name__)

FETCHED = "resume"  # in the spool, while a checkpoint is loaded


def resume_point(config: Config) -> Path | None:
    """The checkpoint to start from, the same on every rank: with `autoresume` the newest, else `load_path`, else None.

    One in a bucket is fetched once on each node. Raises ResumeError where a run without `autoresume` would write among
    later checkpoints of another run, and where the checkpoint is none or does not fit; CheckpointError where a bucket
    cannot be reached.
    """
    place = together((lambda: _choose(config)) if dist.get_global_rank() == 0 else None)[0]
    if place is None:
        return None
    here = dist.get_global_rank() - dist.get_local_rank()  # the rank that fetches and checks for this node
    ready = together((lambda: _ready(place, config)) if dist.get_local_rank() == 0 else None)[here]
    assert ready
    path, changed = ready
    for line in changed:
        log.warning("other than when %s was saved: %s", place, line)
    return path


def _ready(place: Path | str, config: Config) -> tuple[Path, list[str]]:
    path = _fetch(place, config) if isinstance(place, str) else place
    in_parts = config.fsdp is not None and config.fsdp.state == "sharded"
    if path.is_dir() != in_parts:
        raise ResumeError(
            f"{place} is {'in parts' if path.is_dir() else 'one file'}, and fsdp.state asks for "
            f"{'parts' if in_parts else 'one file'}: go on with the fsdp.state it was saved with"
        )
    return path, check(path, config)


def after_loading(trainer: Trainer, path: Path | None, config: Config) -> None:
    """What is left to do when Composer has loaded the checkpoint, if there was one."""
    if path and path.is_dir():
        sharded.load_rest(trainer, path, ALLOWED)
    dist.barrier()
    if dist.get_local_rank() == 0:
        shutil.rmtree(spool_of(config) / FETCHED, ignore_errors=True)
    # Composer gives the random state back only where it replays batches, which this trainer never does.
    trainer.state.callbacks.append(Randomness(trainer._rng_state))
    trainer._rng_state = None


class Randomness(Callback):
    """Puts the random state back before the first step: what came before it, such as starting workers, has used it."""

    def __init__(self, of_ranks: list[dict[str, Any]] | None) -> None:
        self._of_ranks = of_ranks

    def batch_start(self, state: State, logger: Logger) -> None:
        if self._of_ranks is not None:
            reproducibility.load_rng_state(self._of_ranks)
            self._of_ranks = None


def _choose(config: Config) -> Path | str | None:
    """A local checkpoint that is whole, the address of one, or nothing."""
    saved = _saved(config.save_folder)
    if config.autoresume and saved:
        return _newest_whole(saved)
    if saved and config.load_path != saved[-1]:
        raise ResumeError(
            f"save_folder {config.save_folder} already holds {str(saved[-1]).rpartition('/')[2]}: go on from it with "
            "autoresume=true, or give another save_folder"
        )
    if isinstance(config.load_path, Path):
        if not is_complete(config.load_path):
            raise ResumeError(f"load_path must name a checkpoint like step-00001000.pt, found {config.load_path}")
        _newest_whole([config.load_path])
    return config.load_path


def _newest_whole(saved: Sequence[Path | str]) -> Path | str:
    for place in reversed(saved):
        torn = None if isinstance(place, str) else damage(place)  # what is fetched is verified by that
        if torn is None:
            return place
        log.warning("%s is damaged (%s) and is left out", place, torn)
    raise ResumeError(f"{saved[-1]} is damaged, and there is no earlier one: give another load_path or save_folder")


def _saved(folder: Path | str | None) -> list[Path] | list[str]:
    """The complete checkpoints there, oldest first."""
    if isinstance(folder, str):
        return [f"{folder}/{name}" for name in Bucket(folder).names()]
    return complete_checkpoints(folder) if folder else []


def _fetch(address: str, config: Config) -> Path:
    """The checkpoint at `address`, on this machine."""
    parent, _, text = address.rpartition("/")
    name = Name.parse(text)
    if name is None:
        raise ResumeError(f"load_path must name a checkpoint like step-00001000.pt, found {address}")
    folder = spool_of(config) / FETCHED
    shutil.rmtree(folder, ignore_errors=True)
    make_private(spool_of(config))
    folder.mkdir(mode=0o700)
    log.info("fetching %s", address)
    return Bucket(parent).fetch(name, folder)
