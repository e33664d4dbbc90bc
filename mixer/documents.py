"""The document index of a corpus: from a sample to its documents, from a document to its samples.

    index = open_documents("data/c4/train")
    for passage in index.in_sample(17):                      # source, record and tokens of everything in that row
        print(passage.document.source, passage.document.record, passage.start, passage.end)
    index.samples_of(index.find("c4-train.00000.json.gz", 12))    # [(40, 42)]: samples 40 and 41

Conversion writes the index beside the shards as `documents.bin`; `corpus.json` names the sources. Opening reads its
tables only, one entry a source and one a block of some thousand documents; a lookup decodes a block or two, and the
last few dozen are kept. Standard library and NumPy only.

**Records** are counted as conversion's error messages count them: lines of JSON lines (blank ones too) and rows of
Parquet, both from 1. A record that has no text or is held out gave no document to this split.

**Two orders.** Documents are numbered from 0 in the order of the sources and of the records in them; a document's
tokens are its text's and the end-of-text token after it. The rows are cut from the *stream*, which is another order:
first of every unit of a source the tokens that filled shards of its own, then of every unit the rest. So one document
of each unit may lie in two places far apart. Token t of the stream stands in sample t div seq_len; those behind the
last sample are in no row.

A source may be converted in several *units*, one after another, and then each of them has tokens in shards of its own,
and a rest.

The file, little-endian, its numbers int64:

    8 bytes                 b"swpdocs2"
    2 numbers               units; whether the rows are placed (0 or 1)
    4 numbers a unit        its source; how many records that has before it; its blocks; how many of its tokens lie
                            in shards of its own
    5 numbers a block       bytes; tokens; last record, less that of the block before (in the same unit); documents;
                            pieces
    the blocks              where its pieces end, in its tokens; the records of its documents, less the last of the
                            block before: both as of `mixer.increasing`

A block holds documents of one unit. In packed rows a piece is a document. Where rows are *placed* (best-fit packing),
the tokens of a block are its rows, filling included; a piece is what one row has of one document, or its filling; and
behind the records stands of every piece which document of the block it is of, from 0, or their number for filling: as
uint16, or uint32 where there are 65,535 documents or more. The pieces of a document are in reading order.

Earlier versions wrote b"swpdocs1": sources; documents in a block, at most; of each source its documents, and its tokens
in shards of its own; and the first three numbers of a block. All blocks of a source but the last are full.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixer.errors import CorpusError
from mixer.increasing import decode, num_bytes

__all__ = ["FILE_NAME", "MAGIC", "Document", "DocumentIndex", "Passage", "open_documents"]

FILE_NAME = "documents.bin"
MAGIC, FIRST_MAGIC = b"swpdocs2", b"swpdocs1"
KEPT_BLOCKS = 64

_I64 = NDArray[np.int64]
Range = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document of a split.

    `number` counts from 0 in the order of sources and records. `source` is a path as conversion was given it, `record`
    the line or row of it, from 1. `spans` are the places of its tokens in the stream, one or two half-open ranges, in
    reading order; the last `num_dropped` of its tokens are in no row.
    """

    number: int
    source: str
    record: int
    spans: tuple[Range, ...]
    num_dropped: int

    @property
    def num_tokens(self) -> int:
        """Tokens of the document, its end-of-text included."""
        return sum(end - start for start, end in self.spans)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """What a sample holds of one document: tokens [start, end) of the row; `offset` others of the document precede."""

    document: Document
    start: int
    end: int
    offset: int


@dataclass(frozen=True, eq=False)
class _Block:
    """Documents of one unit, and their pieces.

    `records` [n] are theirs, and `borders` [m + 1] those of the pieces in the tokens of all units, end to end. Of each
    piece, `owners` [m] says which document it is of (n: of none), and `offsets` [m] how many tokens of that precede it.
    `ends` are the pieces in which documents end.
    """

    first: int
    unit: int
    borders: _I64
    records: _I64
    owners: _I64
    offsets: _I64
    ends: _I64


@dataclass(frozen=True)
class _Manifest:
    """What the index needs of `corpus.json`."""

    sources: tuple[str, ...]
    documents: int
    tokens: int
    samples: int
    seq_len: int


def open_documents(folder: str | Path) -> "DocumentIndex":
    """The document index of a split, such as `data/c4/train`.

    Raises CorpusError where there is none, it is damaged, or the split was converted by a version that wrote none.
    """
    folder = Path(folder)
    return DocumentIndex(folder / FILE_NAME, _read_manifest(folder))


class DocumentIndex:
    """The documents of one split. Made by `open_documents`.

    `folder` is that of the split, `sources` are the paths of all sources, in order, and `num_bytes` is the size of the
    index on disk.
    """

    def __init__(self, path: Path, manifest: _Manifest) -> None:
        self.sources = manifest.sources
        self.num_documents, self.num_samples, self.seq_len = manifest.documents, manifest.samples, manifest.seq_len
        self.folder, self._path = path.parent, path
        self._data = self._map()
        self.num_bytes = len(self._data)
        self._read_tables()
        self._check_totals(manifest.tokens)
        self._block = lru_cache(maxsize=KEPT_BLOCKS)(self._decode)

    def in_sample(self, sample_id: int) -> list[Passage]:
        """What stands in a row, from its first token to its last. Raises CorpusError if there is no such sample."""
        self._check_samples(sample_id, sample_id + 1)
        row = sample_id * self.seq_len
        passages = []
        for place, token, length in self._cut(row, row + self.seq_len):
            for block in self._blocks(token, token + length):
                first, last = np.searchsorted(block.borders, [token, token + length - 1], side="right") - 1
                for index in range(max(first, 0), min(last + 1, len(block.owners))):
                    if (owner := int(block.owners[index])) == len(block.records):
                        continue
                    begin, end = (int(border) for border in block.borders[index : index + 2])
                    start, end = max(begin, token), min(end, token + length)
                    shift = place - row - token
                    offset = int(block.offsets[index]) + start - begin
                    document = self._document(block, owner)
                    passages.append(Passage(document=document, start=start + shift, end=end + shift, offset=offset))
        return passages

    def document(self, number: int) -> Document:
        """The document of that number. Raises CorpusError if there is none."""
        if not 0 <= number < self.num_documents:
            raise self._error(f"has {self.num_documents} documents, counted from 0; there is no {number}")
        block = self._block(int(np.searchsorted(self._first_document, number, side="right")) - 1)
        return self._document(block, number - block.first)

    def find(self, source: str | int, record: int) -> Document | None:
        """The document of a record, or None if it gave none to this split (empty, held out, or not in the file).

        `source` is a path as in `sources`, or the end of one (`b.jsonl`, `a/b.jsonl`), or its place among them.
        Raises CorpusError for a source that is not there, or for an end that several have.
        """
        block, index = self._find(self._source(source), record)
        if block is None or index == len(block.records) or block.records[index] != record:
            return None
        return self._document(block, index)

    def samples_of(self, document: Document) -> list[Range]:
        """The samples that hold any of its tokens: half-open ranges, ascending, apart; none if all were dropped."""
        return self._samples(document.spans)

    def samples_of_span(self, source: str | int, start_record: int, end_record: int) -> list[Range]:
        """The samples that hold any token of the records [start, end) of a source; see `find` and `samples_of`."""
        number = self._source(source)
        if self._is_placed:
            return self._samples_of_placed(number, start_record, end_record)
        tokens = []
        for record in (start_record, max(start_record, end_record)):
            block, index = self._find(number, record)
            tokens.append(int(block.borders[index]) if block is not None else 0)
        return self._samples(self._spans(self._units_of(number), tokens[0], tokens[1]))

    def lengths(self) -> _I64:
        """Tokens of every document, end-of-text included, by their numbers: `[num_documents]`. Decodes all blocks."""
        found = [np.empty(0, np.int64)]
        for number in range(len(self._first_byte) - 1):
            block, num_documents = self._decode(number), int(np.diff(self._first_document[number : number + 2])[0])
            sizes = np.bincount(block.owners, np.diff(block.borders), num_documents + 1)
            found.append(sizes[:num_documents].astype(np.int64))
        return np.concatenate(found)

    def ends_in(self, start_sample: int, end_sample: int) -> _I64:
        """Where documents end in samples [start, end): the places of their last tokens in the stream, ascending."""
        self._check_samples(start_sample, end_sample)
        ends = [np.empty(0, np.int64)]
        for place, token, length in self._cut(start_sample * self.seq_len, end_sample * self.seq_len):
            for block in self._blocks(token, token + length):
                last = block.borders[block.ends + 1] - 1
                ends.append(last[(last >= token) & (last < token + length)] - token + place)
        return np.concatenate(ends)

    # Opening: the tables.

    def _map(self) -> NDArray[np.uint8]:
        try:
            return np.memmap(self._path, mode="r", dtype=np.uint8)
        except (OSError, ValueError) as error:
            raise self._error(f"cannot be read ({error}); fetch or convert the corpus again") from None

    def _read_tables(self) -> None:
        magic = self._data[: len(MAGIC)].tobytes()
        (num_units, second), start = self._numbers(len(MAGIC), 2)
        if magic == MAGIC and num_units >= 0 and second in (0, 1):
            self._is_placed = bool(second)
            units, start = self._table(start, num_units, 4)
            self._unit_source, records_before, num_blocks, own_tokens = units
            blocks, start = self._table(start, int(num_blocks.sum()), 5)
            sizes, tokens, self._record_span, counts, self._num_pieces = blocks
        elif magic == FIRST_MAGIC and num_units == len(self.sources) and second > 0:
            self._is_placed = False
            (documents, own_tokens), start = self._table(start, num_units, 2)
            self._unit_source, records_before = np.arange(num_units), np.zeros(num_units, np.int64)
            num_blocks = -(-documents // second)
            (sizes, tokens, self._record_span), start = self._table(start, int(num_blocks.sum()), 3)
            within = np.arange(len(sizes)) - np.repeat(_starts(num_blocks)[:-1], num_blocks)
            counts = self._num_pieces = np.minimum(np.repeat(documents, num_blocks) - within * second, second)
        else:
            raise self._foreign()
        if not np.array_equal(np.unique(self._unit_source), np.arange(len(self.sources))):
            raise self._foreign()
        self._first_block = _starts(num_blocks)
        self._first_byte = start + _starts(sizes)
        self._first_token = _starts(tokens)
        self._first_document = _starts(counts)
        records = _starts(self._record_span)
        before = records_before - records[self._first_block[:-1]]
        self._record_before = records[:-1] + np.repeat(before, num_blocks)
        # The stream is in stretches: what filled shards of its own of every unit, then the rest of every unit.
        unit_token = self._first_token[self._first_block]
        border = unit_token[:-1] + own_tokens
        self._stretch_token = np.concatenate([unit_token[:-1], border])
        self._stretch_place = _starts(np.concatenate([own_tokens, unit_token[1:] - border]))

    def _check_totals(self, tokens: int) -> None:
        for what, starts, wanted in (
            ("bytes", self._first_byte, self.num_bytes),
            ("documents", self._first_document, self.num_documents),
            ("tokens", self._first_token, tokens),
        ):
            if starts[-1] != wanted:
                raise self._error(
                    f"is for {starts[-1]} {what}, found {wanted}: truncated, or of another corpus; convert again"
                )

    def _numbers(self, start: int, count: int) -> tuple[_I64, int]:
        """`count` numbers of the file from byte `start` on, and the byte after them."""
        end = start + 8 * count
        if count < 0 or end > self.num_bytes:
            raise self._error(f"ends within its tables, after {self.num_bytes} bytes; convert the corpus again")
        return self._data[start:end].view("<i8").astype(np.int64), end

    def _table(self, start: int, num_rows: int, num_columns: int) -> tuple[_I64, int]:
        """The columns of a table of the file, and the byte after it."""
        table, end = self._numbers(start, num_rows * num_columns)
        return table.reshape(num_rows, num_columns).T, end

    def _foreign(self) -> CorpusError:
        return self._error(f"is no index of the {len(self.sources)} sources in corpus.json; convert the corpus again")

    # Places: in the stream, and in the tokens of the sources end to end.

    def _cut(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Places [start, end) of the stream as (place, token of the sources, length), in the order of the stream."""
        if start == end:
            return
        first, last = np.searchsorted(self._stretch_place, [start, end - 1], side="right") - 1
        for stretch in range(first, last + 1):
            begin, stop = (int(place) for place in self._stretch_place[stretch : stretch + 2])
            low, high = max(begin, start), min(stop, end)
            if low < high:
                yield low, low - begin + int(self._stretch_token[stretch]), high - low

    def _spans(self, units: range, start: int, end: int) -> tuple[Range, ...]:
        """Where tokens [start, end) of the units stand in the stream, as far as they are of `units`."""
        spans: list[Range] = []
        num_units = len(self._unit_source)
        for stretch in (*units, *(num_units + unit for unit in units)):
            begin, stop = (int(place) for place in self._stretch_place[stretch : stretch + 2])
            shift = begin - int(self._stretch_token[stretch])
            spans.append((max(start + shift, begin), min(end + shift, stop)))
        return tuple(_joined(spans))

    def _samples(self, spans: tuple[Range, ...]) -> list[Range]:
        end_of_rows = self.num_samples * self.seq_len
        return _joined([(start // self.seq_len, -(-min(end, end_of_rows) // self.seq_len)) for start, end in spans])

    # Blocks and what is in them.

    def _blocks(self, start: int, end: int) -> Iterator[_Block]:
        """The blocks that hold tokens [start, end) of the sources."""
        first, last = np.searchsorted(self._first_token, [start, end - 1], side="right") - 1
        yield from map(self._block, range(first, last + 1))

    def _decode(self, number: int) -> _Block:
        first, end = (int(count) for count in self._first_document[number : number + 2])
        start, stop = (int(token) for token in self._first_token[number : number + 2])
        data = self._data[self._first_byte[number] : self._first_byte[number + 1]]
        count, pieces, span = end - first, int(self._num_pieces[number]), int(self._record_span[number])
        border = num_bytes(pieces, stop - start)
        try:
            piece_ends = decode(data[:border], pieces, stop - start)
            records = decode(data[border:], count, span)
            owners = self._owners(data[border + num_bytes(count, span) :], count, pieces)
        except (ValueError, IndexError) as error:
            raise self._error(f"is damaged in block {number} ({error}); fetch or convert the corpus again") from None
        unit = int(np.searchsorted(self._first_block, number, side="right")) - 1
        borders = np.concatenate([[0], piece_ends])
        offsets, ends = _within(np.diff(borders), owners, count) if self._is_placed else (np.zeros_like(owners), owners)
        return _Block(first, unit, start + borders, records + self._record_before[number], owners, offsets, ends)

    def _owners(self, data: NDArray[np.uint8], num_documents: int, num_pieces: int) -> _I64:
        """Which document of a block each of its pieces is of."""
        if not self._is_placed:
            return np.arange(num_documents)
        owners = data.copy().view("<u2" if num_documents < 0xFFFF else "<u4").astype(np.int64)
        found = np.unique(owners[owners < num_documents])
        if len(owners) != num_pieces or len(found) != num_documents or owners.max() > num_documents:
            raise ValueError("its pieces are not those of its documents")
        return owners

    def _document(self, block: _Block, index: int) -> Document:
        units = range(block.unit, block.unit + 1)
        pieces = np.flatnonzero(block.owners == index).tolist() if self._is_placed else [index]
        spans = tuple(
            _joined([s for piece in pieces for s in self._spans(units, *block.borders[piece : piece + 2].tolist())])
        )
        end_of_rows = self.num_samples * self.seq_len
        return Document(
            number=block.first + index,
            source=self.sources[self._unit_source[block.unit]],
            record=int(block.records[index]),
            spans=spans,
            num_dropped=sum(end - max(start, end_of_rows) for start, end in spans if end > end_of_rows),
        )

    def _samples_of_placed(self, source: int, start_record: int, end_record: int) -> list[Range]:
        """As `samples_of_span`: the pieces of its documents are in no one stretch."""
        spans: list[Range] = []
        units = self._units_of(source)
        for number in range(*self._first_block[[units.start, units.stop]].tolist()):
            before = self._record_before[number]
            if before >= end_record or before + self._record_span[number] < start_record:
                continue
            block = self._block(number)
            first, last = np.searchsorted(block.records, [start_record, end_record])
            for piece in np.flatnonzero((block.owners >= first) & (block.owners < last)).tolist():
                spans += self._spans(range(block.unit, block.unit + 1), *block.borders[piece : piece + 2].tolist())
        return self._samples(tuple(sorted(spans)))

    def _find(self, source: int, record: int) -> tuple[_Block | None, int]:
        """The first document of a source from `record` on: its block, and its place there (n if it has no such one)."""
        units = self._units_of(source)
        start, end = self._first_block[units.start], self._first_block[units.stop]
        if start == end:
            return None, 0
        number = int(np.searchsorted(self._record_before[start:end], record)) - 1
        block = self._block(int(start) + max(number, 0))
        return block, int(np.searchsorted(block.records, record))

    def _units_of(self, source: int) -> range:
        """The units of a source, which follow one another."""
        first, last = np.searchsorted(self._unit_source, [source, source + 1])
        return range(int(first), int(last))

    def _source(self, source: str | int) -> int:
        if isinstance(source, int):
            if 0 <= source < len(self.sources):
                return source
            raise self._error(f"knows sources 0 to {len(self.sources) - 1}, not {source}")
        if source in self.sources:
            return self.sources.index(source)
        found = [number for number, path in enumerate(self.sources) if path.endswith("/" + source)]
        if len(found) == 1:
            return found[0]
        shown = [self.sources[number] for number in found] or list(self.sources)
        names = ", ".join(shown[:5]) + (", …" if len(shown) > 5 else "")
        what = "fits several, write more of the path" if found else "is none of them"
        raise self._error(f"knows the sources {names}; '{source}' {what}")

    def _check_samples(self, start: int, end: int) -> None:
        if not 0 <= start <= end <= self.num_samples:
            wrong = end - 1 if 0 <= start < self.num_samples else start
            raise self._error(f"knows {self.num_samples} samples, counted from 0; there is no {wrong}")

    def _error(self, message: str) -> CorpusError:
        return CorpusError(f"{self._path} {message}", path=str(self._path))


def _starts(sizes: _I64) -> _I64:
    """Where each begins, and where the last ends: [n] → [n + 1]."""
    return np.concatenate([[0], np.cumsum(sizes)])


def _within(lengths: _I64, owners: _I64, num_documents: int) -> tuple[_I64, _I64]:
    """Of pieces of such lengths how many tokens of their document precede each, and which are the last of theirs."""
    order = np.argsort(owners, kind="stable")
    before = np.concatenate([[0], np.cumsum(lengths[order])])
    first = np.searchsorted(owners[order], np.arange(num_documents + 1))  # of each document, and of the filling
    offsets = np.empty_like(lengths)
    offsets[order] = before[:-1] - before[first][owners[order]]
    return offsets, np.sort(order[first[1:] - 1])


def _joined(ranges: list[Range]) -> list[Range]:
    """Ascending ranges without the empty ones, those that touch made one."""
    joined: list[Range] = []
    for start, end in ranges:
        if start >= end:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _read_manifest(folder: Path) -> _Manifest:
    path = folder / "corpus.json"
    try:
        data: dict[str, Any] = json.loads(path.read_bytes())
        samples, seq_len = int(data["samples"]), int(data["parameters"]["seq_len"])
        filled = {"rows", "packing"} & data["parameters"].keys()  # rows are whole from the start, and filled up
        manifest = _Manifest(
            sources=tuple(str(source["path"]) for source in data["sources"]),
            documents=int(data["documents"]),
            tokens=samples * seq_len if filled else int(data["tokens"]),
            samples=samples,
            seq_len=seq_len,
        )
        has_index = data.get("documents_sha256") is not None
    except FileNotFoundError:
        raise CorpusError(
            f"{folder} has no corpus.json: name a split that 'switchpoint-shards convert' made, such as data/c4/train",
            path=str(folder),
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(f"{path} cannot be read ({error!r}); fetch or convert again", path=str(path)) from None
    if not has_index:
        raise CorpusError(
            f"{folder} has no document index: an earlier version made it; convert it again with this one "
            "(the shards stay the same, byte for byte)",
            path=str(folder),
        )
    return manifest
