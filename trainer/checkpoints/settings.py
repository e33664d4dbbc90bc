"""Where checkpoints lie, as a configuration says it. Imports no torch."""

import os
import re
import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

if TYPE_CHECKING:
    from trainer.config import Config

ADDRESS = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/\s]+)*/?")


def _place(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if "://" not in value:
        return Path(value)
    if not ADDRESS.fullmatch(value):
        raise ValueError("must be a folder, or an address like s3://bucket/prefix")
    return value.rstrip("/")


Place = Annotated[Path | str, BeforeValidator(_place)]  # a Path, or the address of a place in object storage


def spool_of(config: "Config") -> Path:
    """The folder of this machine through which checkpoints go to and come from object storage."""
    if config.save_spool:
        return config.save_spool
    name = blake2b(f"{config.save_folder} {config.load_path}".encode(), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"switchpoint-{os.getuid()}-{name}"


def make_private(folder: Path) -> None:
    """Make a folder of this user's alone; raises PermissionError where it is another's, who could change all in it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user: give a folder of your own as save_spool")


def folder_of(config: "Config") -> Path | None:
    """The folder on this machine that checkpoints are written into; None where none are."""
    return spool_of(config) if isinstance(config.save_folder, str) else config.save_folder


def problems(config: "Config") -> Iterator[str]:
    """Keys that do not fit each other."""
    if config.autoresume and config.save_folder is None:
        yield "autoresume looks for checkpoints in save_folder, which is not given @ $.autoresume"
    remote = isinstance(config.save_folder, str) or isinstance(config.load_path, str)
    if config.save_spool and not remote:
        yield "is on the way to object storage, and neither save_folder nor load_path is there @ $.save_spool"
