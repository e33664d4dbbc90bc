"""Proximity of corpora by their unigram counts (arXiv 2510.14865, section on proximity).

Over distributions p and q of tokens: cosine; Jaccard of the sets of tokens that occur; JS similarity
1 / (1 + JSD), JSD in nats. combined = 0.4 cosine + 0.3 Jaccard + 0.3 JS similarity, distance = 1 - combined.
A mix is s * new + (1 - s) * base, by tokens. Its advantage for a target is distance(base, target) -
distance(mix, target): above 0, the mix lies nearer to the target than the base does.

Counts are those kept by conversion, over whole documents (the paper cuts texts at 512 tokens), without the
end-of-text token; of each corpus the 50,000 most frequent tokens are kept, ties by smaller id.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.errors import CallError, CorpusError
from shards.manifest import read_manifest, read_unigram

__all__ = ["KEPT_TOKENS", "Advantage", "Proximity", "advantage", "compare", "distribution", "measure"]

KEPT_TOKENS = 50_000

Distribution = NDArray[np.float64]


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


def distribution(counts: NDArray[np.int64], kept: int = KEPT_TOKENS) -> Distribution:
    """Shares of the `kept` most frequent tokens of `counts` `[vocab_size]`; they sum to 1."""
    shares = counts.astype(np.float64)
    shares[np.argsort(-counts, kind="stable")[kept:]] = 0
    return np.asarray(shares / shares.sum(), np.float64)


def compare(p: Distribution, q: Distribution) -> Proximity:
    """Proximity of two distributions over the same vocabulary, `[vocab_size]` each."""
    cosine = float(p @ q / (np.linalg.norm(p) * np.linalg.norm(q)))
    jaccard = float(((p > 0) & (q > 0)).sum() / ((p > 0) | (q > 0)).sum())
    middle = (p + q) / 2
    divergence = max(0.0, (_kl(p, middle) + _kl(q, middle)) / 2)
    js = 1 / (1 + divergence)
    combined = 0.4 * cosine + 0.3 * jaccard + 0.3 * js
    return Proximity(cosine=cosine, jaccard=jaccard, js=js, combined=combined, distance=1 - combined)


def _kl(p: Distribution, q: Distribution) -> float:
    inside = p > 0
    return float((p[inside] * np.log(p[inside] / q[inside])).sum())


def advantage(base: Distribution, new: Distribution, target: Distribution, *, share: float) -> Advantage:
    """What mixing `share` of `new` into `base` does for `target`."""
    if not 0 <= share <= 1:
        raise CallError(f"--share {share}: a share from 0 to 1 is allowed")
    before, after = compare(base, target), compare(share * new + (1 - share) * base, target)
    return Advantage(share=share, base_target=before, mix_target=after, advantage=before.distance - after.distance)


def measure(base: Path, new: Path, target: Path, *, share: float) -> Advantage:
    """`advantage` of three converted directories.

    Raises:
        CorpusError: a directory is no corpus, or they have different tokenizers.
    """
    tokenizers = {folder: read_manifest(folder).parameters["tokenizer_sha256"] for folder in (base, new, target)}
    if len(set(tokenizers.values())) > 1:
        pairs = ", ".join(f"{folder}: {sha256[:12]}" for folder, sha256 in tokenizers.items())
        raise CorpusError(f"different tokenizers cannot be compared ({pairs}); convert with one tokenizer")
    first, second, third = (_load(folder) for folder in (base, new, target))
    return advantage(first, second, third, share=share)


def _load(folder: Path) -> Distribution:
    counts = read_unigram(folder).copy()
    counts[read_manifest(folder).parameters["eos_id"]] = 0
    if not counts.any():
        raise CorpusError(f"{folder} holds no tokens to compare", path=str(folder))
    return distribution(counts)
