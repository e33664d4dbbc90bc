"""Statistics of a converted directory: how much it holds, and how long its documents are. No shard is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixer.documents import open_documents
from shards.documents import as_corpus_error
from shards.manifest import read_manifest, read_unigram

__all__ = ["Bin", "Statistics", "lengths_of", "read_statistics", "table"]

Bin = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Totals of a split, and its lengths.

    Attributes:
        samples, documents, tokens, text_bytes: as of the manifest.
        distinct_tokens: how many ids occur in its rows.
        tokens_per_document, bytes_per_token: means; 0 of nothing.
        lengths: (from, to, documents) of each power of two, tokens with end-of-text, half-open; empty if unknown.
    """

    samples: int
    documents: int
    tokens: int
    text_bytes: int
    distinct_tokens: int
    tokens_per_document: float
    bytes_per_token: float
    lengths: tuple[Bin, ...]


def read_statistics(folder: Path) -> Statistics:
    """The statistics of the split `folder`. Raises CorpusError: it is none, or cannot be read."""
    manifest = read_manifest(folder)
    return Statistics(
        samples=manifest.samples,
        documents=manifest.documents,
        tokens=manifest.tokens,
        text_bytes=manifest.text_bytes,
        distinct_tokens=int(np.count_nonzero(read_unigram(folder))),
        tokens_per_document=round(manifest.tokens / max(manifest.documents, 1), 2),
        bytes_per_token=round(manifest.text_bytes / max(manifest.tokens, 1), 3),
        lengths=tuple(lengths_of(folder)),
    )


def lengths_of(folder: Path) -> list[Bin]:
    """How many documents have how many tokens, by powers of two, from the first that has any to the last.

    Of a corpus of an earlier version they are counted from its document index; without one there are none.
    """
    manifest = read_manifest(folder)
    counts = list(manifest.lengths)
    if not counts and manifest.documents_sha256 and not manifest.row_format.has_examples:
        with as_corpus_error(folder):
            counts = np.bincount(np.frexp(open_documents(folder).lengths())[1] - 1).tolist()
    used = [number for number, count in enumerate(counts) if count]
    return [(1 << n, 2 << n, counts[n]) for n in range(used[0], used[-1] + 1)] if used else []


def table(statistics: Statistics) -> str:
    """The lengths as lines of text, with bars."""
    lines = [
        f"  {statistics.tokens_per_document:,.1f} tokens a document, {statistics.bytes_per_token:.2f} bytes a token, "
        f"{statistics.distinct_tokens:,} different tokens"
    ]
    most = max((count for _, _, count in statistics.lengths), default=1)
    for start, end, count in statistics.lengths:
        share = count / max(statistics.documents, 1)
        bar = "#" * max(round(32 * count / most), count > 0)
        lines.append(f"  {f'{start:,} to {end - 1:,} tokens':>28} {count:>12,}  {share:>6.1%}  {bar}".rstrip())
    return "\n".join(lines)
