"""Whether the numbers of a manifest agree: with one another, with the document index, and with the other split's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mixer.documents import DocumentIndex
from shards.documents import as_corpus_error
from shards.errors import CorpusError
from shards.manifest import MANIFEST, Manifest, fingerprint, read_manifest
from shards.part import HOLDOUT, TRAIN
from shards.sources.blocks import DAMAGED, NOTHING
from shards.splits import count_lengths

__all__ = ["check_lengths", "check_manifest", "check_together"]

_SHARED = ("name", "parameters", "sources", "records", "empty_records", "removed", "skipped", "skipped_sha256")


def check_manifest(folder: Path, manifest: Manifest) -> Iterator[str]:
    """What in the manifest contradicts the rest of it."""
    path = folder / MANIFEST
    samples = sum(shard.samples for shard in manifest.shards)
    seq_len = manifest.row_format.seq_len
    if samples != manifest.samples:
        yield f"{path}: says {manifest.samples} samples, its shards add up to {samples}"
    if manifest.row_format.has_examples:
        if manifest.documents != samples:
            yield f"{path}: says {manifest.documents} documents, each has one of the {samples} samples"
    elif (
        manifest.tokens + manifest.padding_tokens != samples * seq_len + manifest.dropped_tokens
        or not 0 <= manifest.dropped_tokens < seq_len
    ):
        yield (
            f"{path}: says {manifest.tokens} tokens, {manifest.dropped_tokens} of them dropped; "
            f"{samples} samples of {seq_len} are {samples * seq_len}"
        )
    if fingerprint(manifest.row_format, manifest.shards) != manifest.fingerprint:
        yield f"{path}: its fingerprint is not that of the shards it lists"


def check_lengths(folder: Path, manifest: Manifest, documents: DocumentIndex) -> Iterator[str]:
    """Whether the histogram of lengths is that of the documents; of examples, that there are so many."""
    path = folder / MANIFEST
    if not manifest.lengths:  # of an earlier version
        return
    if manifest.row_format.has_examples:
        if sum(manifest.lengths) != manifest.documents:
            yield f"{path}: its lengths are those of {sum(manifest.lengths)} documents, there are {manifest.documents}"
        return
    try:
        with as_corpus_error(folder):
            found = np.trim_zeros(count_lengths(documents.lengths()), "b").tolist()
    except CorpusError as error:
        yield str(error)
        return
    if found != list(manifest.lengths):
        yield f"{path}: its lengths are not those of the documents in the index"


def check_together(folders: Sequence[Path]) -> list[str]:
    """Faults of the splits of one corpus beside each other; empty if there are none, or there is only one to have.

    Raises CorpusError: a manifest cannot be read.
    """
    manifests = {folder: read_manifest(folder) for folder in folders}
    first, *others = manifests
    faults = [
        f"{folder / MANIFEST}: its {key} are not those of {first}"
        for folder in others
        for key in _SHARED
        if getattr(manifests[folder], key) != getattr(manifests[first], key)
    ]
    for folder, manifest in manifests.items():
        if folder.name in (TRAIN, HOLDOUT) and manifest.split != folder.name:
            faults.append(f"{folder / MANIFEST}: is that of the split {manifest.split}")
    one = manifests[first]
    if len(manifests) == 1 and one.parameters.get("holdout_threshold"):
        return [*faults, f"{first.parent}: the split {HOLDOUT if one.split == TRAIN else TRAIN} is missing"]
    documents = sum(manifest.documents for manifest in manifests.values())
    skipped = sum(count for kind, count in one.skipped.items() if kind not in (DAMAGED, NOTHING))
    told = documents + one.empty_records + sum(one.removed.values()) + skipped
    if told != one.records:
        faults.append(
            f"{first / MANIFEST}: says {one.records} records; {documents} documents, {one.empty_records} empty, "
            f"{sum(one.removed.values())} removed and {skipped} skipped ones are {told}"
        )
    return faults
