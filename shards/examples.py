"""Rows for finetuning: one example a row, which is its prompt and output, end-of-text behind them, filled up.

A row is `seq_len + 2` integers of one type: how many of its tokens are prompt, how many tokens it has, the tokens, and
as many end-of-text tokens as fill it up to `seq_len`. In MDS it has three columns (`mixer.storage.index.EXAMPLE_COUNTS`
and `tokens`), all of fixed size; so shards stay arrays, and are read as fast and checked as thoroughly as packed ones.
An example of more than `seq_len` tokens is cut there, and then has no end-of-text token.

The text is tokenized as a whole, as it would be in a packed corpus. Prompt are the tokens that lie wholly in the
characters of the prompt: one that reaches over the border belongs to the output, which the model learns to give.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixer.storage.index import EXAMPLE_COUNTS

__all__ = ["NUM_COUNTS", "is_token", "make_rows", "tokens_of"]

NUM_COUNTS = len(EXAMPLE_COUNTS)


def make_rows(
    ids: NDArray[Any],
    offsets: NDArray[np.int64],
    num_prompt_tokens: NDArray[np.int64],
    *,
    eos_id: int,
    seq_len: int,
    dtype: str,
) -> NDArray[Any]:
    """Rows `[num_documents, seq_len + 2]` of documents as `Encoder` gives them.

    Args:
        ids: tokens of all documents `[num_tokens]`, without end-of-text tokens.
        offsets: their borders `[num_documents + 1]`.
        num_prompt_tokens: how many of each are its prompt `[num_documents]`.
        eos_id: ends each example, and fills its row.
        seq_len, dtype: of the rows.
    """
    num_tokens = np.minimum(np.diff(offsets) + 1, seq_len)
    rows = np.full((len(num_tokens), NUM_COUNTS + seq_len), eos_id, dtype)
    rows[:, 0] = np.minimum(num_prompt_tokens, num_tokens)
    rows[:, 1] = num_tokens
    for row, start, end in zip(rows[:, NUM_COUNTS:], offsets[:-1], offsets[1:], strict=True):
        text = ids[start : min(end, start + seq_len)]
        row[: len(text)] = text
    return rows


def tokens_of(row: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """The tokens of one row without what fills it up, and how many of them are prompt."""
    return row[NUM_COUNTS : NUM_COUNTS + int(row[1])], int(row[0])


def is_token(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Where `rows` `[n, seq_len + 2]` have a token of their example: `[n, seq_len]`."""
    return np.arange(rows.shape[1] - NUM_COUNTS) < rows[:, 1:2].astype(np.int64)
