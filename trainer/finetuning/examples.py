"""Rows of examples as a batch: only as long as its longest, and which of its tokens are targets. NumPy only.

A row (`mixer.storage.index.EXAMPLE_COUNTS`) is the number of its prompt tokens, the number of its tokens, and the
tokens, filled up at the end. What fills it up is never a target; and since attention is causal, no token sees it: so no
attention mask is needed, and how far a batch is filled changes nothing.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixer.storage.index import EXAMPLE_COUNTS


class Examples(NamedTuple):
    """`tokens` [n, longest]; `loss_mask` bool [n, longest], True for targets; `lengths` [n], tokens of each example."""

    tokens: NDArray[np.integer]
    loss_mask: NDArray[np.bool_]
    lengths: NDArray[np.int64]


def unpack(rows: NDArray[np.integer], masks_prompt: bool | NDArray[np.bool_]) -> Examples:
    """The examples in `rows` [n, 2 + seq_len]; `masks_prompt`, for all or [n], takes the prompt out of the loss."""
    num_prompt, lengths = (rows[:, place].astype(np.int64) for place in range(len(EXAMPLE_COUNTS)))
    longest = max(int(lengths.max(initial=0)), 2)  # a model predicts from a token the next, so it needs two
    places = np.arange(longest)
    first_target = np.where(masks_prompt, num_prompt, 0)
    is_target = (places >= first_target[:, None]) & (places < lengths[:, None])
    tokens = rows[:, len(EXAMPLE_COUNTS) :][:, :longest]
    return Examples(tokens, is_target, lengths)


def num_targets(loss_mask: NDArray[np.bool_]) -> int:
    """Of how many tokens a batch's loss is the mean: the first of a row is not predicted, so it is none."""
    return int(np.count_nonzero(loss_mask[:, 1:]))
