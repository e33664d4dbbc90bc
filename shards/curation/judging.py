"""What a step is: settings that pickle, and a judge made of them in each worker.

A judge says of each document of a batch whether it stays. It sees documents in order and must not depend on
how they are cut into batches, so that a result is a function of the unit alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.curation.batch import Batch

__all__ = ["KEEP", "Judge", "Notes", "Step", "Verdict", "add_notes"]

KEEP = -1
Verdict = NDArray[np.int16]
Notes = dict[str, Any]


class Judge(ABC):
    """A step at work in one process."""

    @abstractmethod
    def judge(self, batch: Batch) -> Verdict:
        """int16 [documents]: `KEEP`, or the index into the step's `reasons` of why it goes."""

    def take_notes(self) -> Notes:
        """What was counted since the last call: numbers, lists of numbers, or mappings of these."""
        return {}

    def take_report(self) -> list[dict[str, Any]]:
        """Lines for the report of the step since the last call; `record` in them is relative to the unit."""
        return []


class Step(ABC):
    """A step as it was asked for; picklable."""

    name: str

    @property
    def reasons(self) -> tuple[str, ...]:
        """Names under which removed documents are counted."""
        return (self.name,)

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """All that decides its result, as JSON: settings, hashes of files, versions."""

    @abstractmethod
    def start(self) -> Judge:
        """The step at work; loads models and sets."""


def add_notes(total: Notes, new: Mapping[str, Any]) -> Notes:
    """`total` and `new` added key by key; numbers and lists of numbers are summed."""
    result = dict(total)
    for key, value in new.items():
        before = result.get(key)
        if isinstance(value, Mapping):
            result[key] = add_notes(before or {}, value)
        elif isinstance(value, list):
            result[key] = [a + b for a, b in zip(before, value, strict=True)] if before else list(value)
        else:
            result[key] = value if before is None else before + value
    return result
