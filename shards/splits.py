"""One split of one part: documents in, the files of a split out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.documents import DocumentsWriter
from shards.durable import write_chunks, write_file
from shards.examples import is_token, make_rows
from shards.mds import RowFormat, Shard, ShardWriter
from shards.packing import WINDOW_TOKENS, Placer, Window, end_documents
from shards.texts import Texts
from shards.tokenizer import Encoder, Tokenizer

__all__ = ["BATCH_BYTES", "SplitResult", "SplitWriter", "array_chunks", "count_lengths"]

BATCH_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """Counts of one split of one part.

    Attributes:
        documents, text_bytes: of all texts in it.
        tokens: of all documents, end-of-text included. padding: tokens that fill up best-fit rows.
        lengths: how many documents have [2**i, 2**(i+1)) tokens, end-of-text included.
        shards: the full ones. rest: integers behind them.
    """

    documents: int
    text_bytes: int
    tokens: int
    padding: int
    lengths: tuple[int, ...]
    shards: tuple[Shard, ...]
    rest: int


def array_chunks(array: NDArray[Any]) -> tuple[bytes, memoryview]:
    """A flat `array` as the bytes of an .npy file, without a copy of it."""
    header = BytesIO()
    about = np.lib.format.header_data_from_array_1_0(array)  # type: ignore[no-untyped-call]
    np.lib.format.write_array_header_1_0(header, about)  # type: ignore[no-untyped-call]
    return header.getvalue(), array.data.cast("B") if len(array) else memoryview(b"")


def count_lengths(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of `lengths` (from 1) are in [2**i, 2**(i+1)): `[64]`."""
    return np.bincount(np.frexp(lengths.astype(np.float64))[1] - 1, minlength=64)


class SplitWriter:
    """Takes documents, writes the files of one split into `folder`."""

    def __init__(self, folder: Path, name: str, row_format: RowFormat, tokenizer: Tokenizer, encoder: Encoder) -> None:
        self._folder, self._name = folder, name
        self._form, self._tokenizer, self._encoder = row_format, tokenizer, encoder
        self._counts = np.zeros(tokenizer.vocab_size, np.int64)
        self._lengths = np.zeros(64, np.int64)
        self._shards: list[Shard] = []
        self._open: ShardWriter | None = None
        self._documents_writer = DocumentsWriter()
        self._placer = Placer(
            seq_len=row_format.seq_len, eos_id=tokenizer.eos_id, dtype=row_format.dtype, window_tokens=WINDOW_TOKENS
        )
        self._batch = Texts([], [], [])
        self._batch_bytes = self._documents = self._text_bytes = self._tokens = self._padding = 0

    def add(self, texts: Texts) -> None:
        """More documents."""
        self._batch.extend(texts)
        self._batch_bytes += texts.num_bytes
        if self._batch_bytes >= BATCH_BYTES:
            self._encode()

    def _encode(self) -> None:
        if self._form.has_examples:
            self._write(self._examples())
        else:
            self._stream()
        self._documents += len(self._batch.texts)
        self._text_bytes += self._batch_bytes
        self._batch, self._batch_bytes = Texts([], [], []), 0

    def _stream(self) -> None:
        """Write the documents of the batch end to end, or place them."""
        ids, offsets = self._encoder.encode(self._batch.texts)
        stream = end_documents(ids, offsets, self._tokenizer.eos_id, self._form.dtype)
        lengths = np.diff(offsets) + 1
        self._count(stream, lengths)
        if self._form.is_placed:
            self._write_windows(self._placer.add(stream, lengths, self._batch.numbers))
        else:
            self._documents_writer.add(self._batch.numbers, lengths)
            self._write(stream)

    def _write_windows(self, windows: Iterator[Window]) -> None:
        for window in windows:
            self._documents_writer.add_placed(window.records, window.ends, window.owners)
            self._padding += window.num_filling
            self._write(window.tokens)

    def _examples(self) -> NDArray[Any]:
        """The rows of the batch end to end; in the document index each document is as long as its row."""
        ids, offsets, prompts = self._encoder.encode_examples(self._batch.texts, self._batch.prompts)
        seq_len, eos_id = self._form.seq_len, self._tokenizer.eos_id
        rows = make_rows(ids, offsets, prompts, eos_id=eos_id, seq_len=seq_len, dtype=self._form.dtype)
        tokens = rows[:, -seq_len:][is_token(rows)]
        self._count(tokens, np.diff(offsets) + 1)
        self._documents_writer.add(self._batch.numbers, np.full(len(rows), seq_len))
        return rows.reshape(-1)

    def _count(self, kept: NDArray[Any], lengths: NDArray[np.int64]) -> None:
        self._counts += np.bincount(kept, minlength=len(self._counts))
        self._lengths += count_lengths(lengths)
        self._tokens += int(lengths.sum())

    def _write(self, stream: NDArray[Any]) -> None:
        while len(stream):
            if self._open is None:
                path = self._folder / f"{self._name}.{len(self._shards):05}.mds"
                self._open = ShardWriter(path, self._form.rows_per_shard, self._form)
            fits, stream = stream[: self._open.room], stream[self._open.room :]
            self._open.write(fits)
            if not self._open.room:
                self._shards.append(self._open.finish())
                self._open = None

    def finish(self) -> SplitResult:
        """Write what is left, and say what there is."""
        self._encode()
        self._write_windows(self._placer.finish())
        rest = 0
        if self._open is not None:
            rest = self._form.rows_per_shard * self._form.row_size - self._open.room
            self._open.leave(self._folder / f"{self._name}.rest.mds")
        write_file(self._folder / f"{self._name}.unigram.npy", *array_chunks(self._counts))
        write_chunks(self._folder / f"{self._name}.documents.bin", self._documents_writer.finish())
        return SplitResult(
            documents=self._documents,
            text_bytes=self._text_bytes,
            tokens=self._tokens,
            padding=self._padding,
            lengths=tuple(np.trim_zeros(self._lengths, "b").tolist()),
            shards=tuple(self._shards),
            rest=rest,
        )
