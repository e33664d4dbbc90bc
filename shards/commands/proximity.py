"""`switchpoint-shards proximity`: distances of converted corpora and mixes of them, from counts alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.errors import CallError, CorpusError

if TYPE_CHECKING:
    from shards.proximity import Advantage, Distribution, Ranked

__all__ = ["DESCRIPTION", "EPILOG", "add_arguments", "run"]

DESCRIPTION = "say how near corpora are, and which mix is nearest to a target"
EPILOG = """\
Distances of unigram distributions, from the counts kept by convert (whole documents, end-of-text left out).
Without --target: the matrix of all corpora, and of the mixes that --candidate names.
With --base and --target: the candidate mixes by their advantage, best first; a mix with an advantage above 0
lies nearer to the target than the base does. Candidates are --candidate and --candidates, and each corpus at
each --share. Shares are of tokens; what they leave is the base's.

example:
  switchpoint-shards proximity mds/c4 mds/code mds/math mds/pycode --plot near.svg
  switchpoint-shards proximity mds/c4 mds/code mds/math mds/pycode mds/gsm8k --base c4 --share 0.1 --share 0.2 \\
      --candidate both=code:0.15,math:0.05 --target pycode --target gsm8k
  switchpoint-shards proximity --base mds/c4/train --mix mds/math/train --share 0.12 --target mds/gsm8k/train
"""
MEASURES = ("combined", "cosine", "jaccard", "js")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to `parser`."""
    parser.add_argument(
        "corpora",
        nargs="*",
        metavar="[NAME=]DIR",
        help="a split, or a corpus, which stands for its train split; NAME is that of the corpus if it is not given",
    )
    parser.add_argument("--base", metavar="CORPUS", help="what is mixed into: a NAME from above, or a DIR")
    parser.add_argument(
        "--mix",
        action="append",
        metavar="CORPUS",
        help="mixed in at each --share; default: all corpora but base and targets; may be repeated",
    )
    parser.add_argument(
        "--share", action="append", type=float, help="share of each --mix in its mix, by tokens; may be repeated"
    )
    parser.add_argument(
        "--candidate", action="append", metavar="NAME=CORPUS:SHARE,...", help="a mix; may be repeated", default=[]
    )
    parser.add_argument("--candidates", type=Path, metavar="FILE", help="YAML: {NAME: {CORPUS: SHARE, ...}, ...}")
    parser.add_argument("--target", action="append", metavar="CORPUS", help="what to come near to; may be repeated")
    parser.add_argument(
        "--measure", choices=MEASURES, default=MEASURES[0], help="shown in the matrix; default %(default)s"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the matrix or the ranking: .svg, .png or .pdf")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print the matrix, the ranking for each target, or the measures of one mix."""
    from shards.proximity import load, measure

    if arguments.target and not arguments.base:
        raise CallError("--target needs a --base: what candidates are mixed into")
    if _is_one_mix(arguments):
        base, new, target = (_split(Path(name)) for name in (arguments.base, arguments.mix[0], arguments.target[0]))
        _print_one(arguments, measure(base, new, target, share=arguments.share[0]))
        return 0
    folders = _name_all(arguments)
    candidates = _candidates(arguments, folders)
    distributions = load(folders)
    if arguments.target:
        _rank(arguments, distributions, candidates)
    else:
        _compare(arguments, distributions, candidates)
    return 0


def _is_one_mix(arguments: argparse.Namespace) -> bool:
    others = arguments.corpora or arguments.candidate or arguments.candidates or arguments.plot
    return not others and all(len(getattr(arguments, key) or ()) == 1 for key in ("mix", "share", "target"))


# Which corpora, by which names


def _split(folder: Path) -> Path:
    """The split that `folder` is or, if it is a whole corpus, its train split."""
    return folder / "train" if (folder / "train").is_dir() else folder


def _name_all(arguments: argparse.Namespace) -> dict[str, Path]:
    """All corpora by their names; those that options name by directory are called by that."""
    from shards.manifest import read_manifest

    folders: dict[str, Path] = {}
    for text in arguments.corpora:
        name, equals, place = text.rpartition("=")
        folder = _split(Path(place))
        if not equals:
            manifest = read_manifest(folder)
            name = manifest.name if manifest.split == "train" else f"{manifest.name}/{manifest.split}"
        if name in folders:
            raise CallError(f"{folders[name]} and {folder} are both called {name}; write NAME={folder} for one of them")
        folders[name] = folder
    for name in filter(None, (arguments.base, *(arguments.mix or ()), *(arguments.target or ()))):
        if name not in folders:
            if not Path(name).is_dir():
                raise CorpusError(f"{name} is neither a directory nor one of {', '.join(folders) or 'the corpora'}")
            folders[name] = _split(Path(name))
    if not folders:
        raise CallError("nothing to compare; name at least one converted directory")
    return folders


def _candidates(arguments: argparse.Namespace, folders: Mapping[str, Path]) -> dict[str, Mapping[str, float]]:
    """All mixes by their names: those of --candidates, those of --candidate, and each corpus at each share."""
    written = [*_read_file(arguments.candidates).items()] if arguments.candidates else []
    written += [_parse(text) for text in arguments.candidate]
    taken = {arguments.base, *(arguments.target or ())}
    singles = arguments.mix or [name for name in folders if name not in taken]
    many = len(arguments.share or ()) > 1
    for share in arguments.share or ():
        written += [(f"{name} {share:g}" if many else name, {name: share}) for name in singles]
    candidates: dict[str, Mapping[str, float]] = dict(written)
    if len(candidates) < len(written):
        names = [name for name, _ in written]
        twice = next(name for name in names if names.count(name) > 1)
        raise CallError(f"two candidates are called {twice}; give one of them another name")
    if candidates and not arguments.base:
        raise CallError("candidates need a --base: of which they take what their shares leave")
    if arguments.target and not candidates:
        raise CallError("nothing to rank: give --candidate NAME=CORPUS:SHARE,..., --candidates FILE, or --share")
    return candidates


def _parse(text: str) -> tuple[str, dict[str, float]]:
    name, equals, mixture = text.partition("=")
    shares: dict[str, float] = {}
    try:
        for part in mixture.split(","):
            corpus, colon, share = part.rpartition(":")
            if not (name and equals and corpus and colon) or corpus in shares:
                raise ValueError
            shares[corpus] = float(share)
    except ValueError:
        raise CallError(f"--candidate {text}: write NAME=CORPUS:SHARE,..., as in both=code:0.15,math:0.05") from None
    return name, shares


def _read_file(path: Path) -> dict[str, dict[str, float]]:
    import yaml

    from mixer.yamlfile import parse_yaml

    try:
        data: Any = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CallError(f"--candidates {path} cannot be read: {reason}", path=str(path)) from None
    for name, shares in data.items() if isinstance(data, dict) else [("the file", data)]:
        numbers = shares.values() if isinstance(shares, dict) else [None]
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
            raise CallError(f"--candidates {path}: {name} must be a mapping CORPUS: SHARE, found {shares!r}")
    return {str(name): {str(corpus): float(share) for corpus, share in one.items()} for name, one in data.items()}


# What is printed


def _print_one(arguments: argparse.Namespace, result: Advantage) -> None:
    if arguments.json:
        print(json.dumps(asdict(result)))
        return
    print(f"{'to target':<10} {'cosine':>8} {'Jaccard':>8} {'JS':>8} {'combined':>9} {'distance':>9}")
    for name, near in (("base", result.base_target), ("mix", result.mix_target)):
        print(
            f"{name:<10} {near.cosine:>8.4f} {near.jaccard:>8.4f} {near.js:>8.4f} "
            f"{near.combined:>9.4f} {near.distance:>9.4f}"
        )
    print(f"advantage of {result.share:g} {arguments.mix[0]} in {arguments.base}: {result.advantage:+.4f}")


def _compare(
    arguments: argparse.Namespace,
    distributions: Mapping[str, Distribution],
    candidates: Mapping[str, Mapping[str, float]],
) -> None:
    from shards.charts import plot_matrix
    from shards.proximity import matrix, mix

    mixes = {name: mix(distributions, shares, base=arguments.base) for name, shares in candidates.items()}
    if both := mixes.keys() & distributions.keys():
        raise CallError(f"a candidate and a corpus are both called {min(both)}; give the candidate another name")
    names = [*distributions, *mixes]
    found = matrix({**distributions, **mixes})
    values = [[float(getattr(one, arguments.measure)) for one in row] for row in found]
    if arguments.json:
        print(json.dumps({"names": names, "matrix": [[asdict(one) for one in row] for row in found]}))
    else:
        _print_matrix(names, values, arguments.measure)
    if arguments.plot:
        plot_matrix(arguments.plot, names, values, arguments.measure)


def _print_matrix(names: Sequence[str], values: Sequence[Sequence[float]], measure: str) -> None:
    first = max(map(len, (*names, measure)))
    widths = [max(len(name), 6) for name in names]
    print(f"{measure:<{first}}  {'  '.join(f'{n:>{w}}' for n, w in zip(names, widths, strict=True))}")
    for name, row in zip(names, values, strict=True):
        print(f"{name:<{first}}  {'  '.join(f'{v:>{w}.4f}' for v, w in zip(row, widths, strict=True))}")


def _rank(
    arguments: argparse.Namespace,
    distributions: Mapping[str, Distribution],
    candidates: Mapping[str, Mapping[str, float]],
) -> None:
    from shards.charts import plot_ranking
    from shards.proximity import compare, rank

    rankings = {
        target: rank(distributions, candidates, base=arguments.base, target=target) for target in arguments.target
    }
    if arguments.json:
        print(json.dumps({target: [asdict(one) for one in ranked] for target, ranked in rankings.items()}))
    else:
        for target, ranked in rankings.items():
            before = compare(distributions[arguments.base], distributions[target])
            _print_ranking(ranked, f"for {target}, from {arguments.base} at distance {before.distance:.4f}")
    if arguments.plot:
        bars = {target: {one.name: one.advantage for one in ranked} for target, ranked in rankings.items()}
        plot_ranking(arguments.plot, bars, arguments.base)


def _print_ranking(ranked: Sequence[Ranked], title: str) -> None:
    mixes = [", ".join(f"{share:g} {name}" for name, share in one.shares.items()) for one in ranked]
    first = max(len("candidate"), *(len(one.name) for one in ranked))
    second = max(len("mixed in"), *map(len, mixes))
    print(title)
    print(f"  {'candidate':<{first}}  {'mixed in':<{second}}  combined  distance  advantage")
    for one, text in zip(ranked, mixes, strict=True):
        near = one.proximity
        print(
            f"  {one.name:<{first}}  {text:<{second}}  {near.combined:>8.4f}  {near.distance:>8.4f}  "
            f"{one.advantage:>+9.4f}"
        )
