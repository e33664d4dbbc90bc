"""Writing the document index: a piece for each part, and all pieces of a split joined to one file.

Which record each document came from and how many tokens it has, in about a byte and a half a document. How the file
is laid out is told in `mixer.documents`, which reads it. A piece is what the file has of one unit: the number of its
blocks, their rows of the block table, then the blocks. Integer arithmetic alone: equal documents give equal bytes
everywhere.
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
_ENTRY_BYTES = 5 * 8  # of a block in the table


class DocumentsWriter:
    """Takes the documents of one unit in order, and gives its piece of the file."""

    def __init__(self, block_documents: int = BLOCK_DOCUMENTS) -> None:
        self._block_documents = block_documents
        self._records = self._lengths = np.empty(0, np.int64)
        self._last_record = 0
        self._table: list[tuple[int, int, int, int, int]] = []
        self._blocks: list[bytes] = []

    def add(self, records: Sequence[int] | NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """More documents: their records (ascending, from 1) and their tokens, end-of-text included, `[n]` each."""
        self._records = np.concatenate([self._records, np.asarray(records, np.int64)])
        self._lengths = np.concatenate([self._lengths, lengths.astype(np.int64)])
        while len(self._records) >= self._block_documents:
            self._cut(self._block_documents)

    def add_placed(self, records: NDArray[np.int64], ends: NDArray[np.int64], owners: NDArray[np.int64]) -> None:
        """The documents of some rows that are whole.

        Args:
            records: of each document, ascending, `[n]`.
            ends: where each piece ends in the tokens of the rows, the last at their end, `[m]`.
            owners: which document each piece is of, from 0; n for filling, `[m]`.
        """
        self._write(records, ends, owners.astype("<u2" if len(records) < 0xFFFF else "<u4").tobytes())

    def finish(self) -> list[bytes]:
        """The piece, as chunks to write one after another."""
        if len(self._records):
            self._cut(len(self._records))
        return [np.array([len(self._table)], "<i8").tobytes(), np.array(self._table, "<i8").tobytes(), *self._blocks]

    def _cut(self, num_documents: int) -> None:
        records, self._records = np.split(self._records, [num_documents])
        lengths, self._lengths = np.split(self._lengths, [num_documents])
        self._write(records, np.cumsum(lengths))

    def _write(self, records: NDArray[np.int64], ends: NDArray[np.int64], owners: bytes = b"") -> None:
        records = records - self._last_record
        tokens, span = int(ends[-1]), int(records[-1])
        block = encode(ends, tokens) + encode(records, span) + owners
        self._table.append((len(block), tokens, span, len(records), len(ends)))
        self._blocks.append(block)
        self._last_record += span


@dataclass(frozen=True)
class Piece:
    """The piece of one unit at `path`, and how many of the unit's tokens lie in shards of its own.

    `source` is the number of its source, and `records_before` how many records that has before the unit.
    """

    path: Path
    own_tokens: int
    source: int = 0
    records_before: int = 0


def join(pieces: Sequence[Piece], *, is_placed: bool = False) -> Iterator[bytes]:
    """The bytes of `documents.bin`, chunk by chunk, from the pieces of all units in order."""
    yield MAGIC
    yield np.array([len(pieces), is_placed], "<i8").tobytes()
    num_blocks = []
    for piece in pieces:
        with piece.path.open("rb") as file:
            num_blocks.append(int(np.frombuffer(file.read(8), "<i8")[0]))
    for piece, count in zip(pieces, num_blocks, strict=True):
        yield np.array([piece.source, piece.records_before, count, piece.own_tokens], "<i8").tobytes()
    for piece, count in zip(pieces, num_blocks, strict=True):
        with piece.path.open("rb") as file:
            file.seek(8)
            yield file.read(count * _ENTRY_BYTES)
    for piece, count in zip(pieces, num_blocks, strict=True):
        with piece.path.open("rb") as file:
            file.seek(8 + count * _ENTRY_BYTES)
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
