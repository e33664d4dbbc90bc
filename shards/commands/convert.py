"""`switchpoint-shards convert`: input files to a corpus of MDS shards."""

from __future__ import annotations

import argparse
import json
import resource
from typing import TYPE_CHECKING, Any

from shards.commands.progress import progress_bar
from shards.commands.summary import summarize, tell
from shards.engines import ENGINES
from shards.mds import PACKED, ROWS
from shards.part import SKIP, STOP
from shards.sources.blocks import MAX_RECORD_BYTES
from shards.templates import TEMPLATES

if TYPE_CHECKING:
    from shards.conversion import Conversion

__all__ = ["DESCRIPTION", "EPILOG", "add_arguments", "run"]

DESCRIPTION = "convert input files to a corpus of MDS shards"
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
    parser.add_argument(
        "--template",
        metavar="NAME",
        help="how a record becomes text; default: that of the corpus, else text; one of "
        + ", ".join(sorted(TEMPLATES)),
    )
    parser.add_argument(
        "--on-error",
        choices=(STOP, SKIP),
        default=STOP,
        help="at a bad record or file: stop, or skip it, count it and list it in skipped.jsonl; default %(default)s",
    )
    parser.add_argument(
        "--max-record-bytes",
        type=int,
        default=MAX_RECORD_BYTES,
        metavar="BYTES",
        help="a line of more is a bad record; default %(default)s",
    )
    parser.add_argument("--workers", type=int, help="processes; default: one a CPU")
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0], help="where workers run; default %(default)s")
    parser.add_argument("--shard-bytes", type=int, default=1 << 26, help="largest size of a shard; default %(default)s")
    parser.add_argument("--compression", choices=("zstd",), help="pack shards; default: do not")
    parser.add_argument("--json", action="store_true", help="print what was done as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Convert, and print what came out."""
    from shards.conversion import convert
    from shards.sources import find_sources, stat_source

    conversion = _conversion(arguments)
    total = sum(stat_source(name).bytes for name in find_sources(conversion.inputs))
    with progress_bar(total, conversion.corpus) as update:
        report = convert(conversion, workers=arguments.workers, on_progress=update)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    summary = summarize(report, peak_bytes=peak * 1024)
    print(json.dumps(summary) if arguments.json else tell(summary))
    return 0


def _conversion(arguments: argparse.Namespace) -> Conversion:
    from shards.conversion import Conversion

    asked: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in (
            *("inputs", "corpus", "tokenizer", "out", "seq_len", "holdout", "template", "shard_bytes", "rows"),
            *("compression", "on_error", "max_record_bytes", "engine"),
        )
    }
    return Conversion(**asked)
