"""One part: what a unit of a source becomes, a folder of shards, or nothing.

`convert_part` is a function of the unit's bytes, the `PartSettings` and what curation removes: same folder, byte for
byte, on any machine, in any process, at any time. The folder appears by one rename, after all of it is on disk:

    part.json               the unit, and counts and shards of each split (`PartResult`)
    skipped.jsonl           the bad records that were left out, the first of each kind
    train.00000.mds ...     full shards of the split, in document order
    train.rest.mds          what is behind them, too little for a shard: tokens, or whole rows, behind the head of one
    train.unigram.npy       int64 [vocab_size], how often each token stands in all of these
    train.documents.bin     the record and the length of every document in them (`shards.documents`)

and the same for `holdout`. A document is held out when the first 64 bits of BLAKE2b over its text are
below the settings' threshold: equal texts always land on the same side, in whatever file they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from shards.durable import publish_folder, write_file, writing
from shards.errors import SourceError
from shards.mds import RowFormat, Shard
from shards.sources import Fault, OnBad, Unit, read_blocks, stat_source, stop_at
from shards.sources.blocks import MAX_RECORD_BYTES
from shards.splits import SplitResult, SplitWriter
from shards.templates import Template
from shards.texts import Texts, are_held_out, make_texts
from shards.tokenizer import Encoder, Tokenizer

__all__ = [
    "HOLDOUT",
    "LISTED",
    "SKIP",
    "SKIPPED",
    "STOP",
    "TRAIN",
    "Part",
    "PartResult",
    "PartSettings",
    "PartWork",
    "convert_part",
    "read_part",
]

TRAIN, HOLDOUT = "train", "holdout"
STOP, SKIP = "stop", "skip"
SKIPPED = "skipped.jsonl"
LISTED = 1000
"""How many bad records of each kind are listed; all are counted."""


@dataclass(frozen=True, kw_only=True)
class PartSettings:
    """Everything but the input that decides the bytes of a part.

    Attributes:
        template: makes the text of a record.
        tokenizer: makes tokens of the text.
        row_format: rows and shards.
        holdout_threshold: documents whose 64-bit hash is below it are held out; 0 for none.
        on_error: at a bad record `stop`, or `skip` it.
        max_record_bytes: a line of more is a bad record.
    """

    template: Template
    tokenizer: Tokenizer
    row_format: RowFormat
    holdout_threshold: int
    on_error: str = STOP
    max_record_bytes: int = MAX_RECORD_BYTES

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, train first."""
        return (TRAIN, HOLDOUT) if self.holdout_threshold else (TRAIN,)


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """What `part.json` holds.

    Attributes:
        source, start, end, version, sha256: the unit, the version of its source and the hash of its bytes.
        raw_bytes: what was read, unpacked.
        numbers: lines or rows. records: those that hold something, of which `empty` have no text,
            `removed` were left out by the curation step of that name, and `skipped` are bad, by kind.
        splits: by name.
    """

    source: str
    start: int
    end: int
    version: str
    sha256: str
    raw_bytes: int
    numbers: int
    records: int
    empty: int
    removed: dict[str, int]
    skipped: dict[str, int]
    splits: dict[str, SplitResult]


@dataclass(frozen=True)
class Part:
    """One job: the unit, the folder that it becomes, and, under curation, what of it is removed (`_Removed`)."""

    unit: Unit
    folder: Path
    number: int = 0
    curation: Path | None = None

    def __str__(self) -> str:
        return str(self.unit)


@dataclass(frozen=True)
class PartWork:
    """Converts parts (`shards.engines.Work`). One encoder a worker serves all its parts: it gets faster as it goes."""

    settings: PartSettings
    step_names: tuple[str, ...] = ()

    def start(self) -> Callable[[Part, Callable[[int, int], None]], None]:
        """Load the tokenizer; returns what converts a part."""
        encoder = Encoder(self.settings.tokenizer)

        def convert(part: Part, on_progress: Callable[[int, int], None]) -> None:
            convert_part(part, self.settings, encoder, on_progress, step_names=self.step_names)

        return convert


class _Faults:
    """Counts bad records by kind, and keeps the first of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.num_records = 0
        self._listed: list[Fault] = []

    def __call__(self, fault: Fault) -> None:
        self.counts[fault.kind] += 1
        self.num_records += not fault.is_of_source
        if self.counts[fault.kind] <= LISTED:
            self._listed.append(fault)

    def encode(self) -> bytes:
        listed = sorted(self._listed, key=lambda fault: fault.number)  # a block tells what is no record first
        return b"".join(json.dumps(asdict(fault)).encode() + b"\n" for fault in listed)


class _Removed:
    """What curation takes out of one unit."""

    def __init__(self, part: Part, step_names: tuple[str, ...]) -> None:
        from shards.curation import read_removed

        assert part.curation is not None
        removed = read_removed(part.curation, part.number)
        self._records, self._steps = removed.records, removed.steps
        self._names = step_names
        self.counts: Counter[str] = Counter(dict.fromkeys(step_names, 0))

    def filter(self, texts: Texts) -> Texts:
        """`texts` without those that are removed, which are counted."""
        if not len(self._records) or not texts.numbers:
            return texts
        numbers = np.array(texts.numbers)
        places = np.minimum(np.searchsorted(self._records, numbers), len(self._records) - 1)
        is_removed = self._records[places] == numbers
        for step, count in enumerate(np.bincount(self._steps[places[is_removed]], minlength=len(self._names))):
            self.counts[self._names[step]] += int(count)
        return texts.select(np.flatnonzero(~is_removed).tolist())


def convert_part(
    part: Part,
    settings: PartSettings,
    encoder: Encoder,
    on_progress: Callable[[int, int], None] = lambda read_bytes, text_bytes: None,
    *,
    step_names: tuple[str, ...] = (),
) -> None:
    """Convert one part and publish its folder.

    Args:
        part: what, and where to.
        settings: how.
        encoder: of `settings.tokenizer`; kept by the caller from part to part, for speed.
        on_progress: told the bytes of the unit read and the bytes of text taken since its last call.
        step_names: of the curation.

    Raises:
        SourceError, RecordError: the input cannot be converted; nothing is published.
        StorageError: the output cannot be written; nothing is published.
    """
    folder = part.folder
    # Of no other worker's name, on any machine: one that was given up may still be at it.
    staging = folder.with_name(f"{folder.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    with writing(staging):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    try:
        result = _convert_into(staging, part, settings, encoder, on_progress, step_names)
        if read_part(folder) != result:  # else a worker of a killed run was first, with the same bytes
            write_file(staging / "part.json", json.dumps(asdict(result), indent=1).encode())
            publish_folder(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _convert_into(
    staging: Path,
    part: Part,
    settings: PartSettings,
    encoder: Encoder,
    on_progress: Callable[[int, int], None],
    step_names: tuple[str, ...],
) -> PartResult:
    unit = part.unit
    _check_unchanged(unit)
    writers = {
        name: SplitWriter(staging, name, settings.row_format, settings.tokenizer, encoder) for name in settings.splits
    }
    faults, digest = _Faults(), hashlib.sha256()
    removed = _Removed(part, step_names) if part.curation else None
    on_bad: OnBad = faults if settings.on_error == SKIP else stop_at(unit)
    num_texts = num_empty = position = raw_bytes = last_number = 0
    blocks = read_blocks(
        unit, settings.template.fields, on_bad, max_record_bytes=settings.max_record_bytes, digest=digest
    )
    for block in blocks:
        texts, empty = make_texts(block, settings.template, on_bad, with_prompts=settings.row_format.has_examples)
        num_texts += len(texts.texts)
        if removed:
            texts = removed.filter(texts)
        _distribute(texts, writers, settings.holdout_threshold)
        num_empty += empty
        raw_bytes += block.raw_bytes
        last_number = block.last_number
        on_progress(block.position - position, texts.num_bytes)
        position = block.position
    splits = {name: writer.finish() for name, writer in writers.items()}
    _check_unchanged(unit)
    write_file(staging / SKIPPED, faults.encode())
    return PartResult(
        source=unit.source,
        start=unit.start,
        end=unit.end,
        version=unit.stamp.version,
        sha256=digest.hexdigest(),
        raw_bytes=raw_bytes,
        numbers=last_number,
        records=num_texts + num_empty + faults.num_records,
        empty=num_empty,
        removed=dict(removed.counts) if removed else {},
        skipped=dict(sorted(faults.counts.items())),
        splits=splits,
    )


def _distribute(texts: Texts, writers: dict[str, SplitWriter], holdout_threshold: int) -> None:
    if HOLDOUT not in writers:
        writers[TRAIN].add(texts)
        return
    held = are_held_out(texts.texts, holdout_threshold)
    if any(held):
        writers[HOLDOUT].add(texts.select([place for place, is_held in enumerate(held) if is_held]))
        texts = texts.select([place for place, is_held in enumerate(held) if not is_held])
    writers[TRAIN].add(texts)


def _check_unchanged(unit: Unit) -> None:
    if stat_source(unit.source) != unit.stamp:
        raise SourceError(f"{unit.source} changed while it was read; run again when it is at rest", path=unit.source)


def read_part(folder: Path) -> PartResult | None:
    """The result published at `folder`; None if there is none."""
    try:
        data = json.loads((folder / "part.json").read_bytes())
    except FileNotFoundError:
        return None
    splits = {
        name: SplitResult(
            **{
                **split,
                "lengths": tuple(split["lengths"]),
                "shards": tuple(Shard(**shard) for shard in split["shards"]),
            }
        )
        for name, split in data.pop("splits").items()
    }
    return PartResult(**data, splits=splits)
