"""Files and folders that are whole or not there, whatever kills the process.

What is written gets a temporary name, is forced to disk and then renamed: the rename is the commit mark. Of a
checkpoint in parts, the mark `complete.json` with the size and SHA-256 of every part is written last of all. No torch.
"""

import hashlib
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainer.checkpoints.names import Name

log = logging.getLogger(__name__)

MARK = "complete.json"
MADE_WITH = "made_with"  # in the mark, or in the state of the callback: settings of the run that made a checkpoint


def publish(temporary: Path, final: Path) -> None:
    """Force `temporary`, a file or a folder of files, to disk and give it its final name, in this order."""
    for path in [*temporary.iterdir(), temporary] if temporary.is_dir() else [temporary]:
        _sync(path)
    temporary.replace(final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a checkpoint, a folder by its mark first."""
    (path / MARK).unlink(missing_ok=True) if path.is_dir() else path.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def complete_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in `folder`, oldest first. A file that was damaged later is left out, with a warning."""
    named = [(name, path) for path in folder.glob("step-*") if (name := Name.parse(path.name))]
    complete = []
    for name, path in sorted(named):
        if is_complete(path):
            complete.append(path)
        elif path.is_dir() == name.is_sharded:
            log.warning("%s is not a whole checkpoint and is left out", path)
    return complete


def is_complete(path: Path) -> bool:
    """Whether the end of a file, or every part of a folder by its size, is there."""
    if not path.is_dir():
        return zipfile.is_zipfile(path)  # looks for the directory that torch.save writes last
    try:
        return all((path / part).stat().st_size == told["size"] for part, told in read_mark(path)["parts"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def damage(path: Path) -> str | None:
    """Reads a complete checkpoint to its end; the part that is not as it was written, None where all are."""
    if not path.is_dir():
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()  # by the CRC-32 of each record
    parts = read_mark(path)["parts"].items()
    return next((part for part, told in parts if sha256(path / part) != told["sha256"]), None)


def describe(paths: Iterable[Path]) -> dict[str, Any]:
    """What the mark tells of these parts."""
    return {path.name: {"size": path.stat().st_size, "sha256": sha256(path)} for path in paths}


def write_mark(folder: Path, parts: Mapping[str, Any], made_with: Mapping[str, Any]) -> None:
    (folder / MARK).write_text(json.dumps({"parts": parts, MADE_WITH: made_with}, indent=1))


def read_mark(folder: Path) -> dict[str, Any]:
    """`parts` → size in bytes and SHA-256 of each, and MADE_WITH; raises OSError, ValueError or KeyError for none."""
    told = dict(json.loads((folder / MARK).read_text()))
    return {"parts": dict(told["parts"]), MADE_WITH: dict(told[MADE_WITH])}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
