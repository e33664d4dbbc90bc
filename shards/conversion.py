"""Conversion: input files to a corpus of MDS shards, whole or not at all, the same bytes every time.

    OUT/NAME/train, OUT/NAME/holdout    the result: index.json, shard.NNNNN.mds, documents.bin, unigram.npy, corpus.json
    OUT/.NAME.work                      while at work: plan.json, parts/NNNNNN (see `shards.part`), out/

Guarantees. OUT/NAME appears by one rename, complete. Equal sources, in equal order, and equal parameters
give equal bytes, for any number of workers and after any number of kills at any time: each part is a pure
function of its file, and merging takes parts in order. The same call again goes on where the last one was
stopped, finished parts are kept; a call with other parameters or changed sources is refused and touches
nothing.

Order of rows. The full shards of all parts, part after part; then what each part has behind them, joined in
order and cut into rows again. So every shard but the last of a split is full, however small the files, and
only the last tokens, fewer than seq_len of the whole split, are in no row; the manifest counts them.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from shards.durable import publish_folder, write_file, writing
from shards.errors import CallError, MismatchError, ShardsError, SourceError
from shards.manifest import MANIFEST, Manifest, differences, parameters, read_manifest
from shards.mds import PACKED, RowFormat
from shards.merging import merge
from shards.part import TRAIN, PartResult, Recipe, read_part
from shards.pool import Job, OnProgress, run_jobs
from shards.sources import find_sources, identify, read_blocks
from shards.templates import find_template
from shards.tokenizer import choose_engine, find_tokenizer

__all__ = ["Conversion", "Report", "convert"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_CHECK_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What to convert, and how.

    Attributes:
        inputs: files, directories and globs (`shards.sources`).
        corpus: name of the corpus; letters, digits, `_`, `-`, `.`.
        tokenizer: folder with tokenizer.json, that file, or a name on the hub.
        out: where the folder of the corpus goes.
        seq_len: tokens in a row.
        holdout: share of documents held out, in [0, 1).
        template: name in `shards.templates.TEMPLATES`; None for the corpus' own, else `text`.
        shard_bytes: largest size of a shard.
        rows: `packed`, or `examples`: one document a row, for finetuning (`shards.examples`).
    """

    inputs: Sequence[str]
    corpus: str
    tokenizer: str
    out: str
    seq_len: int = 2048
    holdout: float = 0.01
    template: str | None = None
    shard_bytes: int = 1 << 26
    rows: str = PACKED


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a conversion did.

    Attributes:
        folder: OUT/NAME.
        manifests: of its splits, train first.
        seconds: how long the call took.
        text_bytes: UTF-8 bytes of text converted by this call, not by an earlier one.
        num_kept: parts found finished.
    """

    folder: Path
    manifests: tuple[Manifest, ...]
    seconds: float
    text_bytes: int
    num_kept: int


def convert(conversion: Conversion, *, workers: int | None = None, on_progress: OnProgress | None = None) -> Report:
    """Convert, or go on converting, or find it done.

    Args:
        conversion: what and how.
        workers: processes; None for one a CPU. With more than one, a script that calls this needs
            `if __name__ == "__main__":`, as always with spawned processes.
        on_progress: called with (bytes of input read, bytes of text taken) since its last call.

    Raises:
        CallError: the call or an input is wrong (`SourceError`, `RecordError`, `TokenizerError`).
        MismatchError: the output belongs to another conversion.
        StorageError, WorkerError: the work failed; the same call goes on where it stopped.
    """
    start = time.monotonic()
    if workers is not None and workers < 1:
        raise CallError(f"--workers must be at least 1, not {workers}")
    task = _Task.of(conversion)
    text_bytes = 0
    if (finished := task.find_finished()) is not None:
        shutil.rmtree(task.work, ignore_errors=True)
        return Report(
            folder=task.folder,
            manifests=finished,
            seconds=time.monotonic() - start,
            text_bytes=text_bytes,
            num_kept=len(task.sources),
        )

    def count(read_bytes: int, new_text_bytes: int) -> None:
        nonlocal text_bytes
        text_bytes += new_text_bytes
        if on_progress is not None:
            on_progress(read_bytes, new_text_bytes)

    with task.at_work():
        task = task.settle()
        kept = [result for folder in task.part_folders if (result := read_part(folder)) is not None]
        count(sum(result.bytes for result in kept), 0)
        run_jobs(task.open_jobs(), task.recipe, workers or os.cpu_count() or 1, count)
        task.check_filled()
        manifests = merge(
            task.part_folders,
            task.work / "out",
            name=conversion.corpus,
            recipe=task.recipe,
            parameters=task.parameters,
        )
        publish_folder(task.work / "out", task.folder)
        shutil.rmtree(task.work, ignore_errors=True)
    return Report(
        folder=task.folder,
        manifests=manifests,
        seconds=time.monotonic() - start,
        text_bytes=text_bytes,
        num_kept=len(kept),
    )


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A conversion with everything in it looked up and checked."""

    folder: Path
    sources: tuple[Path, ...]
    recipe: Recipe
    parameters: dict[str, Any]

    @classmethod
    def of(cls, conversion: Conversion) -> _Task:
        if not _NAME.fullmatch(conversion.corpus):
            raise CallError(f"--corpus {conversion.corpus!r}: a name has letters, digits, '_', '-' and '.' only")
        if not 0 <= conversion.holdout < 1:
            raise CallError(f"--holdout {conversion.holdout}: a share from 0 to below 1 is allowed")
        template = find_template(conversion.template, conversion.corpus)
        tokenizer = find_tokenizer(conversion.tokenizer)
        recipe = Recipe(
            template=template,
            tokenizer=tokenizer,
            row_format=RowFormat(
                seq_len=conversion.seq_len,
                dtype=tokenizer.dtype,
                shard_bytes=conversion.shard_bytes,
                rows=conversion.rows,
            ),
            holdout_threshold=int(conversion.holdout * 2.0**64),
        )
        return cls(
            folder=Path(conversion.out) / conversion.corpus,
            sources=tuple(find_sources(conversion.inputs)),
            recipe=recipe,
            parameters=parameters(conversion.corpus, recipe, conversion.holdout),
        )

    @property
    def work(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.work")

    @property
    def part_folders(self) -> list[Path]:
        return [self.work / "parts" / f"{number:06}" for number in range(len(self.sources))]

    def find_finished(self) -> tuple[Manifest, ...] | None:
        """The manifests of the published result of this very task; None if nothing is published."""
        if not self.folder.exists():
            return None
        manifests = tuple(read_manifest(self.folder / split) for split in self.recipe.splits if self._has(split))
        if not manifests:
            raise MismatchError(f"{self.folder} exists and is no corpus; choose another --out", path=str(self.folder))
        self._compare(manifests[0].parameters)
        there = [(source.bytes, source.sha256) for source in manifests[0].sources]
        if len(there) != len(self.sources):
            self._refuse([f"{len(there)} input files there, {len(self.sources)} asked"])
        for known, source, path in zip(there, manifests[0].sources, self.sources, strict=True):
            found = identify(path)
            if known != (found.bytes, found.sha256):
                self._refuse([f"input {path} is not what {source.path} was"])
        return manifests

    def _has(self, split: str) -> bool:
        return (self.folder / split / MANIFEST).exists()

    def _compare(self, there: dict[str, Any]) -> None:
        if found := differences(there, self.parameters):
            self._refuse(found)

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

    def settle(self) -> _Task:
        """Agree with what an earlier call left, or make the plan; returns the task with its engine chosen."""
        path = self.work / "plan.json"
        parts = [read_part(folder) for folder in self.part_folders]
        names = [os.path.abspath(source) for source in self.sources]  # noqa: PTH100 - links stay as they are
        if path.exists() and (any(parts) or any(self.work.glob("parts/*/part.json"))):
            plan = json.loads(path.read_bytes())
            self._compare(plan["parameters"])
            if plan["sources"] != names:
                self._refuse([f"inputs are {len(plan['sources'])} files there, {len(names)} or others asked"])
            for part, source in zip(parts, self.sources, strict=True):
                self._check_unchanged(part, source)
            engine = plan["engine"]
        else:
            engine = self._choose_engine()
            plan = {"parameters": self.parameters, "sources": names, "engine": engine}
            write_file(path, json.dumps(plan, indent=1).encode())
        for stray in self.work.glob("parts/*.tmp"):  # of workers that were killed
            shutil.rmtree(stray, ignore_errors=True)
        tokenizer = replace(self.recipe.tokenizer, engine=engine)
        return replace(self, recipe=replace(self.recipe, tokenizer=tokenizer))

    def _choose_engine(self) -> str:
        """Of examples the one that says where in the text a token stands; else the faster of those that agree."""
        if self.recipe.row_format.has_examples:
            return "tokenizers"
        return choose_engine(self.recipe.tokenizer, self._check_documents()).engine

    def _check_unchanged(self, part: PartResult | None, source: Path) -> None:
        if part is None:
            return
        now = source.stat()
        if (part.bytes, part.mtime_ns) == (now.st_size, now.st_mtime_ns):
            return
        if identify(source).sha256 != part.sha256:
            self._refuse([f"input {source} has changed since it was converted"])

    def _check_documents(self) -> list[bytes]:
        """The first documents of the first source, to check the tokenizer on."""
        template = self.recipe.template
        block = next(read_blocks(self.sources[0], template.fields), None)
        documents: list[bytes] = []
        for record in islice(block.records if block else [], 64):
            try:
                documents.append(template.render(record).strip().encode()[:_CHECK_BYTES])
            except ShardsError:
                break  # the conversion itself will say where
            if sum(map(len, documents)) >= _CHECK_BYTES:
                break
        return [document.decode(errors="ignore").encode() for document in documents]

    def open_jobs(self) -> list[Job]:
        pairs = zip(self.sources, self.part_folders, strict=True)
        return [Job(source, folder) for source, folder in pairs if read_part(folder) is None]

    def check_filled(self) -> None:
        """Refuse input that fills not even one row of train."""
        parts = [part for folder in self.part_folders if (part := read_part(folder)) is not None]
        tokens = sum(part.splits[TRAIN].tokens for part in parts)
        seq_len = 1 if self.recipe.row_format.has_examples else self.recipe.row_format.seq_len
        if tokens < seq_len:
            shutil.rmtree(self.work, ignore_errors=True)
            raise SourceError(
                f"the input has {tokens} tokens for {TRAIN}, fewer than one row of {seq_len}; "
                "give more input or a smaller --seq-len"
            )
