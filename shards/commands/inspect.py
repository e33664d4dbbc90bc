"""`switchpoint-shards inspect`: what a converted directory holds."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shards.manifest import Manifest

__all__ = ["DESCRIPTION", "EPILOG", "add_arguments", "run"]

DESCRIPTION = "show what a converted directory holds, and samples as text"
EPILOG = """\
example:
  switchpoint-shards inspect mds/c4/train --sample 0 --sample 17
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to `parser`."""
    parser.add_argument("dir", metavar="DIR", help="a corpus or one split of it")
    parser.add_argument("--sample", type=int, action="append", metavar="ID", help="sample to show; default 0")
    parser.add_argument("--tokenizer", help="folder or name; default: as the manifest says")
    parser.add_argument("--json", action="store_true", help="print one JSON object a split")


def run(arguments: argparse.Namespace) -> int:
    """Show each split."""
    from shards.inspection import inspect, split_folders
    from shards.manifest import read_manifest

    for folder in split_folders(Path(arguments.dir)):
        manifest = read_manifest(folder)
        wanted = arguments.sample or ([0] if manifest.samples else [])
        samples = inspect(folder, wanted, tokenizer=arguments.tokenizer)
        if arguments.json:
            shown = [{**asdict(sample), "tokens": sample.tokens.tolist()} for sample in samples]
            print(json.dumps({"manifest": asdict(manifest), "samples": shown}))
            continue
        _describe(folder, manifest)
        for sample in samples:
            print(f"--- sample {sample.sample_id}")
            for place, piece in zip(sample.places or ["document"] * len(sample.pieces), sample.pieces, strict=True):
                print(f"--- {place}\n{piece}")
    return 0


def _describe(folder: Path, manifest: Manifest) -> None:
    from shards.manifest import DOCUMENTS

    p = manifest.parameters
    print(f"{folder}: {manifest.name} {manifest.split}, fingerprint {manifest.fingerprint[:12]}")
    rows = f"{manifest.samples:,} samples of {p['seq_len']:,} tokens ({p['dtype']})"
    print(f"  {rows} in {len(manifest.shards):,} shards")
    texts = f"{manifest.documents:,} documents, {manifest.text_bytes:,} bytes of text"
    print(f"  {texts}, {manifest.tokens:,} tokens, {manifest.dropped_tokens:,} dropped")
    print(f"  template {p['template']}, held out {p['holdout']:g}, tokenizer {manifest.tokenizer}")
    print(f"  from {len(manifest.sources):,} files: {manifest.sources[0].path} ...")
    if manifest.documents_sha256:
        size = (folder / DOCUMENTS).stat().st_size
        print(f"  document index of {size:,} bytes, {size / max(manifest.documents, 1):.2f} a document")
    else:
        print("  no document index: an earlier version made this; convert again for one")
