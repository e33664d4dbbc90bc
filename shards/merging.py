"""Merging: the folders of all parts become the directories of the corpus.

Shards are moved, not copied. Every step gives the same result when it is done again, so a merge may be
stopped at any point and started anew: a shard that is not in its part any more has been moved already,
and what is written is a function of files that stay until the corpus is published. The manifest of a split
is its last file.
"""

from __future__ import annotations

import hashlib
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
    parts = [part for folder in part_folders if (part := read_part(folder)) is not None]
    assert len(parts) == len(part_folders)
    manifests = []
    for split in recipe.splits:
        folder = out / split
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        shards = _move_shards(split, part_folders, parts, folder)
        rests = (np.load(part / f"{split}.rest.npy", mmap_mode="r") for part in part_folders)
        dropped = _write_rests(rests, folder, recipe.row_format, shards=shards)
        unigram = sum(np.load(part / f"{split}.unigram.npy") for part in part_folders)
        unigram -= np.bincount(dropped, minlength=len(unigram))
        index, counts = encode_index(shards, recipe.row_format), encode_array(unigram)
        write_file(folder / INDEX, index)
        write_file(folder / UNIGRAM, counts)
        manifest = Manifest(
            name=name,
            split=split,
            shards=tuple(shards),
            dropped_tokens=len(dropped),
            fingerprint=fingerprint(recipe.row_format, shards),
            parameters=dict(parameters),
            tokenizer=recipe.tokenizer.source,
            engine=recipe.tokenizer.engine,
            version=_version(),
            documents_sha256=_write_documents(split, part_folders, parts, folder, recipe.row_format),
            index_sha256=hashlib.sha256(index).hexdigest(),
            unigram_sha256=hashlib.sha256(counts).hexdigest(),
            **_totals(split, parts, shards),
        )
        if not shards:
            logging.getLogger(__name__).warning(
                "%s is empty: its %d tokens fill no row of %d; give more input or another --holdout",
                split,
                manifest.tokens,
                recipe.row_format.seq_len,
            )
        write_file(folder / MANIFEST, manifest.encode())
        manifests.append(manifest)
    return tuple(manifests)


def _move_shards(split: str, part_folders: Sequence[Path], parts: Sequence[PartResult], folder: Path) -> list[Shard]:
    shards: list[Shard] = []
    for part, result in zip(part_folders, parts, strict=True):
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
    packer = RowPacker(seq_len=row_format.seq_len, num_rows=row_format.rows_per_shard, dtype=row_format.dtype)

    def write(rows: NDArray[Any]) -> None:
        shards.append(write_shard(folder / shard_name(len(shards)), rows, row_format))

    for rest in rests:
        for rows in packer.add(rest):
            write(rows)
    last = packer.finish()
    whole = len(last) - len(last) % row_format.seq_len
    if whole:
        write(last[:whole].reshape(-1, row_format.seq_len))
    return last[whole:]


def _write_documents(
    split: str, part_folders: Sequence[Path], parts: Sequence[PartResult], folder: Path, row_format: RowFormat
) -> str:
    """Write the joined document index; returns the SHA-256 of its bytes."""
    pieces = []
    for part, result in zip(part_folders, parts, strict=True):
        counts = result.splits[split]
        own_tokens = sum(shard.samples for shard in counts.shards) * row_format.seq_len
        pieces.append(Piece(part / f"{split}.documents.bin", counts.documents, own_tokens))
    write_chunks(folder / DOCUMENTS, join(pieces))
    return identify(folder / DOCUMENTS).sha256


def _totals(split: str, parts: Sequence[PartResult], shards: Sequence[Shard]) -> dict[str, Any]:
    counts = [part.splits[split] for part in parts]
    return {
        "samples": sum(shard.samples for shard in shards),
        "documents": sum(count.documents for count in counts),
        "tokens": sum(count.tokens for count in counts),
        "text_bytes": sum(count.text_bytes for count in counts),
        "records": sum(part.records for part in parts),
        "empty_records": sum(part.empty for part in parts),
        "sources": tuple(Source(path=part.path, bytes=part.bytes, sha256=part.sha256) for part in parts),
    }


def _version() -> str:
    try:
        return version("switchpoint")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
