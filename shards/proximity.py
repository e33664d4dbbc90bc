"""Proximity of corpora by their unigram counts (arXiv 2510.14865, section on proximity).

Over distributions p and q of tokens: cosine; Jaccard of the sets of tokens that occur; JS similarity
1 / (1 + JSD), JSD in nats. combined = 0.4 cosine + 0.3 Jaccard + 0.3 JS similarity, distance = 1 - combined.
A mix is the sum of share x distribution over its corpora, by tokens; what its shares leave is the base's. Its
advantage for a target is distance(base, target) - distance(mix, target): above 0, the mix lies nearer to the target
than the base does.

Counts are those kept by conversion, over whole documents (the paper cuts texts at 512 tokens), without the
end-of-text token; of each corpus the 50,000 most frequent tokens are kept, ties by smaller id. No shard is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.errors import CallError, CorpusError
from shards.manifest import read_manifest, read_unigram

__all__ = [
    "KEPT_TOKENS",
    "Advantage",
    "Proximity",
    "Ranked",
    "advantage",
    "compare",
    "distribution",
    "load",
    "matrix",
    "measure",
    "mix",
    "rank",
]

KEPT_TOKENS = 50_000

Distribution = NDArray[np.float64]
Shares = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Proximity:
    """How near two distributions are; all in [0, 1]. `combined` and `distance` follow from the others."""

    cosine: float
    jaccard: float
    js: float
    combined: float
    distance: float


@dataclass(frozen=True, kw_only=True)
class Advantage:
    """Nearness of base and mix to a target; `advantage` = base distance - mix distance."""

    share: float
    base_target: Proximity
    mix_target: Proximity
    advantage: float


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A candidate mix beside a target: its shares (the rest is the base's), how near it is, and its advantage."""

    name: str
    shares: dict[str, float]
    proximity: Proximity
    advantage: float


def distribution(counts: NDArray[np.int64], kept: int = KEPT_TOKENS) -> Distribution:
    """Shares of the `kept` most frequent tokens of `counts` `[vocab_size]`; they sum to 1."""
    shares = counts.astype(np.float64)
    if np.count_nonzero(counts) > kept:
        shares[np.argsort(-counts, kind="stable")[kept:]] = 0
    return np.asarray(shares / shares.sum(), np.float64)


@dataclass(frozen=True, eq=False)
class _Known:
    """A distribution with what every comparison wants of it: its length as a vector, and the sum of its p ln p."""

    shares: Distribution
    norm: float
    information: float

    @classmethod
    def of(cls, shares: Distribution) -> _Known:
        return cls(shares, float(np.sqrt((shares * shares).sum())), _information(shares))


def compare(p: Distribution, q: Distribution) -> Proximity:
    """Proximity of two distributions over the same vocabulary, `[vocab_size]` each."""
    return _compare(_Known.of(p), _Known.of(q))


def _compare(first: _Known, second: _Known) -> Proximity:
    p, q = first.shares, second.shares
    # Sums, not dot products: those wake a thread on every core, which takes longer than the work.
    cosine = min(1.0, float((p * q).sum()) / (first.norm * second.norm))
    jaccard = float(((p > 0) & (q > 0)).sum() / ((p > 0) | (q > 0)).sum())
    divergence = max(0.0, (first.information + second.information) / 2 - _information((p + q) / 2))
    js = 1 / (1 + divergence)
    combined = min(1.0, 0.4 * cosine + 0.3 * jaccard + 0.3 * js)
    return Proximity(cosine=cosine, jaccard=jaccard, js=js, combined=combined, distance=1 - combined)


def _information(p: Distribution) -> float:
    inside = p[p > 0]
    return float((inside * np.log(inside)).sum())


def advantage(base: Distribution, new: Distribution, target: Distribution, *, share: float) -> Advantage:
    """What mixing `share` of `new` into `base` does for `target`."""
    after = compare(mix({"base": base, "new": new}, {"new": share}, base="base"), target)
    before = compare(base, target)
    return Advantage(share=share, base_target=before, mix_target=after, advantage=before.distance - after.distance)


def mix(distributions: Mapping[str, Distribution], shares: Shares, *, base: str) -> Distribution:
    """The distribution of a mix: `shares` of its corpora, by tokens, and of `base` what they leave of 1.

    Raises:
        CallError: a share outside [0, 1], shares of more than 1 in all, or a corpus that is not there.
    """
    for name in (base, *shares):
        if name not in distributions:
            raise CallError(f"there is no corpus {name!r}; named are {', '.join(distributions)}")
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise CallError(f"share {share:g} of {name}: a share from 0 to 1 is allowed")
    rest = 1 - sum(shares.values())
    if rest < -1e-9:
        raise CallError(f"the shares {_written(shares)} add up to more than 1")
    mixed = max(rest, 0.0) * distributions[base]
    for name, share in shares.items():
        mixed = mixed + share * distributions[name]
    return mixed


def _written(shares: Shares) -> str:
    return ", ".join(f"{name}:{share:g}" for name, share in shares.items())


def matrix(distributions: Mapping[str, Distribution]) -> list[list[Proximity]]:
    """Proximity of every one to every one, in their order."""
    columns = [_Known.of(shares) for shares in distributions.values()]
    half = [[_compare(p, q) for q in columns[: number + 1]] for number, p in enumerate(columns)]
    return [[half[max(i, j)][min(i, j)] for j in range(len(columns))] for i in range(len(columns))]


def rank(
    distributions: Mapping[str, Distribution], candidates: Mapping[str, Shares], *, base: str, target: str
) -> list[Ranked]:
    """The candidate mixes by their advantage for `target`, best first, equal ones in the order given.

    Raises:
        CallError: as of `mix`, with the name of the candidate, or there is no such target.
    """
    if target not in distributions:
        raise CallError(f"there is no target {target!r}; named are {', '.join(distributions)}")
    aim, before = distributions[target], compare(distributions[base], distributions[target]).distance
    ranked = []
    for name, shares in candidates.items():
        try:
            near = compare(mix(distributions, shares, base=base), aim)
        except CallError as error:
            raise CallError(f"candidate {name}: {error}") from None
        ranked.append(Ranked(name=name, shares=dict(shares), proximity=near, advantage=before - near.distance))
    return sorted(ranked, key=lambda one: -one.advantage)


def measure(base: Path, new: Path, target: Path, *, share: float) -> Advantage:
    """`advantage` of three converted directories; raises as `load` and `mix` do."""
    found = load({str(folder): folder for folder in (base, new, target)})
    return advantage(found[str(base)], found[str(new)], found[str(target)], share=share)


def load(folders: Mapping[str, Path]) -> dict[str, Distribution]:
    """The distributions of converted directories, by the names they are given here.

    Raises:
        CorpusError: a directory is no corpus or holds no tokens, or they have different tokenizers.
    """
    manifests = {folder: read_manifest(folder) for folder in folders.values()}
    tokenizers = {folder: manifest.parameters["tokenizer_sha256"] for folder, manifest in manifests.items()}
    if len(set(tokenizers.values())) > 1:
        pairs = ", ".join(f"{folder}: {sha256[:12]}" for folder, sha256 in tokenizers.items())
        raise CorpusError(f"different tokenizers cannot be compared ({pairs}); convert with one tokenizer")
    return {name: _load(folder, manifests[folder].parameters["eos_id"]) for name, folder in folders.items()}


def _load(folder: Path, eos_id: int) -> Distribution:
    counts = read_unigram(folder).copy()
    counts[eos_id] = 0
    if not counts.any():
        raise CorpusError(f"{folder} holds no tokens to compare", path=str(folder))
    return distribution(counts)
