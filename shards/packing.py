"""Packing: from documents to a stream of tokens, each document followed by one end-of-text token.

Packed rows are that stream cut every `seq_len` tokens; nothing is lost and nothing else added.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["end_documents"]

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
