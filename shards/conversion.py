"""Conversion: input files to a corpus of MDS shards, whole or not at all, the same bytes every time.

    OUT/NAME/train, OUT/NAME/holdout    the result: index.json, shard.NNNNN.mds, documents.bin, unigram.npy, corpus.json
    OUT/.NAME.work                      while at work: plan.json, parts/NNNNNN (see `shards.part`), out/, ...

Guarantees. OUT/NAME appears by one rename, complete. Equal sources, in equal order, and equal parameters
give equal bytes, for any number of workers and after any number of kills at any time: each part is a pure
function of its unit (`shards.sources.units`), and merging takes parts in order. The same call again goes on where the
last one was stopped, finished parts are kept; a call with other parameters or changed sources is refused and touches
nothing.

Order of rows. The full shards of all parts, part after part; then what each part has behind them, joined in
order and cut into rows again. So every shard but the last of a split is full, however small the files, and
only the last tokens, fewer than seq_len of the whole split, are in no row; the manifest counts them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shards.durable import publish_folder
from shards.engines import Engine, OnProgress, run_jobs
from shards.errors import CallError
from shards.manifest import Manifest
from shards.mds import PACKED
from shards.merging import merge
from shards.part import STOP, read_part
from shards.rests import RestShard, RestWork
from shards.sources.blocks import MAX_RECORD_BYTES
from shards.sources.units import UNIT_BYTES
from shards.task import Task
from shards.templates import Template

if TYPE_CHECKING:
    from shards.curation import Curation

__all__ = ["Conversion", "Report", "convert"]


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
        template: one, or its name in `shards.templates.TEMPLATES`; None for the corpus' own, else `text`.
        shard_bytes: largest size of a shard.
        rows: `packed`, or `examples`: one document a row, for finetuning (`shards.examples`).
        compression: None, or `zstd`.
        curation: what is removed, if anything.
        on_error: at a bad record or source `stop`, or `skip` it, count it and list it in `skipped.jsonl`.
        max_record_bytes: a line of more is a bad record.
        engine: where workers run: `local`, or `ray`. It decides no byte.
        unit_bytes: sources that are not packed are converted in ranges of at most so many bytes.
    """

    inputs: Sequence[str]
    corpus: str
    tokenizer: str
    out: str
    seq_len: int = 2048
    holdout: float = 0.01
    template: Template | str | None = None
    shard_bytes: int = 1 << 26
    rows: str = PACKED
    compression: str | None = None
    curation: Curation | None = None
    on_error: str = STOP
    max_record_bytes: int = MAX_RECORD_BYTES
    engine: Engine = "local"
    unit_bytes: int = UNIT_BYTES


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a conversion did.

    Attributes:
        folder: OUT/NAME.
        manifests: of its splits, train first.
        seconds: how long the call took.
        text_bytes: UTF-8 bytes of text converted by this call, not by an earlier one.
        num_parts: units of the sources, of which `num_kept` were found finished.
    """

    folder: Path
    manifests: tuple[Manifest, ...]
    seconds: float
    text_bytes: int
    num_parts: int
    num_kept: int


def convert(conversion: Conversion, *, workers: int | None = None, on_progress: OnProgress | None = None) -> Report:
    """Convert, or go on converting, or find it done.

    Args:
        conversion: what and how.
        workers: processes; None for one a CPU, of this machine or of the cluster. With more than one, a script that
            calls this needs `if __name__ == "__main__":`, as always with spawned processes.
        on_progress: called with (bytes of input read, bytes of text taken) since its last call. With curation the input
            is read twice, for the first time without text.

    Raises:
        CallError: the call or an input is wrong (`SourceError`, `RecordError`, `TokenizerError`).
        MismatchError: the output belongs to another conversion.
        StorageError, WorkerError: the work failed; the same call goes on where it stopped.
    """
    start = time.monotonic()
    if workers is not None and workers < 1:
        raise CallError(f"--workers must be at least 1, not {workers}")
    task = Task.of(conversion)
    text_bytes = 0
    if (finished := task.find_finished()) is not None:
        shutil.rmtree(task.work, ignore_errors=True)
        return Report(
            folder=task.folder,
            manifests=finished,
            seconds=time.monotonic() - start,
            text_bytes=text_bytes,
            num_parts=len(task.units),
            num_kept=len(task.units),
        )

    def count(read_bytes: int, new_text_bytes: int) -> None:
        nonlocal text_bytes
        text_bytes += new_text_bytes
        if on_progress is not None:
            on_progress(read_bytes, new_text_bytes)

    engine = conversion.engine
    num_workers = workers or (0 if engine == "ray" else os.cpu_count() or 1)  # 0: all that the cluster has
    with task.at_work():
        task = task.settle()
        kept = [result for folder in task.part_folders if (result := read_part(folder)) is not None]
        count(sum(result.end - result.start for result in kept), 0)
        task.curate(engine=engine, workers=num_workers, on_progress=count)
        run_jobs(task.open_jobs(), task.work_of_parts, engine=engine, workers=num_workers, on_progress=count)
        task.check_filled()

        def run_rests(jobs: Sequence[RestShard], work: RestWork) -> None:
            run_jobs(jobs, work, engine=engine, workers=num_workers, on_progress=count)

        manifests = merge(
            task.part_folders,
            task.work / "out",
            name=conversion.corpus,
            settings=task.settings,
            parameters=task.parameters,
            run_jobs=run_rests,
        )
        task.keep_reports()
        publish_folder(task.work / "out", task.folder)
        shutil.rmtree(task.work, ignore_errors=True)
    return Report(
        folder=task.folder,
        manifests=manifests,
        seconds=time.monotonic() - start,
        text_bytes=text_bytes,
        num_parts=len(task.units),
        num_kept=len(kept),
    )
