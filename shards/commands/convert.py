"""`switchpoint-shards convert`: input files to a corpus of MDS shards."""

from __future__ import annotations

import argparse

from shards.commands.progress import progress_bar
from shards.errors import CallError
from shards.mds import PACKED, ROWS
from shards.templates import TEMPLATES

__all__ = ["EPILOG", "HELP", "add_arguments", "run"]

HELP = "convert input files to a corpus of MDS shards"
EPILOG = """\
Inputs end in .jsonl or .json (one object a line), each also .gz or .zst, or .parquet. They are taken in the
order given; a directory stands for all such files in it, a glob for what it matches, both sorted by path.
The same call again goes on where the last was stopped. The bytes are the same for any --workers.

example:
  switchpoint-shards convert --corpus c4 --tokenizer tokenizers/gpt-neox-20b --out mds 'data/c4/*.json.gz'
  -> mds/c4/train and mds/c4/holdout, each with index.json, corpus.json, unigram.npy and
     documents.bin, which says which record of which input stands in which sample
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to `parser`."""
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, directory or glob")
    parser.add_argument("--corpus", required=True, help="name of the corpus")
    parser.add_argument("--tokenizer", required=True, help="folder with tokenizer.json, that file, or a hub name")
    parser.add_argument("--seq-len", type=int, default=2048, help="tokens in a row; default %(default)s")
    parser.add_argument(
        "--rows",
        choices=ROWS,
        default=PACKED,
        help="packed: documents end to end, cut into rows; examples: one document a row, filled up, its prompt known "
        "(for finetuning); default %(default)s",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where the folder of the corpus goes")
    parser.add_argument("--holdout", type=float, default=0.01, help="share of documents held out; default %(default)s")
    parser.add_argument("--workers", type=int, help="processes; default: one a CPU")
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="where workers run; default %(default)s"
    )
    parser.add_argument(
        "--template",
        metavar="NAME",
        help="how a record becomes text; default: that of the corpus, else text; one of "
        + ", ".join(sorted(TEMPLATES)),
    )
    parser.add_argument("--shard-bytes", type=int, default=1 << 26, help="largest size of a shard; default %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Convert, and print what came out."""
    from shards.conversion import Conversion, convert
    from shards.sources import find_sources

    if arguments.engine == "ray":
        raise CallError("--engine ray is not in this version; use --engine local")
    conversion = Conversion(
        inputs=arguments.inputs,
        corpus=arguments.corpus,
        tokenizer=arguments.tokenizer,
        out=arguments.out,
        seq_len=arguments.seq_len,
        holdout=arguments.holdout,
        template=arguments.template,
        shard_bytes=arguments.shard_bytes,
        rows=arguments.rows,
    )
    total = sum(path.stat().st_size for path in find_sources(arguments.inputs))
    with progress_bar(total, arguments.corpus) as update:
        report = convert(conversion, workers=arguments.workers, on_progress=lambda read, text: update(read))
    manifests = report.manifests
    print(f"{report.folder}  {manifests[0].fingerprint[:12]}")
    print(f"{'split':<8} {'documents':>12} {'tokens':>16} {'samples':>12} {'shards':>7} {'dropped':>8}")
    for m in manifests:
        row = f"{m.split:<8} {m.documents:>12,} {m.tokens:>16,} {m.samples:>12,} {len(m.shards):>7,}"
        print(f"{row} {m.dropped_tokens:>8,}")
    if report.num_kept == len(manifests[0].sources):
        print("all parts were converted already")
        return 0
    kept = f", {report.num_kept} parts kept from before" if report.num_kept else ""
    speed = report.text_bytes / 1e6 / report.seconds
    print(f"{report.text_bytes / 1e6:,.1f} MB of text in {report.seconds:.1f} s, {speed:.1f} MB/s{kept}")
    return 0
