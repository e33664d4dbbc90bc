"""One unit of work: an input file becomes a folder of shards, or nothing.

`convert_part` is a function of the file's bytes and the `Recipe`: same folder, byte for byte, on any
machine, in any process, at any time. The folder appears by one rename, after all of it is on disk:

    part.json               the source, and counts and shards of each split (`PartResult`)
    train.00000.mds ...     full shards of the split, in document order
    train.rest.npy          what is behind them, too little for a shard: tokens, or whole rows of examples
    train.unigram.npy       int64 [vocab_size], how often each token stands in all of these
    train.documents.bin     the record and the length of every document in them (`shards.documents`)

and the same for `holdout`. A document is held out when the first 64 bits of BLAKE2b over its text are
below the recipe's threshold: equal texts always land on the same side, in whatever file they are.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.documents import DocumentsWriter
from shards.durable import publish_folder, write_chunks, write_file, writing
from shards.errors import RecordError, SourceError
from shards.examples import is_token, make_rows
from shards.mds import RowFormat, Shard, write_shard
from shards.packing import RowPacker, end_documents
from shards.sources import Block, identify, place, read_blocks
from shards.templates import Template
from shards.tokenizer import Encoder, Tokenizer

__all__ = [
    "BATCH_BYTES",
    "HOLDOUT",
    "TRAIN",
    "PartResult",
    "Recipe",
    "SplitResult",
    "convert_part",
    "encode_array",
    "is_held_out",
    "read_part",
]

TRAIN, HOLDOUT = "train", "holdout"
BATCH_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything but the input that decides the bytes of a part.

    Attributes:
        template: makes the text of a record.
        tokenizer: makes tokens of the text.
        row_format: rows and shards.
        holdout_threshold: documents whose 64-bit hash is below it are held out; 0 for none.
    """

    template: Template
    tokenizer: Tokenizer
    row_format: RowFormat
    holdout_threshold: int

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, train first."""
        return (TRAIN, HOLDOUT) if self.holdout_threshold else (TRAIN,)


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """Counts of one split of one part; `tokens` are all of its documents', end-of-text included."""

    documents: int
    text_bytes: int
    tokens: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """What `part.json` holds; `bytes`, `mtime_ns` and `sha256` are those of the source when it was read."""

    path: str
    bytes: int
    mtime_ns: int
    sha256: str
    records: int
    empty: int
    splits: dict[str, SplitResult]


def is_held_out(document: bytes, threshold: int) -> bool:
    """Whether `document` (UTF-8, stripped) belongs to the held-out split."""
    return int.from_bytes(blake2b(document, digest_size=8).digest(), "big") < threshold


def encode_array(array: NDArray[Any]) -> bytes:
    """`array` as the bytes of an .npy file."""
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Document:
    """The stripped text of a record, UTF-8, and how many of its characters are the prompt."""

    text: bytes
    num_prompt_characters: int


class _SplitWriter:
    """Takes documents, writes the files of one split into `folder`."""

    def __init__(self, folder: Path, name: str, recipe: Recipe, encoder: Encoder) -> None:
        self._folder, self._name = folder, name
        self._recipe, self._encoder = recipe, encoder
        form = recipe.row_format
        self._packer = RowPacker(seq_len=form.row_size, num_rows=form.rows_per_shard, dtype=form.dtype)
        self._counts = np.zeros(recipe.tokenizer.vocab_size, np.int64)
        self._shards: list[Shard] = []
        self._documents_writer = DocumentsWriter()
        self._batch: list[_Document] = []
        self._records: list[int] = []
        self._batch_bytes = self._documents = self._text_bytes = self._tokens = 0

    def add(self, document: _Document, record: int) -> None:
        self._batch.append(document)
        self._records.append(record)
        self._batch_bytes += len(document.text)
        if self._batch_bytes >= BATCH_BYTES:
            self._encode()

    def _encode(self) -> None:
        stream = self._examples() if self._recipe.row_format.has_examples else self._stream()
        self._documents += len(self._batch)
        self._text_bytes += self._batch_bytes
        self._batch, self._records, self._batch_bytes = [], [], 0
        for rows in self._packer.add(stream):
            self._write(rows)

    def _stream(self) -> NDArray[Any]:
        """The documents of the batch end to end."""
        ids, offsets = self._encoder.encode([document.text for document in self._batch])
        stream = end_documents(ids, offsets, self._recipe.tokenizer.eos_id, self._recipe.row_format.dtype)
        self._count(stream, np.diff(offsets) + 1, len(stream))
        return stream

    def _examples(self) -> NDArray[Any]:
        """The rows of the batch end to end; in the document index each document is as long as its row."""
        ids, offsets, prompts = self._encoder.encode_examples(
            [document.text for document in self._batch], [document.num_prompt_characters for document in self._batch]
        )
        row_format = self._recipe.row_format
        seq_len, eos_id = row_format.seq_len, self._recipe.tokenizer.eos_id
        rows = make_rows(ids, offsets, prompts, eos_id=eos_id, seq_len=seq_len, dtype=row_format.dtype)
        tokens = rows[:, -seq_len:][is_token(rows)]
        self._count(tokens, np.full(len(rows), seq_len), len(ids) + len(rows))
        return rows.reshape(-1)

    def _count(self, kept: NDArray[Any], lengths: NDArray[np.int64], num_tokens: int) -> None:
        self._counts += np.bincount(kept, minlength=len(self._counts))
        self._documents_writer.add(self._records, lengths)
        self._tokens += num_tokens

    def _write(self, rows: NDArray[Any]) -> None:
        path = self._folder / f"{self._name}.{len(self._shards):05}.mds"
        self._shards.append(write_shard(path, rows, self._recipe.row_format))

    def finish(self) -> SplitResult:
        self._encode()
        rest = self._packer.finish()
        write_file(self._folder / f"{self._name}.rest.npy", encode_array(rest))
        write_file(self._folder / f"{self._name}.unigram.npy", encode_array(self._counts))
        write_chunks(self._folder / f"{self._name}.documents.bin", self._documents_writer.finish())
        return SplitResult(
            documents=self._documents,
            text_bytes=self._text_bytes,
            tokens=self._tokens,
            shards=tuple(self._shards),
        )


def convert_part(
    source: Path,
    folder: Path,
    recipe: Recipe,
    encoder: Encoder,
    on_progress: Callable[[int, int], None] = lambda read_bytes, text_bytes: None,
) -> None:
    """Convert the file `source` into `folder`, which must not exist.

    Args:
        source: the input file.
        folder: where the result is published.
        recipe: how to convert.
        encoder: of `recipe.tokenizer`; kept by the caller from part to part, for speed.
        on_progress: told the bytes of the file read and the bytes of text taken since its last call.

    Raises:
        SourceError, RecordError: the input cannot be converted; nothing is published.
        StorageError: the output cannot be written; nothing is published.
    """
    staging = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    with writing(staging):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    try:
        result = _convert_into(staging, source, recipe, encoder, on_progress)
        if read_part(folder) != result:  # else a worker of a killed run was first, with the same bytes
            write_file(staging / "part.json", json.dumps(asdict(result), indent=1).encode())
            publish_folder(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _convert_into(
    staging: Path, source: Path, recipe: Recipe, encoder: Encoder, on_progress: Callable[[int, int], None]
) -> PartResult:
    before = source.stat()
    identity = identify(source)
    writers = {name: _SplitWriter(staging, name, recipe, encoder) for name in recipe.splits}
    records = empty = position = 0
    for block in read_blocks(source, recipe.template.fields):
        documents = _documents(source, block, recipe.template)
        for number, document in documents.items():
            held = HOLDOUT in writers and is_held_out(document.text, recipe.holdout_threshold)
            writers[HOLDOUT if held else TRAIN].add(document, number)
        records += len(block.records)
        empty += len(block.records) - len(documents)
        on_progress(block.position - position, sum(len(document.text) for document in documents.values()))
        position = block.position
    splits = {name: writer.finish() for name, writer in writers.items()}
    if (after := source.stat()).st_mtime_ns != before.st_mtime_ns or after.st_size != before.st_size:
        raise SourceError(f"{source} changed while it was read; run again when it is at rest", path=str(source))
    return PartResult(
        path=str(source),
        bytes=identity.bytes,
        mtime_ns=before.st_mtime_ns,
        sha256=identity.sha256,
        records=records,
        empty=empty,
        splits=splits,
    )


def _documents(source: Path, block: Block, template: Template) -> dict[int, _Document]:
    """Documents of `block` by the number of their record, without the empty ones."""
    documents = {}
    for number, record in zip(block.numbers, block.records, strict=True):
        try:
            prompt, output = template.split(record)
        except RecordError as error:
            raise RecordError(f"{place(source, number)}: {error}", path=str(source), number=number) from None
        whole = prompt + output
        if text := whole.strip():
            stripped = len(whole) - len(whole.lstrip())
            documents[number] = _Document(text.encode(), min(max(len(prompt) - stripped, 0), len(text)))
    return documents


def read_part(folder: Path) -> PartResult | None:
    """The result published at `folder`; None if there is none."""
    try:
        data = json.loads((folder / "part.json").read_bytes())
    except FileNotFoundError:
        return None
    splits = {
        name: SplitResult(**{**split, "shards": tuple(Shard(**shard) for shard in split["shards"])})
        for name, split in data.pop("splits").items()
    }
    return PartResult(**data, splits=splits)
