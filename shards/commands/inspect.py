"""`switchpoint-shards inspect`: what a converted directory holds."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import CallError

if TYPE_CHECKING:
    from shards.inspection import Found, Piece, Sample
    from shards.manifest import Manifest

__all__ = ["DESCRIPTION", "EPILOG", "add_arguments", "run"]

DESCRIPTION = "show what a converted directory holds, how long its documents are, and samples as text"
EPILOG = """\
Each piece of a sample is headed by the document it is of, which of its tokens these are, and from and to which
samples it goes on. Samples are counted from 0, lines and rows of sources from 1.

example:
  switchpoint-shards inspect mds/c4/train --sample 0 --sample 17-19
  switchpoint-shards inspect mds/c4 --document c4-train.00000.json.gz:12
  switchpoint-shards inspect mds/c4 --plot lengths.svg
"""
MOST_SAMPLES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to `parser`."""
    parser.add_argument("dir", metavar="DIR", help="a corpus or one split of it")
    parser.add_argument(
        "--sample",
        action="append",
        metavar="ID[-ID]",
        help="sample to show, or from which to which; may be repeated; default 0",
    )
    parser.add_argument(
        "--document",
        metavar="SOURCE:LINE",
        help="the samples that hold what this line (Parquet: row) of a source became; the end of its path will do",
    )
    parser.add_argument("--tokenizer", help="folder or name; default: as the manifest says")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the lengths of documents: .svg, .png or .pdf")
    parser.add_argument("--json", action="store_true", help="print one JSON object a split")


def run(arguments: argparse.Namespace) -> int:
    """Show each split."""
    from shards.inspection import inspect, split_folders
    from shards.manifest import read_manifest
    from shards.totals import lengths_of, read_statistics

    folders = split_folders(Path(arguments.dir))
    found = _find(arguments.document, folders) if arguments.document else {}
    asked = [sample for text in arguments.sample or () for sample in _range(text)]
    most = max(read_manifest(folder).samples for folder in folders)
    for folder in [folder for folder in folders if folder in found or not found]:
        manifest = read_manifest(folder)
        wanted = [sample for sample in asked if sample < manifest.samples or sample >= most]  # the latter are refused
        if folder in found:
            wanted = [sample for start, end in found[folder].samples for sample in range(start, end)][:MOST_SAMPLES]
        wanted = wanted or ([0] if manifest.samples and not (asked or found) else [])
        samples = inspect(folder, wanted, tokenizer=arguments.tokenizer)
        if arguments.json:
            shown = [{**asdict(sample), "tokens": sample.tokens.tolist()} for sample in samples]
            document = {"document": asdict(found[folder])} if folder in found else {}
            statistics = asdict(read_statistics(folder))
            print(json.dumps({"manifest": asdict(manifest), "statistics": statistics, **document, "samples": shown}))
            continue
        _describe(folder, manifest)
        if folder in found:
            _tell_found(found[folder])
        for sample in samples:
            _show(sample, manifest)
    if arguments.plot:
        from shards.charts import plot_lengths

        plot_lengths(arguments.plot, {str(folder): lengths_of(folder) for folder in folders})
    return 0


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    try:
        start, end = int(first), int(last if dash else first)
        if not 0 <= start <= end:
            raise ValueError
    except ValueError:
        raise CallError(f"--sample {text}: write a number from 0, or from which to which, as in 17-19") from None
    return range(start, end + 1)


def _find(text: str, folders: Sequence[Path]) -> dict[Path, Found]:
    """In which of the splits the document is; in one, unless it is in none."""
    from shards.inspection import find_document

    source, _, number = text.rpartition(":")
    if not source or not number.isdecimal():
        raise CallError(f"--document {text}: write SOURCE:LINE, as in c4-train.00000.json.gz:12")
    found = {folder: find_document(folder, source, int(number)) for folder in folders}
    there = {folder: one for folder, one in found.items() if one is not None}
    if not there:
        places = " and ".join(map(str, folders))
        raise CallError(
            f"--document {text}: no document of {places}; the record is empty, was left out, or is not there"
        )
    return there


def _describe(folder: Path, manifest: Manifest) -> None:
    from shards.manifest import DOCUMENTS
    from shards.totals import read_statistics, table

    p = manifest.parameters
    print(f"{folder}: {manifest.name} {manifest.split}, fingerprint {manifest.fingerprint[:12]}")
    rows = f"{manifest.samples:,} samples of {p['seq_len']:,} tokens ({p['dtype']}, {manifest.row_format.rows})"
    print(f"  {rows} in {len(manifest.shards):,} shards")
    texts = f"{manifest.documents:,} documents, {manifest.text_bytes:,} bytes of text"
    print(f"  {texts}, {manifest.tokens:,} tokens, {manifest.dropped_tokens:,} dropped")
    print(f"  template {p['template']}, held out {p['holdout']:g}, tokenizer {manifest.tokenizer}")
    print(f"  from {len(manifest.sources):,} files: {manifest.sources[0].path} ...")
    for what, counts in (("removed", manifest.removed), ("skipped", manifest.skipped)):
        if counts:
            print(f"  {what}: {', '.join(f'{count:,} {name}' for name, count in counts.items())}")
    if manifest.documents_sha256:
        size = (folder / DOCUMENTS).stat().st_size
        print(f"  document index of {size:,} bytes, {size / max(manifest.documents, 1):.2f} a document")
    else:
        print("  no document index: an earlier version made this; convert again for one")
    print(table(read_statistics(folder)))


def _tell_found(found: Found) -> None:
    samples = " and ".join(f"{start} to {end - 1}" if end - start > 1 else f"{start}" for start, end in found.samples)
    num_samples = sum(end - start for start, end in found.samples)
    shown = f" (the first {MOST_SAMPLES} are shown)" if num_samples > MOST_SAMPLES else ""
    dropped = f"; the last {found.num_dropped:,} tokens are in none" if found.num_dropped else ""
    where = f"in samples {samples}" if num_samples else "in no sample"
    print(f"{found.place}: {found.num_tokens:,} tokens {where}{shown}{dropped}")


# Rows as text


def _paint(text: str, code: int) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if sys.stdout.isatty() else text


def _show(sample: Sample, manifest: Manifest) -> None:
    print(_paint(f"=== sample {sample.sample_id} of {manifest.samples:,}, {len(sample.tokens):,} tokens", 1))
    for piece in sample.pieces:
        print(_paint(f"--- {_head(piece)}", 36))
        before = _paint("[...] ", 33) if piece.before is not None else ""
        after = _paint(" [...]", 33) if piece.after is not None or piece.is_cut else ""
        print(f"{before}{piece.text}{_paint(piece.end, 35) if piece.end else after}")
    if sample.num_filled:
        print(_paint(f"--- filled up with {sample.num_filled:,} tokens", 36))


def _head(piece: Piece) -> str:
    facts = [piece.place or "document"]
    if piece.start_token is not None and piece.end_token is not None:
        whole = f" of {piece.num_tokens:,}" if piece.num_tokens is not None else ""
        facts.append(f"tokens {piece.start_token + 1:,} to {piece.end_token:,}{whole}")
    if piece.before is not None:
        facts.append(f"from sample {piece.before}")
    if piece.after is not None:
        facts.append(f"goes on in sample {piece.after}")
    elif piece.is_cut:
        facts.append("the rest is in no row")
    return "; ".join(facts)
