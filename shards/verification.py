"""Verification: a directory of shards against its manifest, everything hashed and counted again.

Faults found: a shard that is missing, cut, changed or in another's place; a file of shards that the
manifest does not know; an index or counts that do not say what the shards hold; a document index that was
changed, or whose documents do not end where the rows have an end-of-text token; a manifest that does not
agree with itself. Nothing is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixer.documents import DocumentIndex
from mixer.storage.integrity import MARKS
from mixer.storage.locks import FILE_NAME as LOCK
from shards.documents import as_corpus_error, open_index
from shards.errors import CorpusError
from shards.examples import is_token
from shards.hashing import identify
from shards.manifest import (
    DOCUMENTS,
    INDEX,
    MANIFEST,
    SKIPPED,
    UNIGRAM,
    Manifest,
    read_manifest,
    read_unigram,
)
from shards.mds import Shard, encode_index, read_rows, read_shard, shard_file, shard_name
from shards.tallies import check_lengths, check_manifest

__all__ = ["verify"]


def verify(folder: Path, on_progress: Callable[[int], None] = lambda num_bytes: None) -> list[str]:
    """Faults of the split `folder`, one line each, in the order of the files; empty if it is whole.

    Args:
        folder: a directory with index.json and corpus.json.
        on_progress: told the bytes checked since its last call.

    Raises:
        CorpusError: `folder` is no corpus at all, or its manifest cannot be read.
    """
    manifest = read_manifest(folder)
    counts = np.zeros(manifest.parameters["vocab_size"], np.int64)
    faults = [*check_manifest(folder, manifest), *_check_index(folder, manifest)]
    documents = _open_documents(folder, manifest, faults)
    if documents:
        faults.extend(check_lengths(folder, manifest, documents))
    first_sample = 0
    for number, shard in enumerate(manifest.shards):
        found = [*_check_shard(folder, manifest, number, counts)]
        if manifest.row_format.has_examples and not found:
            found = [*_check_examples(folder, manifest, number)]
        elif documents and not found:
            found = [*_check_ends(folder, manifest, number, documents, first_sample)]
        faults.extend(found)
        first_sample += shard.samples
        on_progress(shard.bytes)
    counts[manifest.parameters["eos_id"]] -= manifest.padding_tokens
    faults.extend(_check_unigram(folder, manifest, counts))
    names = [shard_file(folder / shard_name(n), manifest.row_format).name for n in range(len(manifest.shards))]
    known = {INDEX, MANIFEST, UNIGRAM, *names}
    if manifest.documents_sha256 is not None:
        known.add(DOCUMENTS)
    if manifest.skipped_sha256 is not None:
        known.add(SKIPPED)
        if not (folder / SKIPPED).is_file() or identify(folder / SKIPPED).sha256 != manifest.skipped_sha256:
            faults.append(f"{folder / SKIPPED}: is not the file of this manifest")
    known |= {MARKS, LOCK}  # readers leave them, and whoever sees them may remove them
    extra = sorted(path for path in folder.iterdir() if path.name not in known)
    faults.extend(f"{path}: not in the manifest; remove it" for path in extra)
    return faults


def _check_index(folder: Path, manifest: Manifest) -> Iterator[str]:
    path = folder / INDEX
    expected = encode_index(manifest.shards, manifest.row_format)
    try:
        found = path.read_bytes()
    except OSError as error:
        yield f"{path}: {error.strerror}"
        return
    if found == expected and identify(path).sha256 == manifest.index_sha256:
        return
    try:
        there = json.loads(found)["shards"]
    except (ValueError, KeyError, TypeError):
        yield f"{path}: cannot be read as an index"
        return
    wanted = json.loads(expected)["shards"]
    wrong = [number for number, pair in enumerate(zip(there, wanted, strict=False)) if pair[0] != pair[1]]
    detail = f"first at shard {wrong[0]}" if wrong else f"{len(there)} shards, not {len(wanted)}"
    if there == wanted:
        detail = "same entries in other bytes"
    yield f"{path}: is not the index of this manifest ({detail})"


def _open_documents(folder: Path, manifest: Manifest, faults: list[str]) -> DocumentIndex | None:
    """The document index if the manifest has one and it can be used; adds what is wrong with it to `faults`."""
    if manifest.documents_sha256 is None:
        return None
    try:
        documents = open_index(folder)
        if identify(folder / DOCUMENTS).sha256 == manifest.documents_sha256:
            return documents
        faults.append(f"{folder / DOCUMENTS}: is not the file of this manifest")
    except CorpusError as error:
        faults.append(str(error))
    return None


def _check_ends(
    folder: Path, manifest: Manifest, number: int, documents: DocumentIndex, first_sample: int
) -> Iterator[str]:
    """Whether every document that the index lets end in this good shard does so there."""
    tokens = read_rows(folder / shard_name(number), manifest.row_format).ravel()
    seq_len = manifest.row_format.seq_len
    try:
        with as_corpus_error(folder):
            ends = documents.ends_in(first_sample, first_sample + manifest.shards[number].samples)
    except CorpusError as error:
        yield str(error)
        return
    wrong = ends[tokens[ends - first_sample * seq_len] != manifest.parameters["eos_id"]]
    if len(wrong):
        sample_id, token = divmod(int(wrong[0]), seq_len)
        yield f"{folder / DOCUMENTS}: says that a document ends at token {token} of sample {sample_id}, where none does"


def _check_shard(folder: Path, manifest: Manifest, number: int, counts: NDArray[np.int64]) -> Iterator[str]:
    """Faults of one shard; adds the tokens of a good one to `counts`."""
    path = shard_file(folder / shard_name(number), manifest.row_format)
    expected = manifest.shards[number]
    if not path.is_file():
        yield f"{path}: missing"
        return
    try:
        found = identify(path)
    except CorpusError as error:
        yield str(error)
        return
    num_bytes, sha256 = _on_disk(expected)
    if found.bytes != num_bytes:
        yield f"{path}: {found.bytes} bytes, not {num_bytes}"
    elif found.sha256 != sha256:
        known = [_on_disk(shard)[1] for shard in manifest.shards]
        is_other = found.sha256 in known
        detail = (
            f"it is {shard_name(known.index(found.sha256))}, in the wrong place"
            if is_other
            else "its bytes have changed"
        )
        yield f"{path}: {detail} (SHA-256 {found.sha256[:12]}, not {sha256[:12]})"
    else:
        try:
            rows = read_rows(folder / shard_name(number), manifest.row_format)
        except CorpusError as error:
            yield str(error)
            return
        tokens = rows[:, -manifest.row_format.seq_len :]
        if manifest.row_format.compression and not _unpacks_to(folder, manifest, number):
            yield f"{path}: unpacks to other bytes than those of the manifest"
        elif len(rows) != expected.samples:
            yield f"{path}: {len(rows)} samples, not {expected.samples}"
        elif tokens.max() >= len(counts):
            yield f"{path}: token {tokens.max()} is outside the vocabulary of {len(counts)}"
        else:
            for start in range(0, len(rows), 512):
                block = tokens[start : start + 512]
                if manifest.row_format.has_examples:
                    block = block[is_token(rows[start : start + 512])]
                counts += np.bincount(block.ravel(), minlength=len(counts))


def _unpacks_to(folder: Path, manifest: Manifest, number: int) -> bool:
    """Whether a packed shard holds what the manifest says of its unpacked form."""
    shard, data = manifest.shards[number], read_shard(folder / shard_name(number), manifest.row_format)
    return (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)


def _on_disk(shard: Shard) -> tuple[int, str]:
    """Size and hash of the file that there is of a shard."""
    if shard.zip_bytes is not None and shard.zip_sha256 is not None:
        return shard.zip_bytes, shard.zip_sha256
    return shard.bytes, shard.sha256


def _check_examples(folder: Path, manifest: Manifest, number: int) -> Iterator[str]:
    """Whether the counts of every example of this good shard can be, and what fills its row up is end-of-text."""
    rows = read_rows(folder / shard_name(number), manifest.row_format)
    seq_len, eos_id = manifest.row_format.seq_len, manifest.parameters["eos_id"]
    num_prompt, num_tokens = rows[:, 0], rows[:, 1]
    filled = ((rows[:, -seq_len:] == eos_id) | is_token(rows)).all(1)
    wrong = np.flatnonzero(~((num_prompt <= num_tokens) & (num_tokens > 0) & (num_tokens <= seq_len) & filled))
    if len(wrong):
        yield f"{folder / shard_name(number)}: the counts of its row {wrong[0]} are not those of an example"


def _check_unigram(folder: Path, manifest: Manifest, counts: NDArray[np.int64]) -> Iterator[str]:
    path = folder / UNIGRAM
    try:
        there = read_unigram(folder)
    except CorpusError as error:
        yield str(error)
        return
    tokens = manifest.tokens - manifest.dropped_tokens
    if identify(path).sha256 != manifest.unigram_sha256:
        yield f"{path}: is not the file of this manifest"
    elif counts.sum() == tokens and not np.array_equal(there, counts):
        yield f"{path}: does not count the tokens of the shards"
