"""Packing: from documents to rows of `seq_len` tokens, losing and adding nothing.

The stream of a part is its documents in order, each followed by one end-of-text token. Rows are that
stream cut every `seq_len` tokens, handed out in blocks of as many rows as a shard holds; what is left at the
end is the rest. Blocks and rest together are the stream, token for token.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RowPacker", "end_documents"]

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


class RowPacker:
    """Cuts a stream of tokens into blocks of `num_rows` rows.

    Blocks are views into one buffer of num_rows x seq_len tokens: use each before asking for the next.
    """

    def __init__(self, *, seq_len: int, num_rows: int, dtype: str) -> None:
        self._seq_len = seq_len
        self._buffer: Tokens = np.empty(num_rows * seq_len, dtype)
        self._fill = 0

    def add(self, tokens: Tokens) -> Iterator[Tokens]:
        """Append `tokens` to the stream; yields every block `[num_rows, seq_len]` that this fills."""
        start = 0
        while start < len(tokens):
            taken = min(len(tokens) - start, len(self._buffer) - self._fill)
            self._buffer[self._fill : self._fill + taken] = tokens[start : start + taken]
            self._fill += taken
            start += taken
            if self._fill == len(self._buffer):
                yield self._buffer.reshape(-1, self._seq_len)
                self._fill = 0

    def finish(self) -> Tokens:
        """The rest of the stream `[< num_rows * seq_len]`, in no block yet."""
        return self._buffer[: self._fill]
