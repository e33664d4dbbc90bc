"""Provenance both ways: from a slot of a step to the source documents that stand there, and from a document to every
step that has read it, or will.

The plan says which sample stands where, the shard sizes in which shard and row it lies, and the document index
(`mixer.documents`, written by conversion) which records of which source it is made of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mixer.documents import DocumentIndex, Passage, open_documents
from mixer.errors import CorpusError, MixerError
from mixer.plan import Batch, Plan
from mixer.ranges import Ranges

MAX_SAMPLES = 100_000
"""More samples than these are not looked for one by one."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a sample lies: the shard of its corpus, and the row in it, both from 0."""

    shard: int
    row: int


@dataclass(frozen=True, kw_only=True)
class Read:
    """A step and slot that reads a sample, and the name under which its corpus is read there."""

    step: int
    slot: int
    sample_id: int
    corpus: str


class Provenance:
    """Answers about one plan. `folders`: corpus → its split on disk, where that is known."""

    def __init__(self, plan: Plan, folders: Mapping[str, Path]) -> None:
        self._plan, self._folders = plan, folders
        self._documents = cache(self._open)
        self._shard_ends = cache(lambda name: np.cumsum(plan.corpora[name].shard_sizes))

    def places(self, batch: Batch, slots: Sequence[int]) -> list[Place]:
        """Where the samples of these slots lie."""
        places = []
        for slot in slots:
            ends = self._shard_ends(self._plan.names[int(batch.corpus[slot])])
            sample = int(batch.sample_id[slot])
            shard = int(np.searchsorted(ends, sample, side="right"))
            places.append(Place(shard=shard, row=sample - (int(ends[shard - 1]) if shard else 0)))
        return places

    def passages(self, batch: Batch, slot: int) -> list[Passage]:
        """The documents that stand in a slot, in order. Raises CorpusError without the corpus's index."""
        name = self._plan.names[int(batch.corpus[slot])]
        return self._documents(self._plan.origins[name]).in_sample(int(batch.sample_id[slot]))

    def samples_of(self, corpus: str, source: str, start_record: int, end_record: int) -> list[list[int]]:
        """The samples that hold any token of the records [start, end) of a source, as [start, end) ranges.

        Raises CorpusError for a source that the corpus does not have.
        """
        found = self._documents(self._origin(corpus)).samples_of_span(source, start_record, end_record)
        return [[start, end] for start, end in found]

    def reads_of(self, corpus: str, samples: Sequence[Sequence[int]], start: int, end: int) -> list[Read]:
        """Every reading of these samples, [start, end) ranges, in steps [start, end): in order of step and slot.

        Under whatever name the corpus, or a part of it, is read. Raises MixerError for more than `MAX_SAMPLES`.
        """
        origin = self._origin(corpus)
        numbers = [number for low, high in Ranges(samples).to_list() for number in range(low, high)]
        if len(numbers) > MAX_SAMPLES:
            raise MixerError(
                f"{len(numbers):,} samples are too many to look for, at most {MAX_SAMPLES:,}: ask for fewer"
            )
        names = [name for name in self._plan.names if self._plan.origins[name] == origin]
        reads = [
            Read(step=step, slot=slot, sample_id=number, corpus=name)
            for name in names
            for number in numbers
            for step, slot in self._plan.steps_of(name, number, start, end)
        ]
        return sorted(reads, key=lambda read: (read.step, read.slot))

    def _origin(self, corpus: str) -> str:
        if corpus not in self._plan.origins:
            raise CorpusError(f"unknown corpus '{corpus}', known are {', '.join(self._plan.names)}", path=corpus)
        return self._plan.origins[corpus]

    def _open(self, origin: str) -> DocumentIndex:
        if origin not in self._folders:
            raise CorpusError(
                f"the folder of corpus '{origin}' is not known, so neither are its documents: say where it is with "
                f"--folder {origin}=data/{origin}/train",
                path=origin,
            )
        return open_documents(self._folders[origin])
