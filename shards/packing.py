"""Packing: from documents to rows, each document followed by one end-of-text token.

Packed rows are the stream of documents cut every `seq_len` tokens; nothing is lost and nothing else added.

Best-fit rows cut fewer documents. Of some documents at a time, a window, those longer than a row are cut into whole
rows and what is left; these rows come first. Then all that is shorter than a row is placed, the longest first, each in
the row where it leaves the least room, or in a new one (best-fit decreasing: Ding et al. 2024, "Fewer Truncations
Improve Language Modeling"). What room is left in the rows of a window is filled with end-of-text tokens. A window has
the documents that begin in `WINDOW_TOKENS` tokens: so memory is bounded, and rows depend on the documents alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["WINDOW_TOKENS", "Placer", "Window", "end_documents"]

WINDOW_TOKENS = 1 << 21

Tokens = NDArray[np.unsignedinteger[Any]]


def end_documents(ids: Tokens, offsets: NDArray[np.int64], eos_id: int, dtype: str) -> Tokens:
    """Documents end to end with `eos_id` after each.

    Args:
        ids: tokens of all documents `[num_tokens]`.
        offsets: their borders `[num_documents + 1]`, from 0 to num_tokens.
        eos_id: the token put after each document.
        dtype: type of the result.

    Returns:
        `[num_tokens + num_documents]`
    """
    num_documents = len(offsets) - 1
    ends = offsets[1:] + np.arange(num_documents)
    stream = np.empty(len(ids) + num_documents, dtype)
    is_text = np.ones(len(stream), bool)
    is_text[ends] = False
    stream[ends] = eos_id
    stream[is_text] = ids
    return stream


@dataclass(frozen=True)
class Window:
    """Rows that are whole, and what stands in them.

    Attributes:
        tokens: of the rows, end to end. num_filling: how many of them fill up.
        records: of each document, ascending, `[n]`.
        ends, owners: as of `DocumentsWriter.add_placed`, `[m]`.
    """

    tokens: Tokens
    num_filling: int
    records: NDArray[np.int64]
    ends: NDArray[np.int64]
    owners: NDArray[np.int64]


class Placer:
    """Takes documents in order, gives windows."""

    def __init__(self, *, seq_len: int, eos_id: int, dtype: str, window_tokens: int) -> None:
        self._seq_len, self._eos_id, self._dtype = seq_len, eos_id, dtype
        self._window_tokens = max(window_tokens, seq_len)
        self._batches: list[tuple[Tokens, NDArray[np.int64], NDArray[np.int64]]] = []
        self._num_tokens = 0

    def add(self, stream: Tokens, lengths: NDArray[np.int64], records: list[int]) -> Iterator[Window]:
        """More documents, as `end_documents` gives them, with their lengths, end-of-text included; yields windows."""
        self._batches.append((stream, lengths, np.array(records, np.int64)))
        self._num_tokens += len(stream)
        while self._num_tokens >= self._window_tokens:
            yield self._take(full=True)

    def finish(self) -> Iterator[Window]:
        """The last window, if any document is left."""
        if self._num_tokens:
            yield self._take(full=False)

    def _take(self, *, full: bool) -> Window:
        """The first window of what there is, or all of it."""
        stream, lengths, records = map(np.concatenate, zip(*self._batches, strict=True))
        count = len(lengths)
        if full:
            count = int(np.searchsorted(np.cumsum(lengths), self._window_tokens)) + 1
        border = int(lengths[:count].sum())
        self._batches = [(stream[border:], lengths[count:], records[count:])]
        self._num_tokens = len(stream) - border
        return self._fill(stream[:border], lengths[:count], records[:count])

    def _fill(self, stream: Tokens, lengths: NDArray[np.int64], records: NDArray[np.int64]) -> Window:
        starts = (np.cumsum(lengths) - lengths).tolist()
        filling = np.full(self._seq_len, self._eos_id, self._dtype)
        pieces: list[Tokens] = []
        owners: list[int] = []
        room = 0
        for column, document, offset, length in _place(lengths, self._seq_len):
            if room and not column:  # the row before is not full
                pieces.append(filling[:room])
                owners.append(len(lengths))
            begin = starts[document] + offset
            pieces.append(stream[begin : begin + length])
            owners.append(document)
            room = self._seq_len - column - length
        if room:
            pieces.append(filling[:room])
            owners.append(len(lengths))
        tokens, ends = np.concatenate(pieces), np.cumsum([len(piece) for piece in pieces])
        return Window(tokens, len(tokens) - len(stream), records, ends, np.array(owners, np.int64))


def _place(lengths: NDArray[np.int64], seq_len: int) -> Iterator[tuple[int, int, int, int]]:
    """Where the pieces of documents go, row by row: (column, document, offset in it, length)."""
    rests = lengths.copy()
    for document in np.flatnonzero(lengths > seq_len).tolist():
        whole = int(lengths[document]) // seq_len
        for number in range(whole):
            yield 0, document, number * seq_len, seq_len
        rests[document] -= whole * seq_len
    rows: list[list[int]] = []
    open_rows: list[list[int]] = [[] for _ in range(seq_len + 1)]  # by the room they have
    rooms = 0  # bit r is set if a row has room r
    order = np.argsort(-rests, kind="stable")
    for document, size in zip(order.tolist(), rests[order].tolist(), strict=True):
        if not size:
            break
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            number = open_rows[room].pop()
            if not open_rows[room]:
                rooms ^= 1 << room
        else:
            room, number = seq_len, len(rows)
            rows.append([])
        rows[number].append(document)
        if left := room - size:
            open_rows[left].append(number)
            rooms |= 1 << left
    for documents in rows:
        column = 0
        for document in documents:
            size = int(rests[document])
            yield column, document, int(lengths[document]) - size, size
            column += size
