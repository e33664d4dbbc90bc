"""`switchpoint-shards decontaminate`: say which documents hold items of evaluation sets, and change nothing."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shards.durable import write_file
from shards.errors import CallError, MismatchError

__all__ = ["DESCRIPTION", "EPILOG", "add_arguments", "run"]

DESCRIPTION = "say which documents hold items of evaluation sets"
EPILOG = """\
Nothing is removed or changed. A document is told when it shares an n-gram with an item and, in a second look,
the longest common subsequence with the item's words reaches --share of them. The report has one JSON object a
line: source and record of the document, file and record of the item, the n-gram, the share, and `removed`:
whether a curation with these settings would leave the document out.

example:
  switchpoint-shards decontaminate data/math --template math --against gsm8k/test.jsonl=gsm8k --report out.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, directory or glob, as of convert")
    parser.add_argument(
        "--against",
        required=True,
        action="append",
        metavar="FILE[=TEMPLATE]",
        help="evaluation set, JSON lines or Parquet; its template is a known name or a format such as {question}; "
        "may be repeated",
    )
    parser.add_argument("--report", required=True, metavar="FILE", help="JSON lines to write")
    parser.add_argument("--template", metavar="NAME", help="how a record of the inputs becomes text; default: text")
    parser.add_argument("--ngram", type=int, default=13, help="words in a row that are looked for; default %(default)s")
    parser.add_argument("--share", type=float, default=0.6, help="least share of the second look; default %(default)s")
    parser.add_argument(
        "--shortest", type=int, default=5, help="items of fewer words are passed over; default %(default)s"
    )
    parser.add_argument("--workers", type=int, help="processes; default: one a CPU")


def run(arguments: argparse.Namespace) -> int:
    """Look, write the report, print how many of each file were found; returns the exit code."""
    from tqdm import tqdm

    from shards.curation import REPORT, Curation, curate, read_summary
    from shards.curation.decontamination import Decontamination
    from shards.curation.evaluation_sets import as_template
    from shards.curation.settings import Section
    from shards.sources.finding import find_sources
    from shards.sources.storage import stat_source
    from shards.sources.units import cut_into_units

    if arguments.workers is not None and arguments.workers < 1:
        raise CallError(f"--workers must be at least 1, not {arguments.workers}")
    report = Path(arguments.report)
    if not report.parent.is_dir():
        raise CallError(f"--report {report}: {report.parent} is no directory; make it first")
    settings = {
        "against": [_evaluation_set(text) for text in arguments.against],
        **{key: getattr(arguments, key) for key in ("ngram", "share", "shortest")},
    }
    step = Decontamination.parse(Section(settings, "arguments"), "decontaminate")
    template = as_template(arguments.template, "--template")
    units = cut_into_units([(name, stat_source(name)) for name in find_sources(arguments.inputs)])
    work = report.with_name(f".{report.name}.work")

    def find(on_progress: Callable[[int, int], None]) -> None:
        workers = arguments.workers or os.cpu_count() or 1
        curate(
            Curation(steps=(step,)),
            units,
            template,
            work,
            engine="local",
            workers=workers,
            on_progress=on_progress,
            on_error="stop",
        )

    with tqdm(total=sum(unit.end - unit.start for unit in units), unit="B", unit_scale=True, disable=None) as bar:
        try:
            find(lambda num_bytes, _: bar.update(num_bytes))
        except MismatchError:  # left by a call with other arguments
            shutil.rmtree(work)
            find(lambda num_bytes, _: bar.update(num_bytes))
        except CallError:
            shutil.rmtree(work, ignore_errors=True)
            raise
    lines = (work / REPORT).read_bytes()
    write_file(report, lines)
    num_documents = read_summary(work)["documents"]
    shutil.rmtree(work)
    _print(report, [json.loads(line) for line in lines.splitlines()], num_documents)
    return 0


def _evaluation_set(text: str) -> dict[str, str]:
    path, separator, template = text.rpartition("=")
    if not separator or Path(text).is_file():
        return {"path": text}
    return {"path": path, "template": template}


def _print(report: Path, lines: list[dict[str, Any]], num_documents: int) -> None:
    found = [line for line in lines if line["removed"]]
    documents = {(line["source"], line["record"]) for line in found}
    near = len(lines) - len(found)
    print(
        f"{len(documents):,} of {num_documents:,} documents hold test items; {near:,} more share no more than an n-gram"
    )
    items = Counter(file for file, _ in {(line["item_file"], line["item_record"]) for line in found})
    for file, count in sorted(items.items()):
        print(f"{file}: {count:,} items found")
    print(f"report: {report}")
