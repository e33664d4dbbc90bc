"""Looking into a converted directory: its manifest in words, and rows as text, document by document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixer.documents import DocumentIndex
from shards.documents import as_corpus_error, open_index
from shards.errors import CallError, CorpusError, TokenizerError
from shards.examples import tokens_of
from shards.manifest import Manifest, read_manifest
from shards.mds import read_rows, shard_name
from shards.sources import place
from shards.tokenizer import decode, find_tokenizer

__all__ = ["Sample", "inspect", "read_sample", "split_folders"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row as text.

    Attributes:
        sample_id: its place in the directory.
        tokens: its ids `[seq_len]`; of an example without what fills its row up.
        pieces: texts of the documents in it, in order, without the end-of-text token. The first may have begun in
            the row before, the last may go on in the next. Of an example: its prompt, if it has one, and its output.
        places: where each piece comes from: file, and line or row; empty for a corpus without document index,
            whose pieces are cut at the end-of-text tokens.
    """

    sample_id: int
    tokens: NDArray[Any]
    pieces: tuple[str, ...]
    places: tuple[str, ...]


def split_folders(folder: Path) -> list[Path]:
    """`folder` itself if it is a split, else the splits in it (`DIR/c4` → train and holdout)."""
    if not folder.is_dir():
        raise CorpusError(f"{folder} is no directory; name one that convert made, like DIR/c4/train", path=str(folder))
    below = [folder / name for name in ("train", "holdout") if (folder / name).is_dir()]
    return below or [folder]


def read_sample(folder: Path, manifest: Manifest, sample_id: int) -> NDArray[Any]:
    """The row of one sample `[row_size]`."""
    if not 0 <= sample_id < manifest.samples:
        raise CallError(f"sample {sample_id} is not in {folder}, which has {manifest.samples} samples, from 0")
    ends = np.cumsum([shard.samples for shard in manifest.shards])
    number = int(np.searchsorted(ends, sample_id, side="right"))
    first = int(ends[number]) - manifest.shards[number].samples
    return np.array(read_rows(folder / shard_name(number), manifest.row_format)[sample_id - first])


def inspect(folder: Path, sample_ids: Sequence[int], *, tokenizer: str | None = None) -> list[Sample]:
    """Samples of the split `folder`, decoded.

    Args:
        folder: a directory with index.json and corpus.json.
        sample_ids: which.
        tokenizer: folder or name; None for the one the manifest names.

    Raises:
        CallError: there is no such sample.
        CorpusError: what is in the folder cannot be read.
        TokenizerError: the tokenizer is not there or not the one of the corpus.
    """
    manifest = read_manifest(folder)
    found = find_tokenizer(tokenizer or manifest.tokenizer)
    if found.sha256 != manifest.parameters["tokenizer_sha256"]:
        raise TokenizerError(
            f"{found.source} is not the tokenizer of {folder} (its hash begins {found.sha256[:12]}, the "
            f"corpus's {manifest.parameters['tokenizer_sha256'][:12]}); name the right one with --tokenizer"
        )
    documents = open_index(folder) if manifest.documents_sha256 else None
    samples = []
    for sample_id in sample_ids:
        tokens = read_sample(folder, manifest, sample_id)
        if manifest.row_format.has_examples:
            assert documents is not None
            tokens, runs, places = _cut_example(tokens, sample_id, documents, found.eos_id)
        elif documents:
            runs, places = _cut_by_index(tokens, sample_id, documents)
        else:
            runs, places = _cut(tokens, found.eos_id), []
        pieces = tuple(decode(found, run.tolist()) for run in runs)
        samples.append(Sample(sample_id=sample_id, tokens=tokens, pieces=pieces, places=tuple(places)))
    return samples


def _cut(tokens: NDArray[Any], eos_id: int) -> list[NDArray[Any]]:
    """What is between the end-of-text tokens, and behind the last if anything is."""
    ends = np.flatnonzero(tokens == eos_id)
    runs = np.split(tokens, np.stack([ends, ends + 1], axis=1).ravel())[::2]
    return runs if len(runs[-1]) else runs[:-1]


def _cut_example(
    row: NDArray[Any], sample_id: int, documents: DocumentIndex, eos_id: int
) -> tuple[NDArray[Any], list[NDArray[Any]], list[str]]:
    """The tokens of an example, those of its prompt and its output, and where they come from."""
    tokens, num_prompt = tokens_of(row)
    with as_corpus_error(documents.folder):
        (passage,) = documents.in_sample(sample_id)
    source = place(passage.document.source, passage.document.record)
    end = len(tokens) - (len(tokens) > num_prompt and tokens[-1] == eos_id)
    runs, places = [tokens[num_prompt:end]], [f"{source}, output"]
    if num_prompt:
        runs, places = [tokens[:num_prompt], *runs], [f"{source}, prompt", *places]
    return tokens, runs, places


def _cut_by_index(
    tokens: NDArray[Any], sample_id: int, documents: DocumentIndex
) -> tuple[list[NDArray[Any]], list[str]]:
    """Tokens of each document in the row, and where it comes from."""
    runs, places = [], []
    with as_corpus_error(documents.folder):
        for passage in documents.in_sample(sample_id):
            length, document = passage.end - passage.start, passage.document
            is_end = passage.offset + length == document.num_tokens
            runs.append(tokens[passage.start : passage.end - is_end])
            places.append(place(document.source, document.record))
    return runs, places
