"""The first pass: a unit is read, each step judges what the ones before left, and duplicates' signs are kept.

`judge_unit` is a function of the unit's bytes, the curation and the template. Its folder appears by one rename:

    unit.json         counts and notes (`JudgedUnit`)
    removed.npy       REMOVED [n], ascending records
    kept.npy          int64 [m], records that are left          ┐
    hashes.npy        uint64 [m, 2]                             │ as far as steps want them
    signatures.npy    uint32 [m, permutations]                  │
    bands.npy         uint64 [bands, m]                         ┘
    report.jsonl      lines of steps that report, with the record as numbered in the whole source
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.curation.batch import BATCH_CHARACTERS, Batch
from shards.curation.judging import KEEP, Judge, add_notes
from shards.curation.parsing import Curation
from shards.durable import publish_folder, write_file, writing
from shards.errors import RecordError, SourceError
from shards.sources.blocks import Block, Fault, count_before, read_blocks, stop_at
from shards.sources.storage import stat_source
from shards.sources.units import Unit
from shards.templates import Template

__all__ = ["REMOVED", "Job", "JudgedUnit", "Judging", "array_bytes", "read_judged"]

REMOVED = np.dtype([("record", "<i8"), ("step", "u1")])
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """A unit, and the folder that its result becomes."""

    unit: Unit
    folder: Path

    def __str__(self) -> str:
        return str(self.unit)


@dataclass(frozen=True, kw_only=True)
class JudgedUnit:
    """What `unit.json` holds: documents judged, documents left, notes of each step by its name."""

    documents: int
    kept: int
    notes: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Judging:
    """The work of the first pass, for `shards.engines.run_jobs`.

    Attributes:
        curation, template: what is judged, and of which text.
        stop: whether a bad record is raised; else it is passed over, as conversion does and counts.
        max_record_bytes: of a line.
    """

    curation: Curation
    template: Template
    stop: bool
    max_record_bytes: int

    def start(self) -> Callable[[Job, OnProgress], None]:
        """Start all steps of this worker."""
        judges = [step.start() for step in self.curation.steps]

        def do(job: Job, on_progress: OnProgress) -> None:
            if read_judged(job.folder) is None:
                _judge_unit(self, judges, job, on_progress)

        return do


def read_judged(folder: Path) -> JudgedUnit | None:
    """What was published at `folder`; None if nothing was."""
    try:
        return JudgedUnit(**json.loads((folder / "unit.json").read_bytes()))
    except FileNotFoundError:
        return None


def array_bytes(array: NDArray[Any]) -> bytes:
    """`array` as the bytes of an .npy file."""
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _judge_unit(work: Judging, judges: list[Judge], job: Job, on_progress: OnProgress) -> None:
    unit = job.unit
    if stat_source(unit.source) != unit.stamp:
        raise SourceError(f"{unit.source} changes while it is read; try again when it is whole", path=unit.source)
    staging = job.folder.with_name(f"{job.folder.name}.{os.getpid()}.tmp")
    with writing(staging):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    try:
        result = _Result(work.curation, judges)
        for batch in _batches(work, unit, on_progress):
            result.add(batch)
        result.write(staging, unit)
        if read_judged(job.folder) is None:
            publish_folder(staging, job.folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _batches(work: Judging, unit: Unit, on_progress: OnProgress) -> Iterator[Batch]:
    def pass_over(fault: Fault) -> None:
        pass

    on_bad = stop_at(unit) if work.stop else pass_over
    position = 0
    blocks = read_blocks(unit, work.template.fields, on_bad, max_record_bytes=work.max_record_bytes)
    for block in blocks:
        texts, records, characters = [], [], 0
        for number, text in _documents(block, work.template, on_bad):
            texts.append(text)
            records.append(number)
            characters += len(text)
            if characters >= BATCH_CHARACTERS:
                yield Batch(texts, np.array(records, np.int64))
                texts, records, characters = [], [], 0
        if texts:
            yield Batch(texts, np.array(records, np.int64))
        on_progress(block.position - position, 0)
        position = block.position


def _documents(block: Block, template: Template, on_bad: Callable[[Fault], None]) -> Iterator[tuple[int, str]]:
    """Record and text of each document, stripped and not empty, as conversion makes it."""
    for number, record in zip(block.numbers, block.records, strict=True):
        try:
            text = template.render(record).strip()
        except RecordError as error:
            on_bad(Fault("wrong columns", number, str(error)))
            continue
        if text:
            yield number, text


class _Result:
    """What becomes of one unit."""

    def __init__(self, curation: Curation, judges: list[Judge]) -> None:
        self._curation = curation
        self._steps = list(zip(curation.steps, judges, strict=True))
        self._columns: dict[str, list[NDArray[Any]]] = {}
        self._removed: list[NDArray[Any]] = []
        self._report: list[dict[str, Any]] = []
        self._documents = 0
        for judge in judges:  # what a unit that failed has left there
            judge.take_notes()
            judge.take_report()

    def add(self, batch: Batch) -> None:
        self._documents += len(batch)
        removed, first_reason = [np.empty(0, REMOVED)], 0
        for step, judge in self._steps:
            if not len(batch):
                break
            verdict = judge.judge(batch)
            gone = verdict != KEEP
            rows = np.empty(int(gone.sum()), REMOVED)
            rows["record"], rows["step"] = batch.records[gone], first_reason + verdict[gone]
            removed.append(rows)
            batch = batch.keep(~gone)
            self._report += [{"step": step.name, **line} for line in judge.take_report()]
            first_reason += len(step.reasons)
        self._removed.append(np.sort(np.concatenate(removed), order="record"))
        if len(batch):
            self._sign(batch)

    def _sign(self, batch: Batch) -> None:
        from shards.curation.duplicates import hash_texts

        columns: dict[str, NDArray[Any]] = {"kept": batch.records}
        if self._curation.exact:
            columns["hashes"] = hash_texts(batch.texts)
        if self._curation.near:
            columns["signatures"] = self._curation.near.sign(batch)
            columns["bands"] = self._curation.near.band_keys(columns["signatures"])
        for name, values in columns.items():
            self._columns.setdefault(name, []).append(values)

    def write(self, folder: Path, unit: Unit) -> None:
        removed = np.concatenate([np.empty(0, REMOVED), *self._removed])
        write_file(folder / "removed.npy", array_bytes(removed))
        if self._curation.exact or self._curation.near:
            for name, values in _joined(self._columns).items():
                write_file(folder / f"{name}.npy", array_bytes(values))
        write_file(folder / "report.jsonl", _lines(self._report, unit))
        notes: dict[str, Any] = {}
        for step, judge in self._steps:
            notes = add_notes(notes, {step.name: judge.take_notes()})
        kept = self._documents - len(removed)
        result = JudgedUnit(documents=self._documents, kept=kept, notes=notes)
        write_file(folder / "unit.json", json.dumps(asdict(result), sort_keys=True).encode())


def _joined(columns: dict[str, list[NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Each column whole; of a unit without documents none."""
    return {
        name: np.concatenate(values, axis=1 if name == "bands" else 0) for name, values in columns.items() if values
    }


def _lines(report: Iterable[dict[str, Any]], unit: Unit) -> bytes:
    report = list(report)
    before = count_before(unit) if report else 0
    lines = (
        {"source": unit.source, "record": line["record"] + before, **{k: line[k] for k in line if k != "record"}}
        for line in report
    )
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
