"""Attention that ends at the borders of packed documents: a token sees its own document only.

A row holds documents end to end, each closed by the end-of-text token, which belongs to the document that it closes.
Positions begin at 0 in every document, so its logits are those of the document alone; what a row cuts off at its
beginning counts as a document of its own. Targets are the same with and without: the first token of a document is
predicted, from the end of the one before it.
"""

from typing import Any

import torch
from torch import Tensor, nn


def document_of(tokens: Tensor, end: int) -> Tensor:
    """The number of the document in its row that each token [n, seq_len] belongs to, from 0."""
    ended = (tokens == end).cumsum(1)
    return torch.nn.functional.pad(ended, (1, -1))  # the end belongs to what it ends


def positions_in(documents: Tensor) -> Tensor:
    """The place of each token in its document [n, seq_len], from 0."""
    places = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return places - torch.where(begins, places, 0).cummax(1).values


def sees(documents: Tensor) -> Tensor:
    """Which token (row) attends to which (column), bool [n, 1, seq_len, seq_len]: to its document up to itself."""
    same = documents[:, :, None] == documents[:, None, :]
    return same.tril()[:, None]


def logits_within_documents(model: nn.Module, tokens: Tensor, end: int) -> Tensor:
    """Logits [n, seq_len, vocab_size] of a Hugging Face model that looks at one document at a time.

    `tokens` is int64 [n, seq_len], `end` the id that ends a document. Flash attention takes the rows as one, whose
    borders it finds by the positions; other implementations take a mask.
    """
    config: Any = model.config
    kind = config._attn_implementation
    documents = document_of(tokens, end)
    positions = positions_in(documents)
    if kind.startswith("flash_attention"):
        flat = model(input_ids=tokens.reshape(1, -1), position_ids=positions.reshape(1, -1), use_cache=False)
        return flat.logits.view(*tokens.shape, -1)
    mask = sees(documents)
    if kind == "eager":  # which adds it to the scores
        mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, torch.finfo(torch.float32).min)
    return model(input_ids=tokens, position_ids=positions, attention_mask=mask, use_cache=False).logits
