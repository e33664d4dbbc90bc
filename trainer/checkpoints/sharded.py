"""Checkpoints in parts: each rank writes and sends what it holds, as `torch.distributed.checkpoint` lays it out.

A run may go on from one with any number of ranks. The mark `complete.json` names every part and says what the
checkpoint was made with; it is written, and sent, last.
"""

import io
import pickle
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from composer import State, Trainer
from composer.utils import checkpoint, dist
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, MetadataIndex
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

from trainer.checkpoints import files
from trainer.checkpoints.bucket import Bucket, StorageError
from trainer.checkpoints.names import superseded
from trainer.checkpoints.together import together
from trainer.errors import ResumeError

METADATA = ".metadata"
PLAIN_STATE = "state.pt"  # what is no tensor and has other keys at each step: torch.distributed.checkpoint loads only
NOT_IN_PARTS = ("callbacks", "dataset_state", "integrations", "metadata")  # into keys that are there beforehand


def write(state: State, temporary: Path) -> list[Path]:
    """Every rank writes its part into the folder `temporary`; returns the files that are this rank's."""
    plain: dict[str, Any] = {}

    def take_out(collected: dict[str, Any]) -> None:
        plain.update({key: collected["state"].pop(key, None) for key in NOT_IN_PARTS})

    # Composer puts them into a folder of its own naming.
    first = checkpoint.save_checkpoint(state, str(temporary / "parts"), ignore_keys=take_out)
    if first is None:
        return []
    folder, rank = Path(first).parent, dist.get_global_rank()
    mine = sorted(folder.glob(f"__{rank}_*"))
    if rank == 0:
        torch.save(plain, folder / PLAIN_STATE)
        mine += [folder / METADATA, folder / PLAIN_STATE]
    return mine


def leave_out(collected: dict[str, Any]) -> None:
    """For `load_ignore_keys` of Composer's Trainer, where it loads a checkpoint in parts: what `load_rest` loads."""
    for key in NOT_IN_PARTS:
        collected["state"].pop(key, None)


def load_rest(trainer: Trainer, folder: Path, allowed: Sequence[Any]) -> None:
    """Load the state of the callbacks and of the data, which Composer has left out."""
    with torch.serialization.safe_globals(list(allowed)):
        plain = torch.load(folder / PLAIN_STATE, weights_only=True)
    state = {key: plain[key] for key in ("callbacks", "dataset_state")}
    trainer.state.load_state_dict(state, trainer.logger)


def commit(temporary: Path, final: Path, parts: Mapping[str, Any], made_with: Mapping[str, Any]) -> None:
    """Write the mark and give the folder that holds the parts its final name."""
    (folder,) = (path for path in temporary.iterdir() if path.is_dir())
    files.write_mark(folder, parts, made_with)
    if final.exists():  # from before the run went back to an earlier one
        files.remove(final)
    files.publish(folder, final)
    shutil.rmtree(temporary)


class Unsent(NamedTuple):
    """A checkpoint in the spool, and which parts of it this rank sends."""

    folder: Path
    mine: Sequence[str]

    def send(self, bucket: Bucket, *, num_to_keep: int) -> StorageError | None:
        """Every rank sends its parts, then rank 0 the mark; the spool is emptied where all arrived.

        Returns an error that may pass, the same on all ranks; raises StorageError for others.
        """
        name = self.folder.name

        def send_mark() -> None:
            bucket.upload(self.folder / files.MARK, f"{name}/{files.MARK}")
            for old in superseded(bucket.names(), num_to_keep):
                bucket.remove(old)

        try:
            together(lambda: [bucket.upload(self.folder / part, f"{name}/{part}") for part in self.mine])
            together(send_mark if dist.get_global_rank() == 0 else None)
        except StorageError as error:
            if error.is_final:
                raise
            return error
        together((lambda: files.remove(self.folder)) if dist.get_local_rank() == 0 else None)
        return None


def read(folder: Path, allowed: Sequence[Any]) -> dict[str, Any]:
    """Weights, whole, and what is not tensors, without any other process; raises ResumeError as `check_safe` does."""
    check_safe(folder, allowed)
    with torch.serialization.safe_globals(list(allowed)):
        plain: dict[str, Any] = torch.load(folder / PLAIN_STATE, weights_only=True)
    weights: dict[str, Any] = {}
    planner = _EmptyStateDictLoadPlanner(keys={"state.model"})
    _load_state_dict(weights, storage_reader=FileSystemReader(folder), planner=planner, no_dist=True)
    return {**plain, **weights["state"]}


def check_safe(folder: Path, allowed: Sequence[Any]) -> None:
    """Raises ResumeError where loading the checkpoint could run programs.

    Its metadata and each value that is no tensor are pickles, which torch reads as such: they are read here first by
    readers that know the types of a checkpoint alone, as one in a single file is (`trainer.checkpoints.reading`).
    """
    try:
        with (folder / METADATA).open("rb") as file:
            metadata = _MetadataReader(file).load()
        with torch.serialization.safe_globals(list(allowed)):
            torch.load(folder / PLAIN_STATE, weights_only=True)
        for place in metadata.storage_data.values():
            if Path(place.relative_path).name != place.relative_path:
                raise pickle.UnpicklingError(f"a part would lie elsewhere ({place.relative_path})")
        with torch.serialization.safe_globals(list(allowed)):
            for index, item in metadata.state_dict_metadata.items():
                if isinstance(item, BytesStorageMetadata):
                    _read_bytes(folder, metadata.storage_data[MetadataIndex(index)])
    except (pickle.UnpicklingError, AttributeError, KeyError, OSError, RuntimeError) as error:
        raise ResumeError(f"{folder} is no checkpoint of this trainer: {str(error).splitlines()[0]}") from None


def _read_bytes(folder: Path, place: Any) -> None:
    with (folder / place.relative_path).open("rb") as file:
        file.seek(place.offset)
        torch.load(io.BytesIO(file.read(place.length)), weights_only=True)


class _MetadataReader(pickle.Unpickler):
    """A pickle of what describes a checkpoint in parts; any other type is refused."""

    def find_class(self, module: str, name: str) -> Any:
        own = {"torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem"}
        known = module in own and name in OWN
        if not known and (module, name) not in PLAIN and not _is_dtype(module, name):
            raise pickle.UnpicklingError(f"it could run programs ({module}.{name})")
        return super().find_class(module, name)


def _is_dtype(module: str, name: str) -> bool:
    return module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)


OWN = {
    "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties",
    "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING", "_StorageInfo",
}  # fmt: skip
PLAIN = {
    ("torch", "Size"), ("torch.serialization", "_get_layout"), ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"),
}  # fmt: skip
