"""The task of a conversion: everything looked up and checked, and what of it is already done."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.durable import write_file, writing
from shards.engines import ENGINES, Engine, OnProgress
from shards.errors import CallError, MismatchError, ShardsError, SourceError
from shards.manifest import MANIFEST, Manifest, differences, parameters, read_manifest
from shards.mds import RowFormat
from shards.part import SKIP, STOP, TRAIN, Part, PartResult, PartSettings, PartWork, read_part
from shards.sampling import sample_documents
from shards.sources import Unit, cut_into_units, find_sources
from shards.sources.storage import stat_sources
from shards.sources.units import hash_range, hash_source
from shards.templates import Template, find_template
from shards.tokenizer import choose_engine, find_tokenizer

if TYPE_CHECKING:
    from shards.conversion import Conversion
    from shards.curation import Curation

__all__ = ["Task"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A conversion with everything in it looked up and checked."""

    folder: Path
    units: tuple[Unit, ...]
    settings: PartSettings
    parameters: dict[str, Any]
    curation: Curation | None

    @classmethod
    def of(cls, conversion: Conversion) -> Task:
        """Look up what `conversion` names. Raises CallError: the call or an input is wrong."""
        _check(conversion)
        template = conversion.template
        if not isinstance(template, Template):
            template = find_template(template, conversion.corpus)
        tokenizer = find_tokenizer(conversion.tokenizer)
        settings = PartSettings(
            template=template,
            tokenizer=tokenizer,
            row_format=RowFormat(
                seq_len=conversion.seq_len,
                dtype=tokenizer.dtype,
                shard_bytes=conversion.shard_bytes,
                rows=conversion.rows,
                compression=conversion.compression,
            ),
            holdout_threshold=int(conversion.holdout * 2.0**64),
            on_error=conversion.on_error,
            max_record_bytes=conversion.max_record_bytes,
        )
        names = find_sources(conversion.inputs)
        sources = list(zip(names, stat_sources(names), strict=True))
        if conversion.on_error == STOP and (empty := next((name for name, stamp in sources if not stamp.bytes), None)):
            raise SourceError(f"{empty} is empty; remove it from the inputs", path=empty)
        known = parameters(conversion.corpus, settings, conversion.holdout, conversion.unit_bytes)
        if conversion.curation is not None:
            known["curation"] = conversion.curation.parameters()
        return cls(
            folder=Path(conversion.out) / conversion.corpus,
            units=tuple(cut_into_units(sources, conversion.unit_bytes)),
            settings=settings,
            parameters=known,
            curation=conversion.curation,
        )

    @property
    def work(self) -> Path:
        """Where the work is done."""
        return self.folder.with_name(f".{self.folder.name}.work")

    @property
    def part_folders(self) -> list[Path]:
        """Of each unit."""
        return [self.work / "parts" / f"{number:06}" for number in range(len(self.units))]

    @cached_property
    def _sources(self) -> list[list[Unit]]:
        """The units of each source."""
        return [list(units) for _, units in groupby(self.units, key=lambda unit: unit.source)]

    def find_finished(self) -> tuple[Manifest, ...] | None:
        """The manifests of the published result of this very task; None if nothing is published."""
        if not self.folder.exists():
            return None
        manifests = tuple(read_manifest(self.folder / split) for split in self.settings.splits if self._has(split))
        if not manifests:
            raise MismatchError(f"{self.folder} exists and is no corpus; choose another --out", path=str(self.folder))
        self._compare(manifests[0].parameters)
        there = manifests[0].sources
        if len(there) != len(self._sources):
            self._refuse([f"{len(there)} input files there, {len(self._sources)} asked"])
        for known, units in zip(there, self._sources, strict=True):
            name, size = units[0].source, units[0].stamp.bytes
            if known.bytes != size or known.sha256 != hash_source(name, size, known.units):
                self._refuse([f"input {name} is not what {known.path} was"])
        self._check_skipped(manifests[0].skipped)
        return manifests

    def _has(self, split: str) -> bool:
        return (self.folder / split / MANIFEST).exists()

    def _compare(self, there: dict[str, Any]) -> None:
        if found := differences(there, self.parameters):
            self._refuse(found)

    def _check_skipped(self, skipped: dict[str, int]) -> None:
        if skipped and self.settings.on_error == STOP:
            self._refuse([f"{sum(skipped.values())} bad records were skipped there, --on-error {STOP} asked"])

    def _refuse(self, found: Sequence[str]) -> None:
        place = self.folder if self.folder.exists() else self.work
        raise MismatchError(
            f"{place} holds another conversion: {'; '.join(found)}; choose another --out, "
            f"or delete {place} to start anew",
            path=str(place),
        )

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Hold the work folder against other conversions; after a failure keep it if any part is finished."""
        made_out = not self.folder.parent.exists()
        with writing(self.work):
            self.work.mkdir(parents=True, exist_ok=True)
            lock = open(self.work / "lock", "wb")  # noqa: SIM115, PTH123 - held to the end of the block
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise MismatchError(
                    f"another conversion is at work in {self.work}; wait for it or choose another --out",
                    path=str(self.work),
                ) from None
            if self.folder.exists():
                raise MismatchError(f"another conversion has just finished {self.folder}; run again to compare")
            try:
                yield
            except ShardsError:
                if not any(map(read_part, self.part_folders)):
                    shutil.rmtree(self.work, ignore_errors=True)
                    if made_out:
                        with suppress(OSError):  # not empty: another conversion has begun there
                            self.folder.parent.rmdir()
                raise

    def settle(self) -> Task:
        """Agree with what an earlier call left, or make the plan; returns the task with its engine chosen."""
        path = self.work / "plan.json"
        parts = [read_part(folder) for folder in self.part_folders]
        names = [_full_name(units[0].source) for units in self._sources]
        if path.exists() and (any(parts) or any(self.work.glob("parts/*/part.json"))):
            plan = json.loads(path.read_bytes())
            self._compare(plan["parameters"])
            if plan["sources"] != names:
                self._refuse([f"inputs are {len(plan['sources'])} files there, {len(names)} or others asked"])
            for part, unit in zip(parts, self.units, strict=True):
                if part is not None:
                    self._check_unchanged(part, unit)
                    self._check_skipped(part.skipped)
            engine = plan["engine"]
        else:
            engine = self._choose_engine()
            plan = {"parameters": self.parameters, "sources": names, "engine": engine}
            write_file(path, json.dumps(plan, indent=1).encode())
        for stray in self.work.glob("parts/*.tmp"):  # of workers that were killed
            shutil.rmtree(stray, ignore_errors=True)
        tokenizer = replace(self.settings.tokenizer, engine=engine)
        return replace(self, settings=replace(self.settings, tokenizer=tokenizer))

    def _choose_engine(self) -> str:
        """Of examples the one that says where in the text a token stands; else the faster of those that agree."""
        if self.settings.row_format.has_examples:
            return "tokenizers"
        return choose_engine(self.settings.tokenizer, sample_documents(self.units, self.settings.template)).engine

    def _check_unchanged(self, part: PartResult, unit: Unit) -> None:
        is_same = (part.source, part.start, part.end) == (unit.source, unit.start, unit.end) and (
            part.version == unit.stamp.version or part.sha256 == hash_range(unit.source, unit.start, unit.end)
        )
        if not is_same:
            self._refuse([f"input {unit.source} has changed since it was converted"])

    @property
    def _removed(self) -> Path:
        return self.work / "curation"

    def curate(self, *, engine: Engine, workers: int, on_progress: OnProgress) -> None:
        """Find out what is removed, if anything is to be."""
        if self.curation is None:
            return
        from shards.curation import curate

        curate(
            self.curation,
            self.units,
            self.settings.template,
            self._removed,
            engine=engine,
            workers=workers,
            on_progress=on_progress,
            on_error=self.settings.on_error,
            max_record_bytes=self.settings.max_record_bytes,
        )

    def keep_reports(self) -> None:
        """Put what the curation found beside the splits that are about to be published."""
        if self.curation is not None:
            from shards.curation import copy_reports

            copy_reports(self._removed, self.work / "out")

    @property
    def work_of_parts(self) -> PartWork:
        """What converts the parts."""
        return PartWork(self.settings, tuple(self.curation.step_names) if self.curation else ())

    def open_jobs(self) -> list[Part]:
        """The parts that are not there yet."""
        removed = self._removed if self.curation else None
        return [
            Part(unit, folder, number, removed)
            for number, (unit, folder) in enumerate(zip(self.units, self.part_folders, strict=True))
            if read_part(folder) is None
        ]

    def check_filled(self) -> None:
        """Refuse input that fills not even one row of train."""
        parts = [part for folder in self.part_folders if (part := read_part(folder)) is not None]
        tokens = sum(part.splits[TRAIN].tokens for part in parts)
        row_format = self.settings.row_format
        seq_len = 1 if row_format.has_examples or row_format.is_placed else row_format.seq_len
        if tokens < seq_len:
            shutil.rmtree(self.work, ignore_errors=True)
            raise SourceError(
                f"the input has {tokens} tokens for {TRAIN}, fewer than one row of {seq_len}; "
                "give more input or a smaller --seq-len"
            )


def _check(conversion: Conversion) -> None:
    if not _NAME.fullmatch(conversion.corpus):
        raise CallError(f"--corpus {conversion.corpus!r}: a name has letters, digits, '_', '-' and '.' only")
    if not 0 <= conversion.holdout < 1:
        raise CallError(f"--holdout {conversion.holdout}: a share from 0 to below 1 is allowed")
    if conversion.on_error not in (STOP, SKIP):
        raise CallError(f"--on-error must be {STOP} or {SKIP}, not {conversion.on_error}")
    if conversion.engine not in ENGINES:
        raise CallError(f"--engine must be one of {', '.join(ENGINES)}, not {conversion.engine}")
    if conversion.max_record_bytes < 1:
        raise CallError(f"--max-record-bytes must be at least 1, not {conversion.max_record_bytes}")
    if conversion.unit_bytes < 1:
        raise CallError(f"--unit-bytes must be at least 1, not {conversion.unit_bytes}")


def _full_name(source: str) -> str:
    return source if "://" in source else os.path.abspath(source)  # noqa: PTH100 - links stay as they are
