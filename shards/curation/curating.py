"""Curation: which records of the sources are left out, and why, the same result every time.

    FOLDER/removed/NNNNNN.npy      of each unit: records left out, and the step that did it (`read_removed`)
    FOLDER/decontamination.jsonl   which document matched which test item
    FOLDER/curation.json           counts and notes (`read_summary`); written last
    FOLDER/plan.json, units/       while at work (`shards.curation.judged_unit`)

Guarantees. The result is a function of the sources, in order, the curation and the template: not of workers,
engine, kills or the order in which units are done. The first pass goes unit by unit, and each that is finished
is kept; the second, over signs of all documents, is one process and is done again when it was stopped.

Memory. The first pass holds a block of records a worker, and the signs of a unit's documents: 24 bytes a document
for exact duplicates, 4 x permutations + 8 x bands for near ones (680 by default); they lie on disk afterwards.
The document being judged takes up to 25 bytes a character. The
second pass takes `BYTES_PER_DOCUMENT` for each document of the corpus that other steps left, and some 150 MB.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.curation.duplicates import find_exact, find_near
from shards.curation.judged_unit import REMOVED, Job, JudgedUnit, Judging, array_bytes, read_judged
from shards.curation.judging import add_notes
from shards.curation.parsing import Curation
from shards.durable import write_chunks, write_file, writing
from shards.engines import Engine, OnProgress, run_jobs
from shards.errors import MismatchError
from shards.sources.blocks import MAX_RECORD_BYTES
from shards.sources.units import Unit
from shards.templates import Template

__all__ = ["BYTES_PER_DOCUMENT", "REPORT", "Removed", "copy_reports", "curate", "read_removed", "read_summary"]

BYTES_PER_DOCUMENT = 64
REPORT = "decontamination.jsonl"
_PLAN, _SUMMARY = "plan.json", "curation.json"


@dataclass(frozen=True)
class Removed:
    """Records of one unit that are left out.

    Attributes:
        records: int64 [n], ascending, as `read_blocks` numbers them: from 1 where the unit begins.
        steps: uint8 [n], index into `Curation.step_names` of the step that removed each.
    """

    records: NDArray[np.int64]
    steps: NDArray[np.uint8]


def curate(
    curation: Curation,
    units: Sequence[Unit],
    template: Template,
    folder: Path,
    *,
    engine: Engine,
    workers: int,
    on_progress: OnProgress,
    on_error: str = "skip",
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> None:
    """Find out what is left out of `units`, go on finding out, or find it known.

    Args:
        curation: the steps.
        units: of all sources, in order.
        template: makes the text of a record.
        folder: where the result goes, on storage that all workers see.
        engine, workers: as of `shards.engines.run_jobs`.
        on_progress: called with (bytes of the units read, 0).
        on_error: `stop` raises the first bad record; `skip` passes over it, for conversion to count.
        max_record_bytes: of a line; a longer one is a bad record.

    Raises:
        MismatchError: the folder holds another curation, or one of other sources.
        SourceError, RecordError: a source cannot be read, or has a bad record.
        CallError: a model, evaluation set or callable fails.
        StorageError, WorkerError: the work failed; the same call goes on where it stopped.
    """
    _settle(folder, _plan(curation, units, template))
    folders = [folder / "units" / f"{number:06}" for number in range(len(units))]
    if (folder / _SUMMARY).exists():
        on_progress(sum(unit.end - unit.start for unit in units), 0)
    else:
        jobs = [Job(unit, place) for unit, place in zip(units, folders, strict=True)]
        on_progress(sum(job.unit.end - job.unit.start for job in jobs if read_judged(job.folder)), 0)
        work = Judging(curation=curation, template=template, stop=on_error == "stop", max_record_bytes=max_record_bytes)
        todo = [job for job in jobs if read_judged(job.folder) is None]
        run_jobs(todo, work, engine=engine, workers=workers, on_progress=on_progress)
        _finish(curation, folders, folder)
    shutil.rmtree(folder / "units", ignore_errors=True)


def read_removed(folder: Path, unit_number: int) -> Removed:
    """What `curate` left out of the unit `unit_number` (from 0)."""
    rows = np.load(folder / "removed" / f"{unit_number:06}.npy", allow_pickle=False)
    return Removed(np.ascontiguousarray(rows["record"]), np.ascontiguousarray(rows["step"]))


def read_summary(folder: Path) -> dict[str, Any]:
    """Of a finished curation: `documents` judged, `kept`, `removed` by step name, `notes` by step name."""
    summary: dict[str, Any] = json.loads((folder / _SUMMARY).read_bytes())
    return summary


def copy_reports(folder: Path, target: Path) -> None:
    """Copy the summary of a finished curation, and its report if there is a line in it, from `folder` to `target`."""
    for name in (_SUMMARY, REPORT):
        if data := (folder / name).read_bytes():
            write_file(target / name, data)


def _plan(curation: Curation, units: Sequence[Unit], template: Template) -> bytes:
    plan = {
        "curation": curation.parameters(),
        "template": template.alternatives,
        "units": [[unit.source, unit.start, unit.end, unit.stamp.bytes, unit.stamp.version] for unit in units],
    }
    return json.dumps(plan, sort_keys=True).encode()


def _settle(folder: Path, plan: bytes) -> None:
    path = folder / _PLAN
    if path.exists():
        if path.read_bytes() != plan:
            raise MismatchError(
                f"{folder} holds another curation, or one of other sources; delete it to start anew", path=str(folder)
            )
        return
    with writing(folder):
        (folder / "removed").mkdir(parents=True, exist_ok=True)
    write_file(path, plan)


def _finish(curation: Curation, folders: list[Path], folder: Path) -> None:
    judged = [_known(read_judged(place)) for place in folders]
    counts = np.zeros(len(curation.step_names), np.int64)
    repeated = _find_duplicates(curation, folders, [one.kept for one in judged])
    for number, place in enumerate(folders):
        rows = np.load(place / "removed.npy", allow_pickle=False)
        if (marks := repeated[number]) is not None:
            gone = np.flatnonzero(marks)
            more = np.empty(len(gone), REMOVED)
            if len(gone):
                more["record"], more["step"] = np.load(place / "kept.npy")[gone], marks[gone] - 1
            rows = np.sort(np.concatenate([rows, more]), order="record")
        counts += np.bincount(rows["step"], minlength=len(counts))
        write_file(folder / "removed" / f"{number:06}.npy", array_bytes(rows))
    write_chunks(folder / REPORT, ((place / "report.jsonl").read_bytes() for place in folders))
    notes: dict[str, Any] = {}
    for one in judged:
        notes = add_notes(notes, one.notes)
    documents = sum(one.documents for one in judged)
    summary = {
        "documents": documents,
        "kept": documents - int(counts.sum()),
        "removed": dict(zip(curation.step_names, counts.tolist(), strict=True)),
        "notes": notes,
    }
    write_file(folder / _SUMMARY, json.dumps(summary, indent=1, sort_keys=True).encode())


def _known(judged: JudgedUnit | None) -> JudgedUnit:
    assert judged is not None
    return judged


def _find_duplicates(curation: Curation, folders: list[Path], kept: list[int]) -> list[NDArray[np.int64]] | list[None]:
    """For the documents left of each unit 0, or the number (from 1) of the step that removes it."""
    if not (curation.exact or curation.near):
        return [None] * len(folders)
    borders = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    places = [place for place, count in zip(folders, kept, strict=True) if count]
    marks = np.zeros(int(borders[-1]), np.int64)
    number = len(curation.step_names) - (curation.near is not None)
    if curation.exact and places:
        hashes = np.concatenate([np.load(place / "hashes.npy") for place in places])
        marks[find_exact(hashes)] = number
    if curation.near and places:
        left = np.flatnonzero(marks == 0)
        signs = _Signs(places, left, curation.near.bands)
        marks[left[find_near(signs.bands(), signs.fetch, len(left), curation.near.threshold)]] = number + 1
    return [marks[start:end] for start, end in pairwise(borders.tolist())]


class _Signs:
    """What near duplicates are found by, read from the folders of units as it is wanted."""

    def __init__(self, places: list[Path], left: NDArray[np.int64], num_bands: int) -> None:
        self._places, self._left, self._num_bands = places, left, num_bands
        counts = [len(np.load(place / "kept.npy", mmap_mode="r")) for place in places]
        self._borders = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])

    def bands(self) -> Iterator[NDArray[np.uint64]]:
        for band in range(self._num_bands):
            parts = [np.load(place / "bands.npy", mmap_mode="r")[band] for place in self._places]
            yield np.concatenate(parts)[self._left]

    def fetch(self, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        rows = self._left[rows]
        cuts = np.searchsorted(rows, self._borders)
        pieces = [
            np.load(place / "signatures.npy", mmap_mode="r")[rows[start:end] - border]
            for place, (start, end), border in zip(self._places, pairwise(cuts.tolist()), self._borders, strict=False)
            if start < end
        ]
        return np.concatenate(pieces)
