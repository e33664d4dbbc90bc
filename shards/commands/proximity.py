"""`switchpoint-shards proximity`: distances of converted corpora, from counts alone."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

__all__ = ["EPILOG", "HELP", "add_arguments", "run"]

HELP = "say how much nearer a mix is to a target than its base"
EPILOG = """\
Distances of unigram distributions, from the counts kept by convert (whole documents, end-of-text left out).
An advantage above 0 means that the mix lies nearer to the target than the base does.

example:
  switchpoint-shards proximity --base mds/c4/train --mix mds/math/train --share 0.12 --target mds/gsm8k/train
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to `parser`."""
    parser.add_argument("--base", required=True, metavar="DIR", help="split of the base corpus")
    parser.add_argument("--mix", required=True, metavar="DIR", help="split of the corpus that is mixed in")
    parser.add_argument("--share", required=True, type=float, help="share of --mix in the mix, by tokens")
    parser.add_argument("--target", required=True, metavar="DIR", help="split of the target")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print the measures and the advantage."""
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
