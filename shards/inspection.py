"""Looking into a converted directory: its manifest in words, and rows as text with document borders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import CallError, CorpusError, TokenizerError
from shards.manifest import Manifest, read_manifest
from shards.mds import read_rows, shard_name
from shards.tokenizer import decode, find_tokenizer

__all__ = ["Sample", "inspect", "read_sample", "split_folders"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row as text.

    Attributes:
        sample_id: its place in the directory.
        tokens: its ids `[seq_len]`.
        pieces: texts of the documents in it, in order. The first may have begun in the row before, the last
            may go on in the next; an end-of-text token at the very end leaves an empty last piece.
    """

    sample_id: int
    tokens: NDArray[Any]
    pieces: tuple[str, ...]


def split_folders(folder: Path) -> list[Path]:
    """`folder` itself if it is a split, else the splits in it (`DIR/c4` → train and holdout)."""
    if not folder.is_dir():
        raise CorpusError(f"{folder} is no directory; name one that convert made, like DIR/c4/train", path=str(folder))
    below = [folder / name for name in ("train", "holdout") if (folder / name).is_dir()]
    return below or [folder]


def read_sample(folder: Path, manifest: Manifest, sample_id: int) -> NDArray[Any]:
    """Tokens `[seq_len]` of one sample."""
    if not 0 <= sample_id < manifest.samples:
        raise CallError(f"sample {sample_id} is not in {folder}, which has {manifest.samples} samples, from 0")
    ends = np.cumsum([shard.samples for shard in manifest.shards])
    number = int(np.searchsorted(ends, sample_id, side="right"))
    first = int(ends[number]) - manifest.shards[number].samples
    return np.array(read_rows(folder / shard_name(number), manifest.row_format)[sample_id - first])


def inspect(folder: Path, sample_ids: Sequence[int], *, tokenizer: str | None = None) -> list[Sample]:
    """Samples of the split `folder`, decoded.

    Args:
        folder: a directory with index.json and corpus.json.
        sample_ids: which.
        tokenizer: folder or name; None for the one the manifest names.

    Raises:
        TokenizerError: the tokenizer is not there or not the one of the corpus.
    """
    manifest = read_manifest(folder)
    found = find_tokenizer(tokenizer or manifest.tokenizer)
    if found.sha256 != manifest.parameters["tokenizer_sha256"]:
        raise TokenizerError(
            f"{found.source} is not the tokenizer of {folder} (its hash begins {found.sha256[:12]}, the "
            f"corpus's {manifest.parameters['tokenizer_sha256'][:12]}); name the right one with --tokenizer"
        )
    samples = []
    for sample_id in sample_ids:
        tokens = read_sample(folder, manifest, sample_id)
        borders = np.flatnonzero(tokens == found.eos_id)
        runs = np.split(tokens, np.stack([borders, borders + 1], axis=1).ravel())[::2]
        samples.append(
            Sample(sample_id=sample_id, tokens=tokens, pieces=tuple(decode(found, run.tolist()) for run in runs))
        )
    return samples
