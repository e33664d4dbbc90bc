"""`switchpoint-shards convert`: input files to a corpus of MDS shards."""

from __future__ import annotations

import argparse
import json
import resource
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.commands.progress import progress_bar
from shards.commands.summary import summarize, tell
from shards.conversion import Conversion
from shards.engines import ENGINES
from shards.errors import CallError
from shards.mds import ROWS
from shards.part import SKIP, STOP
from shards.templates import TEMPLATES

if TYPE_CHECKING:
    from shards.recipes import Recipe

__all__ = ["DESCRIPTION", "EPILOG", "add_arguments", "run"]

DESCRIPTION = "convert input files to a corpus of MDS shards"
EPILOG = """\
Inputs end in .jsonl or .json (one object a line), each also .gz or .zst, or .parquet. They are taken in the
order given; a directory stands for all such files in it, a glob for what it matches, both sorted by path.
The same call again goes on where the last was stopped. The bytes are the same for any --workers.

A recipe says where a corpus lies, how its records become text, and how it is converted; flags go before it.

example:
  switchpoint-shards convert --corpus c4 --tokenizer tokenizers/gpt-neox-20b --out mds 'data/c4/*.json.gz'
  -> mds/c4/train and mds/c4/holdout, each with index.json, corpus.json, unigram.npy and
     documents.bin, which says which record of which input stands in which sample
  switchpoint-shards convert --recipe starcoder --tokenizer tokenizers/gpt-neox-20b --out mds
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to `parser`. What a recipe may decide has no default here."""
    default = {field.name: field.default for field in fields(Conversion)}
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="file, folder, glob or URL; default: the recipe's")
    parser.add_argument("--recipe", metavar="NAME", help="of `switchpoint-shards recipes`, or a YAML file like those")
    parser.add_argument("--corpus", help="name of the corpus; default: the recipe's")
    parser.add_argument(
        "--tokenizer", required=True, help="folder with tokenizer.json, that file, or a name on the hub"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where the folder of the corpus goes")
    parser.add_argument("--seq-len", type=int, help=f"tokens in a row; default {default['seq_len']}")
    parser.add_argument(
        "--rows",
        choices=ROWS,
        help="packed: documents end to end, cut into rows; best-fit: few documents cut, rows filled up; examples: one "
        f"document a row, filled up, its prompt known (for finetuning); default {default['rows']}",
    )
    parser.add_argument("--holdout", type=float, help=f"share of documents held out; default {default['holdout']}")
    parser.add_argument(
        "--template",
        metavar="NAME",
        help="how a record becomes text; default: that of the recipe or of the corpus, else text; one of "
        + ", ".join(sorted(TEMPLATES)),
    )
    parser.add_argument("--curation", metavar="FILE", help="YAML: what is removed, step by step")
    parser.add_argument(
        "--on-error",
        choices=(STOP, SKIP),
        help="at a bad record or file: stop, or skip it, count it and list it in skipped.jsonl; default stop",
    )
    parser.add_argument(
        "--max-record-bytes",
        type=int,
        metavar="BYTES",
        help=f"a line of more is a bad record; default {default['max_record_bytes']}",
    )
    parser.add_argument("--workers", type=int, help="processes; default: one a CPU")
    parser.add_argument("--engine", choices=ENGINES, help=f"where workers run; default {default['engine']}")
    parser.add_argument(
        "--shard-bytes", type=int, metavar="BYTES", help=f"largest size of a shard; default {default['shard_bytes']}"
    )
    parser.add_argument("--compression", choices=("zstd",), help="pack shards; default: do not")
    parser.add_argument("--json", action="store_true", help="print what was done, one JSON object a corpus")


def run(arguments: argparse.Namespace) -> int:
    """Convert, and print what came out."""
    from shards.conversion import convert
    from shards.sources import find_sources
    from shards.sources.storage import stat_sources

    for conversion in _conversions(arguments):
        total = sum(stamp.bytes for stamp in stat_sources(find_sources(conversion.inputs)))
        total *= 2 if conversion.curation else 1  # what is to be removed is found out first
        work = Path(conversion.out) / f".{conversion.corpus}.work"
        with progress_bar(total, conversion.corpus, work) as update:
            report = convert(conversion, workers=arguments.workers, on_progress=update)
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        summary = summarize(report, peak_bytes=peak * 1024)
        print(json.dumps(summary) if arguments.json else tell(summary))
    return 0


def _conversions(arguments: argparse.Namespace) -> list[Conversion]:
    """What is asked for: one corpus, or of a recipe with parts each of them. Flags go before the recipe."""
    names = {field.name for field in fields(Conversion)}
    asked = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    if arguments.curation:
        from shards.curation import read_curation

        asked["curation"] = read_curation(arguments.curation)
    if not arguments.recipe:
        if not (arguments.inputs and arguments.corpus):
            raise CallError("name what to convert: input files and a --corpus, or a --recipe")
        return [Conversion(**asked)]
    return [Conversion(**_settings(recipe, arguments) | asked) for recipe in _recipes(arguments, asked)]


def _recipes(arguments: argparse.Namespace, asked: dict[str, Any]) -> list[Recipe]:
    from shards.recipes import find_recipes

    recipes = find_recipes(arguments.recipe)
    if not arguments.inputs:
        del asked["inputs"]
    elif len(recipes) > 1:
        parts = ", ".join(recipe.name for recipe in recipes)
        raise CallError(f"recipe {arguments.recipe} is of several corpora; convert the parts of your files by {parts}")
    if arguments.corpus and len(recipes) > 1:
        raise CallError(f"recipe {arguments.recipe} is of {len(recipes)} corpora, which have names; leave out --corpus")
    return recipes


def _settings(recipe: Recipe, arguments: argparse.Namespace) -> dict[str, Any]:
    settings = recipe.settings(arguments.inputs)
    if settings.get("curation") is not None:
        from shards.curation import Curation

        settings["curation"] = Curation.parse(settings["curation"], f"{recipe.place}: curation")
    return settings
