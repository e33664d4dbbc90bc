"""Documents that are judged together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from shards.curation.words import Words, read_words

__all__ = ["BATCH_CHARACTERS", "Batch"]

BATCH_CHARACTERS = 1 << 20


class Batch:
    """Some documents of one unit, in order.

    Attributes:
        texts: stripped, none empty.
        records: int64 [texts], the record of each, relative to the unit, ascending.
    """

    def __init__(self, texts: Sequence[str], records: NDArray[np.int64]) -> None:
        self.texts = list(texts)
        self.records = records

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def words(self) -> Words:
        """The normalised words of the texts, read on first use and kept for later steps."""
        return read_words(self.texts)

    def keep(self, mask: NDArray[np.bool_]) -> Batch:
        """The documents where `mask` is true."""
        if mask.all():
            return self
        kept = Batch(list(compress(self.texts, mask.tolist())), self.records[mask])
        if "words" in self.__dict__:
            kept.words = self.words.keep(mask)
        return kept
