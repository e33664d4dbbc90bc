"""`switchpoint-shards verify`: a converted directory against its manifest."""

from __future__ import annotations

import argparse
from pathlib import Path

from shards.commands.progress import progress_bar

__all__ = ["DESCRIPTION", "EPILOG", "add_arguments", "run"]

DESCRIPTION = "check a converted directory against its manifest"
EPILOG = """\
Hashes and counts everything again; prints one line per fault and ends with 1 if there is any.

example:
  switchpoint-shards verify mds/c4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to `parser`."""
    parser.add_argument("dir", metavar="DIR", help="a corpus or one split of it")


def run(arguments: argparse.Namespace) -> int:
    """Print each fault; 1 if there is any."""
    from shards.inspection import split_folders
    from shards.tallies import check_together

    folder = Path(arguments.dir)
    folders = split_folders(folder)
    faults = [fault for split in folders for fault in _verify(split)]
    if folders != [folder]:
        together = check_together(folders)
        print("".join(f"{fault}\n" for fault in together), end="")
        faults += together
    return 1 if faults else 0


def _verify(folder: Path) -> list[str]:
    from shards.manifest import read_manifest
    from shards.verification import verify

    manifest = read_manifest(folder)
    total = sum(shard.bytes for shard in manifest.shards)
    with progress_bar(total, str(folder)) as update:
        faults = verify(folder, update)
    held = f"{len(manifest.shards):,} shards, {manifest.samples:,} samples, {total:,} bytes"
    print("\n".join(faults or [f"{folder}: whole; {held}"]))
    return faults
