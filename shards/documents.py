"""Writing the document index: a piece for each part, and all pieces of a split joined to one file.

Which record each document came from and how many tokens it has, in about a byte and a half a document. How the file
is laid out is told in `mixer.documents`, which reads it. A piece is what the file has of one source: its rows of the
block table, then its blocks. Integer arithmetic alone: equal documents give equal bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixer.documents import FILE_NAME, MAGIC, DocumentIndex, open_documents
from mixer.errors import MixerError
from mixer.increasing import encode
from shards.errors import CorpusError

__all__ = ["BLOCK_DOCUMENTS", "DOCUMENTS", "DocumentsWriter", "Piece", "as_corpus_error", "join", "open_index"]

BLOCK_DOCUMENTS = 4096
DOCUMENTS = FILE_NAME


class DocumentsWriter:
    """Takes the documents of one source in order, and gives its piece."""

    def __init__(self, block_documents: int = BLOCK_DOCUMENTS) -> None:
        self._block_documents = block_documents
        self._records = self._lengths = np.empty(0, np.int64)
        self._last_record = 0
        self._table: list[tuple[int, int, int]] = []
        self._blocks: list[bytes] = []

    def add(self, records: Sequence[int] | NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """More documents: their records (ascending, from 1) and their tokens, end-of-text included, `[n]` each."""
        self._records = np.concatenate([self._records, np.asarray(records, np.int64)])
        self._lengths = np.concatenate([self._lengths, lengths.astype(np.int64)])
        while len(self._records) >= self._block_documents:
            self._write(self._block_documents)

    def finish(self) -> list[bytes]:
        """The piece, as chunks to write one after another."""
        if len(self._records):
            self._write(len(self._records))
        return [np.array(self._table, "<i8").tobytes(), *self._blocks]

    def _write(self, num_documents: int) -> None:
        records, self._records = np.split(self._records, [num_documents])
        lengths, self._lengths = np.split(self._lengths, [num_documents])
        ends, records = np.cumsum(lengths), records - self._last_record
        tokens, span = int(ends[-1]), int(records[-1])
        block = encode(ends, tokens) + encode(records, span)
        self._table.append((len(block), tokens, span))
        self._blocks.append(block)
        self._last_record += span


@dataclass(frozen=True)
class Piece:
    """The piece of one unit at `path`: its documents, and how many of its tokens lie in shards of its own.

    `source` is the number of its source, and `records_before` how many records that has before the unit.
    """

    path: Path
    documents: int
    own_tokens: int
    source: int = 0
    records_before: int = 0


def join(pieces: Sequence[Piece], block_documents: int = BLOCK_DOCUMENTS) -> Iterator[bytes]:
    """The bytes of `documents.bin`, chunk by chunk, from the pieces of all units in order."""
    yield MAGIC
    yield np.array([len(pieces), block_documents], "<i8").tobytes()
    for piece in pieces:
        numbers = [piece.source, piece.records_before, piece.documents, piece.own_tokens]
        yield np.array(numbers, "<i8").tobytes()
    table_bytes = [-(-piece.documents // block_documents) * 24 for piece in pieces]
    for piece, size in zip(pieces, table_bytes, strict=True):
        with piece.path.open("rb") as file:
            yield file.read(size)
    for piece, size in zip(pieces, table_bytes, strict=True):
        with piece.path.open("rb") as file:
            file.seek(size)
            yield file.read()


def open_index(folder: Path) -> DocumentIndex:
    """The index of the split `folder`. Raises CorpusError: there is none, or it is damaged."""
    with as_corpus_error(folder):
        return open_documents(folder)


@contextmanager
def as_corpus_error(folder: Path) -> Iterator[None]:
    """Turn what `mixer` raises over an index into the error of this package."""
    try:
        yield
    except MixerError as error:
        raise CorpusError(error.message, path=str(folder)) from None
