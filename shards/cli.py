"""`switchpoint-shards`: convert, inspect, verify, proximity.

Exit codes: 0 done; 1 the work failed, or `verify` found faults; 2 the call or its input is wrong; 130
interrupted. Errors are one line on stderr. Progress goes to stderr, and only to a terminal.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import ShardsError
from shards.mds import PACKED, ROWS
from shards.templates import TEMPLATES

if TYPE_CHECKING:
    from shards.manifest import Manifest

__all__ = ["main"]

_CONVERT = """\
Inputs end in .jsonl or .json (one object a line), each also .gz or .zst, or .parquet. They are taken in the
order given; a directory stands for all such files in it, a glob for what it matches, both sorted by path.
The same call again goes on where the last was stopped. The bytes are the same for any --workers.

example:
  switchpoint-shards convert --corpus c4 --tokenizer tokenizers/gpt-neox-20b --out mds 'data/c4/*.json.gz'
  -> mds/c4/train and mds/c4/holdout, each with index.json, corpus.json, unigram.npy and
     documents.bin, which says which record of which input stands in which sample
"""
_INSPECT = """\
example:
  switchpoint-shards inspect mds/c4/train --sample 0 --sample 17
"""
_VERIFY = """\
Hashes and counts everything again; prints one line per fault and ends with 1 if there is any.

example:
  switchpoint-shards verify mds/c4
"""
_PROXIMITY = """\
Distances of unigram distributions, from the counts kept by convert (whole documents, end-of-text left out).
An advantage above 0 means that the mix lies nearer to the target than the base does.

example:
  switchpoint-shards proximity --base mds/c4/train --mix mds/math/train --share 0.12 --target mds/gsm8k/train
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except ShardsError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="switchpoint-shards",
        description="Turn corpora into MDS shards, and say what is in them.",
        epilog=_CONVERT[_CONVERT.index("example:") :] + "\n`COMMAND --help` has an example of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str, epilog: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        return command

    _add_convert(add("convert", _convert, "convert input files to a corpus of MDS shards", _CONVERT))
    inspect = add("inspect", _inspect, "show what a converted directory holds, and samples as text", _INSPECT)
    inspect.add_argument("dir", metavar="DIR", help="a corpus or one split of it")
    inspect.add_argument("--sample", type=int, action="append", metavar="ID", help="sample to show; default 0")
    inspect.add_argument("--tokenizer", help="folder or name; default: as the manifest says")
    inspect.add_argument("--json", action="store_true", help="print one JSON object a split")
    verify = add("verify", _verify, "check a converted directory against its manifest", _VERIFY)
    verify.add_argument("dir", metavar="DIR", help="a corpus or one split of it")
    proximity = add("proximity", _proximity, "say how much nearer a mix is to a target than its base", _PROXIMITY)
    proximity.add_argument("--base", required=True, metavar="DIR", help="split of the base corpus")
    proximity.add_argument("--mix", required=True, metavar="DIR", help="split of the corpus that is mixed in")
    proximity.add_argument("--share", required=True, type=float, help="share of --mix in the mix, by tokens")
    proximity.add_argument("--target", required=True, metavar="DIR", help="split of the target")
    proximity.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add_convert(command: argparse.ArgumentParser) -> None:
    command.add_argument("inputs", nargs="+", metavar="INPUT", help="file, directory or glob")
    command.add_argument("--corpus", required=True, help="name of the corpus")
    command.add_argument("--tokenizer", required=True, help="folder with tokenizer.json, that file, or a hub name")
    command.add_argument("--seq-len", type=int, default=2048, help="tokens in a row; default %(default)s")
    command.add_argument(
        "--rows",
        choices=ROWS,
        default=PACKED,
        help="packed: documents end to end, cut into rows; examples: one document a row, filled up, its prompt known "
        "(for finetuning); default %(default)s",
    )
    command.add_argument("--out", required=True, metavar="DIR", help="where the folder of the corpus goes")
    command.add_argument("--holdout", type=float, default=0.01, help="share of documents held out; default %(default)s")
    command.add_argument("--workers", type=int, help="processes; default: one a CPU")
    command.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="where workers run; default %(default)s"
    )
    command.add_argument(
        "--template",
        metavar="NAME",
        help="how a record becomes text; default: that of the corpus, else text; one of "
        + ", ".join(sorted(TEMPLATES)),
    )
    command.add_argument(
        "--shard-bytes", type=int, default=1 << 26, help="largest size of a shard; default %(default)s"
    )


def _convert(arguments: argparse.Namespace) -> int:
    from shards.conversion import Conversion, convert
    from shards.sources import find_sources, stat_source

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
        engine=arguments.engine,
    )
    total = sum(stat_source(name).bytes for name in find_sources(arguments.inputs))
    with _progress(total, arguments.corpus) as update:
        report = convert(conversion, workers=arguments.workers, on_progress=lambda read, text: update(read))
    manifests = report.manifests
    print(f"{report.folder}  {manifests[0].fingerprint[:12]}")
    print(f"{'split':<8} {'documents':>12} {'tokens':>16} {'samples':>12} {'shards':>7} {'dropped':>8}")
    for m in manifests:
        row = f"{m.split:<8} {m.documents:>12,} {m.tokens:>16,} {m.samples:>12,} {len(m.shards):>7,}"
        print(f"{row} {m.dropped_tokens:>8,}")
    if report.num_kept == report.num_parts:
        print("all parts were converted already")
        return 0
    kept = f", {report.num_kept} parts kept from before" if report.num_kept else ""
    speed = report.text_bytes / 1e6 / report.seconds
    print(f"{report.text_bytes / 1e6:,.1f} MB of text in {report.seconds:.1f} s, {speed:.1f} MB/s{kept}")
    return 0


@contextmanager
def _progress(total: int, name: str) -> Iterator[Callable[[int], None]]:
    from tqdm import tqdm

    with tqdm(total=total, desc=name, unit="B", unit_scale=True, disable=None) as bar:

        def update(num_bytes: int) -> None:
            bar.update(num_bytes)

        yield update


def _inspect(arguments: argparse.Namespace) -> int:
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


def _verify(arguments: argparse.Namespace) -> int:
    from shards.inspection import split_folders
    from shards.manifest import read_manifest
    from shards.verification import verify

    num_faults = 0
    for folder in split_folders(Path(arguments.dir)):
        manifest = read_manifest(folder)
        total = sum(shard.bytes for shard in manifest.shards)
        with _progress(total, str(folder)) as update:
            faults = verify(folder, update)
        for fault in faults:
            print(fault)
        num_faults += len(faults)
        if not faults:
            held = f"{len(manifest.shards):,} shards, {manifest.samples:,} samples, {total:,} bytes"
            print(f"{folder}: whole; {held}")
    return 1 if num_faults else 0


def _proximity(arguments: argparse.Namespace) -> int:
    from shards.proximity import measure

    base, new, target = Path(arguments.base), Path(arguments.mix), Path(arguments.target)
    result = measure(base, new, target, share=arguments.share)
    if arguments.json:
        print(json.dumps(asdict(result)))
        return 0
    print(f"{'to target':<10} {'cosine':>8} {'Jaccard':>8} {'JS':>8} {'combined':>9} {'distance':>9}")
    for name, near in (("base", result.base_target), ("mix", result.mix_target)):
        print(
            f"{name:<10} {near.cosine:>8.4f} {near.jaccard:>8.4f} {near.js:>8.4f} "
            f"{near.combined:>9.4f} {near.distance:>9.4f}"
        )
    print(f"advantage of {result.share:g} {arguments.mix} in {arguments.base}: {result.advantage:+.4f}")
    return 0
