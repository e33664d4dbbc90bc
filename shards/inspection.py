"""Looking into a converted directory: rows as text, document by document, each with its place in its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixer.documents import Document, DocumentIndex, Passage
from shards.documents import as_corpus_error, open_index
from shards.errors import CallError, CorpusError, TokenizerError
from shards.examples import tokens_of
from shards.manifest import Manifest, read_manifest
from shards.mds import read_rows, shard_name
from shards.sources import place
from shards.tokenizer import Tokenizer, decode, find_tokenizer

__all__ = ["Found", "Piece", "Sample", "find_document", "inspect", "read_sample", "split_folders"]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What stands in a row of one document; of an example, its prompt or its output.

    Attributes:
        text: without the end-of-text token.
        place: file, and line or row, and `prompt` or `output` of an example; empty for a corpus without document index.
        end: the end-of-text token, as text, if the document ends here.
        start_token, end_token: which tokens of its document these are, end-of-text included, from 0, half-open.
        num_tokens: of the whole document. All three are None without a document index.
        before, after: the sample that has what comes before and behind in the document; None if nothing does.
        is_cut: whether what comes behind is in no row.
    """

    text: str
    place: str = ""
    end: str = ""
    start_token: int | None = None
    end_token: int | None = None
    num_tokens: int | None = None
    before: int | None = None
    after: int | None = None
    is_cut: bool = False


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row as text.

    Attributes:
        sample_id: its place in the directory.
        tokens: its ids `[seq_len]`; without what fills the row up.
        pieces: what it holds, in order.
        num_filled: tokens behind them that fill the row up.
    """

    sample_id: int
    tokens: NDArray[Any]
    pieces: tuple[Piece, ...]
    num_filled: int = 0


@dataclass(frozen=True, kw_only=True)
class Found:
    """A document, and the samples that hold any of it: half-open ranges, ascending."""

    place: str
    num_tokens: int
    num_dropped: int
    samples: tuple[tuple[int, int], ...]


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


def find_document(folder: Path, source: str, record: int) -> Found | None:
    """The document of a record in the split `folder`; None if it gave none to this split.

    `source` is a path as the manifest names it, or the end of one.

    Raises:
        CorpusError: there is no such source, or no document index.
    """
    with as_corpus_error(folder):
        index = open_index(folder)
        document = index.find(source, record)
        if document is None:
            return None
        return Found(
            place=place(document.source, document.record),
            num_tokens=document.num_tokens,
            num_dropped=document.num_dropped,
            samples=tuple(index.samples_of(document)),
        )


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
        row = read_sample(folder, manifest, sample_id)
        if manifest.row_format.has_examples:
            assert documents is not None
            samples.append(_read_example(row, sample_id, documents, found))
        elif documents:
            samples.append(_read_by_index(row, sample_id, documents, found))
        else:
            samples.append(Sample(sample_id=sample_id, tokens=row, pieces=_cut(row, found)))
    return samples


def _cut(tokens: NDArray[Any], tokenizer: Tokenizer) -> tuple[Piece, ...]:
    """What is between the end-of-text tokens, and behind the last if anything is."""
    ends = np.flatnonzero(tokens == tokenizer.eos_id)
    runs = np.split(tokens, np.stack([ends, ends + 1], axis=1).ravel())[::2]
    pieces = [Piece(text=decode(tokenizer, run.tolist()), end=tokenizer.eos) for run in runs[:-1]]
    return (*pieces, *([Piece(text=decode(tokenizer, runs[-1].tolist()))] if len(runs[-1]) else []))


def _read_example(row: NDArray[Any], sample_id: int, documents: DocumentIndex, tokenizer: Tokenizer) -> Sample:
    """An example: its prompt, if it has one, and its output."""
    tokens, num_prompt = tokens_of(row)
    with as_corpus_error(documents.folder):
        (passage,) = documents.in_sample(sample_id)
    source = place(passage.document.source, passage.document.record)
    is_end = len(tokens) > num_prompt and tokens[-1] == tokenizer.eos_id
    borders = {"prompt": (0, num_prompt), "output": (num_prompt, len(tokens))}
    pieces = [
        Piece(
            text=decode(tokenizer, tokens[start : end - (is_end and name == "output")].tolist()),
            place=f"{source}, {name}",
            end=tokenizer.eos if is_end and name == "output" else "",
            start_token=start,
            end_token=end,
            is_cut=name == "output" and not is_end,
        )
        for name, (start, end) in borders.items()
        if name == "output" or num_prompt
    ]
    filled = documents.seq_len - len(tokens)
    return Sample(sample_id=sample_id, tokens=tokens, pieces=tuple(pieces), num_filled=filled)


def _read_by_index(row: NDArray[Any], sample_id: int, documents: DocumentIndex, tokenizer: Tokenizer) -> Sample:
    """What the document index says of a packed row."""
    with as_corpus_error(documents.folder):
        passages = documents.in_sample(sample_id)
    end = passages[-1].end if passages else 0
    pieces = tuple(_read_passage(row, passage, documents, tokenizer) for passage in passages)
    return Sample(sample_id=sample_id, tokens=row[:end], pieces=pieces, num_filled=len(row) - end)


def _read_passage(row: NDArray[Any], passage: Passage, documents: DocumentIndex, tokenizer: Tokenizer) -> Piece:
    document, start = passage.document, passage.offset
    end = start + passage.end - passage.start
    is_end = end == document.num_tokens
    after = None if is_end else _sample_of(document, end, documents)
    return Piece(
        text=decode(tokenizer, row[passage.start : passage.end - is_end].tolist()),
        place=place(document.source, document.record),
        end=tokenizer.eos if is_end else "",
        start_token=start,
        end_token=end,
        num_tokens=document.num_tokens,
        before=_sample_of(document, start - 1, documents) if start else None,
        after=after,
        is_cut=not is_end and after is None,
    )


def _sample_of(document: Document, token: int, documents: DocumentIndex) -> int | None:
    """The sample that holds this token of the document; None if it is in no row."""
    for start, end in document.spans:
        if token < end - start:
            sample_id = (start + token) // documents.seq_len
            return sample_id if sample_id < documents.num_samples else None
        token -= end - start
    return None
