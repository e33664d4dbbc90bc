"""Merging: the folders of all parts become the directories of the corpus.

Shards are moved, not copied; what filled none is joined to shards by jobs (`shards.rests`). Every step gives the same
result when it is done again, so a merge may be stopped at any point and started anew: a shard that is not in its part
any more has been moved already, and what is written is a function of files that stay until the corpus is published.
The manifest of a split is its last file.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from shards.documents import Piece, join
from shards.durable import write_chunks, write_file, writing
from shards.hashing import identify
from shards.manifest import DOCUMENTS, INDEX, MANIFEST, SKIPPED, UNIGRAM, Manifest, Source, fingerprint
from shards.mds import RowFormat, Shard, encode_index, shard_file, shard_name
from shards.part import LISTED, PartResult, PartSettings, read_part
from shards.rests import RestShard, RestWork, plan_rests, read_rest_shard, read_stretch, within
from shards.sources.units import combine_hashes
from shards.splits import array_chunks

__all__ = ["merge"]

RunJobs = Callable[[Sequence[RestShard], RestWork], None]


@dataclass(frozen=True)
class _Parts:
    """The published parts of all units, in order."""

    folders: Sequence[Path]
    results: Sequence[PartResult]

    @cached_property
    def sources(self) -> list[list[PartResult]]:
        """The results of each source."""
        return [list(group) for _, group in groupby(self.results, key=lambda result: result.source)]

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """Of each part the number of its source, and the records that this has before it."""
        found = []
        for number, results in enumerate(self.sources):
            before = 0
            for result in results:
                found.append((number, before))
                before += result.numbers
        return found


def merge(
    part_folders: Sequence[Path],
    out: Path,
    *,
    name: str,
    settings: PartSettings,
    parameters: Mapping[str, Any],
    run_jobs: RunJobs,
) -> tuple[Manifest, ...]:
    """Write `out`/train and, if the settings have one, `out`/holdout.

    Args:
        part_folders: published parts, in order; their shards are moved away.
        out: on the same file system.
        name: of the corpus.
        settings: that the parts were made by.
        parameters: `shards.manifest.parameters`.
        run_jobs: does the jobs of `shards.rests`.

    Returns:
        The manifests, train first.
    """
    results = [result for folder in part_folders if (result := read_part(folder)) is not None]
    assert len(results) == len(part_folders)
    parts = _Parts(part_folders, results)
    jobs = {split: _move_and_plan(split, parts, out / split, settings) for split in settings.splits}
    todo = [job for _, split_jobs, _ in jobs.values() for job in split_jobs if read_rest_shard(job) is None]
    run_jobs(todo, RestWork(settings.row_format))
    skipped = b"".join(_skipped(parts))
    manifests = []
    for split, (shards, split_jobs, rest) in jobs.items():
        shards += [shard for job in split_jobs if (shard := read_rest_shard(job)) is not None]
        about = {"name": name, "parameters": dict(parameters), "version": _version()}
        manifests.append(_finish(split, parts, out / split, settings, about, shards, rest, skipped))
    return tuple(manifests)


def _move_and_plan(
    split: str, parts: _Parts, folder: Path, settings: PartSettings
) -> tuple[list[Shard], list[RestShard], np.ndarray[Any, Any]]:
    """Moves the shards of the parts; returns them, the jobs that write those behind, and the integers left over."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    form = settings.row_format
    shards = _move_shards(split, parts, folder, form)
    paths = [part / f"{split}.rest.mds" for part in parts.folders]
    rests, stretches = plan_rests(paths, [result.splits[split].rest for result in parts.results], form)
    jobs = []
    for number, stretch in enumerate(stretches, len(shards)):
        result = folder.parent.with_name("rests") / f"{split}.{number:05}.json"
        with writing(result):
            result.parent.mkdir(exist_ok=True)
        held = within(rests, stretch.start, stretch.stop)
        jobs.append(RestShard(held, stretch.start, stretch.stop, folder / shard_name(number), result))
    end = rests[-1].start + rests[-1].size
    left = read_stretch(rests, stretches[-1].stop if stretches else 0, end, form)
    return shards, jobs, np.concatenate([np.empty(0, form.dtype), *left])


def _finish(
    split: str,
    parts: _Parts,
    folder: Path,
    settings: PartSettings,
    about: Mapping[str, Any],
    shards: list[Shard],
    dropped: np.ndarray[Any, Any],
    skipped: bytes,
) -> Manifest:
    """Write all of a split but its shards."""
    row_format = settings.row_format
    unigram = sum(np.load(part / f"{split}.unigram.npy") for part in parts.folders)
    if len(dropped):  # none of rows that are whole from the start
        unigram -= np.bincount(dropped, minlength=len(unigram))
    totals = _totals(split, parts, shards)
    write_chunks(folder / DOCUMENTS, join(_pieces(split, parts, settings), is_placed=row_format.is_placed))
    write_file(folder / INDEX, encode_index(shards, row_format))
    write_file(folder / UNIGRAM, *array_chunks(unigram))
    if skipped:
        write_file(folder / SKIPPED, skipped)
    manifest = Manifest(
        split=split,
        shards=tuple(shards),
        dropped_tokens=totals["tokens"] - int(unigram.sum()),
        fingerprint=fingerprint(row_format, shards),
        tokenizer=settings.tokenizer.source,
        engine=settings.tokenizer.engine,
        documents_sha256=identify(folder / DOCUMENTS).sha256,
        index_sha256=identify(folder / INDEX).sha256,
        unigram_sha256=identify(folder / UNIGRAM).sha256,
        skipped_sha256=identify(folder / SKIPPED).sha256 if skipped else None,
        **about,
        **totals,
    )
    if not shards:
        logging.getLogger(__name__).warning(
            "%s is empty: its %d tokens fill no row of %d; give more input or another --holdout",
            split,
            manifest.tokens,
            row_format.seq_len,
        )
    write_file(folder / MANIFEST, manifest.encode())
    return manifest


def _move_shards(split: str, parts: _Parts, folder: Path, row_format: RowFormat) -> list[Shard]:
    shards: list[Shard] = []
    for part, result in zip(parts.folders, parts.results, strict=True):
        for number, shard in enumerate(result.splits[split].shards):
            old = shard_file(part / f"{split}.{number:05}.mds", row_format)
            new = shard_file(folder / shard_name(len(shards)), row_format)
            with writing(new):
                if old.exists():
                    old.replace(new)
            shards.append(shard)
    return shards


def _pieces(split: str, parts: _Parts, settings: PartSettings) -> list[Piece]:
    """Of the document index, by part."""
    pieces = []
    for folder, result, (source, before) in zip(parts.folders, parts.results, parts.places, strict=True):
        counts = result.splits[split]
        own_tokens = sum(shard.samples for shard in counts.shards) * settings.row_format.seq_len
        pieces.append(Piece(folder / f"{split}.documents.bin", own_tokens, source, before))
    return pieces


def _totals(split: str, parts: _Parts, shards: Sequence[Shard]) -> dict[str, Any]:
    results = parts.results
    counts = [result.splits[split] for result in results]
    lengths = np.zeros(64, np.int64)
    for count in counts:
        lengths[: len(count.lengths)] += np.array(count.lengths, np.int64)
    return {
        "samples": sum(shard.samples for shard in shards),
        "documents": sum(count.documents for count in counts),
        "tokens": sum(count.tokens for count in counts),
        "padding_tokens": sum(count.padding for count in counts),
        "lengths": tuple(np.trim_zeros(lengths, "b").tolist()),
        "text_bytes": sum(count.text_bytes for count in counts),
        "records": sum(result.records for result in results),
        "empty_records": sum(result.empty for result in results),
        "removed": _sum(result.removed for result in results),
        "skipped": _sum(result.skipped for result in results),
        "raw_bytes": sum(result.raw_bytes for result in results),
        "sources": tuple(
            Source(
                path=units[0].source,
                bytes=units[-1].end,
                sha256=combine_hashes(unit.sha256 for unit in units),
                units=len(units),
            )
            for units in parts.sources
        ),
    }


def _sum(counts: Iterator[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def _skipped(parts: _Parts) -> Iterator[bytes]:
    """The lines of `skipped.jsonl`: the first faults of each kind, in order, with their place in the source."""
    told: Counter[str] = Counter()
    for folder, result, (_, before) in zip(parts.folders, parts.results, parts.places, strict=True):
        for line in (folder / SKIPPED).read_bytes().splitlines():
            fault = json.loads(line)
            told[fault["kind"]] += 1
            if told[fault["kind"]] <= LISTED:
                place = {"source": result.source, "number": fault["number"] + before}
                yield json.dumps({**place, "kind": fault["kind"], "reason": fault["reason"]}).encode() + b"\n"


def _version() -> str:
    try:
        return version("switchpoint")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
