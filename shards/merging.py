"""Merging: the folders of all parts become the directories of the corpus.

Shards are moved, not copied. Every step gives the same result when it is done again, so a merge may be
stopped at any point and started anew: a shard that is not in its part any more has been moved already,
and what is written is a function of files that stay until the corpus is published. The manifest of a split
is its last file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.documents import Piece, join
from shards.durable import write_chunks, write_file, writing
from shards.manifest import DOCUMENTS, INDEX, MANIFEST, UNIGRAM, Manifest, Source, fingerprint
from shards.mds import RowFormat, Shard, encode_index, shard_name, write_shard
from shards.packing import RowPacker
from shards.part import PartResult, Recipe, encode_array, read_part
from shards.sources import identify

__all__ = ["merge"]

Parts = Sequence[tuple[Path, PartResult]]


def merge(
    part_folders: Sequence[Path], out: Path, *, name: str, recipe: Recipe, parameters: Mapping[str, Any]
) -> tuple[Manifest, ...]:
    """Write `out`/train and, if the recipe has one, `out`/holdout.

    Args:
        part_folders: published parts, in order; their shards are moved away.
        out: on the same file system.
        name: of the corpus.
        recipe: that the parts were made by.
        parameters: `shards.manifest.parameters`.

    Returns:
        The manifests, train first.
    """
    results = [read_part(folder) for folder in part_folders]
    parts = [(folder, part) for folder, part in zip(part_folders, results, strict=True) if part is not None]
    assert len(parts) == len(part_folders)
    about = {"name": name, "parameters": dict(parameters), "version": _version()}
    return tuple(_merge_split(split, parts, out / split, recipe, about) for split in recipe.splits)


def _merge_split(split: str, parts: Parts, folder: Path, recipe: Recipe, about: Mapping[str, Any]) -> Manifest:
    row_format = recipe.row_format
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    shards = _move_shards(split, parts, folder)
    dropped = _write_rests(
        (np.load(part / f"{split}.rest.npy", mmap_mode="r") for part, _ in parts), folder, row_format, shards=shards
    )
    unigram = sum(np.load(part / f"{split}.unigram.npy") for part, _ in parts)
    if len(dropped):  # none of examples, whose rows are whole from the start
        unigram -= np.bincount(dropped, minlength=len(unigram))
    totals = _totals(split, parts, shards)
    write_chunks(folder / DOCUMENTS, join(_pieces(split, parts, row_format)))
    write_file(folder / INDEX, encode_index(shards, row_format))
    write_file(folder / UNIGRAM, encode_array(unigram))
    manifest = Manifest(
        split=split,
        shards=tuple(shards),
        dropped_tokens=totals["tokens"] - int(unigram.sum()),
        fingerprint=fingerprint(row_format, shards),
        tokenizer=recipe.tokenizer.source,
        engine=recipe.tokenizer.engine,
        documents_sha256=identify(folder / DOCUMENTS).sha256,
        index_sha256=identify(folder / INDEX).sha256,
        unigram_sha256=identify(folder / UNIGRAM).sha256,
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


def _move_shards(split: str, parts: Parts, folder: Path) -> list[Shard]:
    shards: list[Shard] = []
    for part, result in parts:
        for number, shard in enumerate(result.splits[split].shards):
            old, new = part / f"{split}.{number:05}.mds", folder / shard_name(len(shards))
            with writing(new):
                if old.exists():
                    old.replace(new)
            shards.append(shard)
    return shards


def _write_rests(
    rests: Iterable[NDArray[Any]], folder: Path, row_format: RowFormat, *, shards: list[Shard]
) -> NDArray[Any]:
    """Write the joined `rests` as shards behind `shards`, adding to it; returns the tokens left over."""
    packer = RowPacker(seq_len=row_format.row_size, num_rows=row_format.rows_per_shard, dtype=row_format.dtype)

    def write(rows: NDArray[Any]) -> None:
        shards.append(write_shard(folder / shard_name(len(shards)), rows, row_format))

    for rest in rests:
        for rows in packer.add(rest):
            write(rows)
    last = packer.finish()
    whole = len(last) - len(last) % row_format.row_size
    if whole:
        write(last[:whole].reshape(-1, row_format.row_size))
    return last[whole:]


def _pieces(split: str, parts: Parts, row_format: RowFormat) -> list[Piece]:
    """Of the document index, by part."""
    pieces = []
    for part, result in parts:
        counts = result.splits[split]
        own_tokens = sum(shard.samples for shard in counts.shards) * row_format.seq_len
        pieces.append(Piece(part / f"{split}.documents.bin", counts.documents, own_tokens))
    return pieces


def _totals(split: str, parts: Parts, shards: Sequence[Shard]) -> dict[str, Any]:
    results = [result for _, result in parts]
    counts = [result.splits[split] for result in results]
    return {
        "samples": sum(shard.samples for shard in shards),
        "documents": sum(count.documents for count in counts),
        "tokens": sum(count.tokens for count in counts),
        "text_bytes": sum(count.text_bytes for count in counts),
        "records": sum(result.records for result in results),
        "empty_records": sum(result.empty for result in results),
        "sources": tuple(Source(path=result.path, bytes=result.bytes, sha256=result.sha256) for result in results),
    }


def _version() -> str:
    try:
        return version("switchpoint")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
