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
    from shards.manifest import read_manifest
    from shards.verification import verify

    num_faults = 0
    for folder in split_folders(Path(arguments.dir)):
        manifest = read_manifest(folder)
        total = sum(shard.bytes for shard in manifest.shards)
        with progress_bar(total, str(folder)) as update:
            faults = verify(folder, update)
        for fault in faults:
            print(fault)
        num_faults += len(faults)
        if not faults:
            held = f"{len(manifest.shards):,} shards, {manifest.samples:,} samples, {total:,} bytes"
            print(f"{folder}: whole; {held}")
    return 1 if num_faults else 0
