"""Whether a checkpoint may be loaded: it is whole, nothing in it can run, and it belongs to this run.

A checkpoint is a pickle, and Composer loads it as one: whoever can write one could have any program run. So its
pickle is first gone through by torch's restricted reader, which knows the few types of `ALLOWED` and runs nothing
else; the same bytes then say the same to the full one. That holds for local files as for those from a bucket.
"""

import datetime
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.dtypes import UInt32DType
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals
from torch.torch_version import TorchVersion

from trainer.checkpoints import sharded
from trainer.checkpoints.files import MADE_WITH, is_complete, read_mark
from trainer.errors import ResumeError
from trainer.models.size import identity

if TYPE_CHECKING:
    from trainer.config import Config

ALLOWED = [
    datetime.timedelta,  # of Composer's clock
    np._core.multiarray._reconstruct, np.ndarray, np.dtype, UInt32DType,  # of NumPy's random state
    TorchVersion,
]  # fmt: skip
CHANGEABLE = ("lr_schedule", "max_duration", "clip_norm", "precision", "seed")
FIXED = ("model", "optimizer")


def made_with(config: "Config") -> dict[str, Any]:
    """What a checkpoint must say of the run that made it, beside the data, which mixer keeps and checks."""
    optimizer = config.optimizer.model_dump(mode="json")
    values = config.model_dump(mode="json", include={"lr_schedule", "max_duration", "precision", "seed"})
    return {
        "model": identity(config.model),
        "clip_norm": optimizer.pop("clip_norm"),
        "optimizer": optimizer,
        **values,
    }


def check(path: Path, config: "Config") -> list[str]:
    """Raises ResumeError unless the checkpoint can be loaded; returns what is other now and may be, a line each."""
    if not is_complete(path):
        raise ResumeError(f"{path} is not a whole checkpoint")
    was, now = _made_with(path), made_with(config)
    problems = [line for key in FIXED for line in _differences(key, was.get(key), now[key])]
    if problems:
        raise ResumeError(f"{path} holds {_another(problems)}: {', '.join(problems)}")
    return [line for key in CHANGEABLE for line in _differences(key, was.get(key), now[key])]


def _another(problems: list[str]) -> str:
    return "another model" if problems[0].startswith("model") else "the state of an optimizer with other settings"


def _made_with(path: Path) -> Mapping[str, Any]:
    if path.is_dir():
        sharded.check_safe(path, ALLOWED)
        return dict(read_mark(path)[MADE_WITH])
    try:
        kept: Mapping[str, Any] = dict(read_file(path)["callbacks"])
        return dict(kept.get("Checkpoints", {}).get(MADE_WITH, {}))
    except (KeyError, TypeError, ValueError) as error:
        raise ResumeError(f"{path} is no checkpoint of this trainer: {error!r}") from None


def read_state(path: Path) -> Mapping[str, Any]:
    """Weights, and what is no tensor, in a whole checkpoint of either form. Raises ResumeError, OSError."""
    if not path.is_dir():
        return read_file(path)
    if not is_complete(path):
        raise ResumeError(f"{path} is not a whole checkpoint")
    return sharded.read(path, ALLOWED)


def read_file(path: Path) -> Mapping[str, Any]:
    """The state in a checkpoint of one file: Composer's keys, tensors still on disk. Raises ResumeError."""
    try:
        with safe_globals(ALLOWED):
            if unknown := get_unsafe_globals_in_checkpoint(path):
                raise ResumeError(
                    f"{path} is not loaded, since it could run programs ({', '.join(sorted(unknown))}): it was not "
                    "written by this trainer"
                )
            return dict(torch.load(path, map_location="cpu", mmap=True, weights_only=True)["state"])
    except (KeyError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise ResumeError(f"{path} is no checkpoint of this trainer: {str(error).splitlines()[0]}") from None


def _differences(key: str, was: Any, now: Any) -> Iterator[str]:
    """Lines "key was …, is …", for each setting that both have."""
    if was is None:
        return
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in now:
            if name in was:
                yield from _differences(f"{key}.{name}", was[name], now[name])
    elif was != now:
        yield f"{key} was {was}, is {now}"
