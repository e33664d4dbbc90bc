"""Reading rows from local MDS shards: map a shard once, view it as an array, gather the rows of a batch.

A shard whose only column is a fixed-size array (`tokens: ndarray:uint16:2048`) is: uint32 number of samples, uint32
offsets [num_samples + 1], the column description as JSON, then the rows one after the other. So its rows are one
[num_samples, seq_len] array, and reading is indexing. Standard library and NumPy only.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixer.errors import CorpusError, ShardError

MAX_MAPPED_SHARDS = 1024  # an open mapping costs a file descriptor and address space, not memory

_I64 = NDArray[np.int64]
_ENCODING = re.compile(r"ndarray:(uint16|uint32|int32|int64):(\d+)")


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalCorpus:
    """One corpus on local disk. `shard_sizes` [num_shards] in samples; `fingerprint` names its content.

    `tokenizer` (a hash), `vocab_size` and `shard_hashes` are what the manifest says, None without one.
    """

    path: Path
    shard_paths: tuple[Path, ...]
    shard_bytes: tuple[int, ...]
    shard_sizes: _I64
    seq_len: int
    dtype: np.dtype[Any]
    fingerprint: str
    tokenizer: str | None = None
    vocab_size: int | None = None
    shard_hashes: tuple[str, ...] | None = None

    def fingerprint_of(self, num_shards: int) -> str | None:
        """The fingerprint that the first `num_shards` shards had, before the corpus grew, if the manifest tells."""
        if self.shard_hashes is None or num_shards > len(self.shard_hashes):
            return None
        shards = zip(self.shard_sizes.tolist(), self.shard_hashes[:num_shards], strict=False)
        lines = [f"{self.dtype.name} {self.seq_len}", *(f"{samples} {digest}" for samples, digest in shards)]
        return sha256("\n".join(lines).encode()).hexdigest()

    @property
    def num_samples(self) -> int:
        return int(self.shard_sizes.sum())

    def map_shard(self, shard: int) -> NDArray[Any]:
        """The rows of a shard, [num_samples, seq_len], mapped from disk. Raises ShardError unless it is as indexed."""
        path, wanted = self.shard_paths[shard], self.shard_bytes[shard]
        try:
            data = np.memmap(path, mode="r", dtype=np.uint8)
        except (OSError, ValueError) as error:
            raise ShardError(f"cannot read shard {path}: {error}; fetch or convert it again", path=str(path)) from error
        if len(data) != wanted:
            raise ShardError(
                f"shard {path} has {len(data)} bytes, its index says {wanted}: "
                "truncated or replaced; fetch or convert it again",
                path=str(path),
            )
        samples, row_bytes = int(self.shard_sizes[shard]), self.seq_len * self.dtype.itemsize
        header = data[: 4 * (samples + 2)].view("<u4")
        if header[0] != samples or int(header[-1]) - int(header[1]) != samples * row_bytes or header[-1] != wanted:
            raise ShardError(
                f"shard {path} does not hold {samples} rows of {row_bytes} bytes: corrupt; fetch or convert it again",
                path=str(path),
            )
        return np.ndarray((samples, self.seq_len), self.dtype, data, offset=int(header[1]))


def open_corpus(path: str | Path) -> LocalCorpus:
    """Read the index of the MDS directory at `path`. Raises CorpusError with what is wrong and what to do."""
    path = Path(path)
    index = _load_json(path / "index.json")
    if index is None:
        raise CorpusError(
            f"no corpus at {path}: there is no index.json; make it with 'switchpoint-shards convert'",
            path=str(path),
        )
    shards = index.get("shards")
    if not isinstance(shards, list) or not shards:
        raise CorpusError(
            f"{path / 'index.json'} lists no shards, the split is empty: convert more input, or a larger --holdout",
            path=str(path),
        )
    encodings = {tuple(map(str, shard.get("column_encodings", ()))) for shard in shards}
    match = _ENCODING.fullmatch(next(iter(encodings))[0]) if len(encodings) == 1 and len(min(encodings)) == 1 else None
    if match is None:
        found = ", ".join(sorted("+".join(encoding) for encoding in encodings))
        raise CorpusError(
            f"{path}: expected shards with the one column ndarray:uint16:<seq_len> (or uint32), found {found}",
            path=str(path),
        )
    raw = [shard.get("raw_data") or {} for shard in shards]
    names = [str(data.get("basename", "")) for data in raw]
    if bad := [name for name in names if not name or Path(name).is_absolute() or ".." in Path(name).parts]:
        raise CorpusError(
            f"{path / 'index.json'}: '{bad[0]}' is not the name of a shard in this folder", path=str(path)
        )
    manifest = _load_json(path / "corpus.json") or {}
    parameters = manifest.get("parameters", {})
    return LocalCorpus(
        path=path,
        shard_paths=tuple(path / name for name in names),
        shard_bytes=tuple(int(data["bytes"]) for data in raw),
        shard_sizes=np.array([shard["samples"] for shard in shards], np.int64),
        seq_len=int(match[2]),
        dtype=np.dtype(match[1]).newbyteorder("<"),
        fingerprint=manifest.get("fingerprint") or sha256((path / "index.json").read_bytes()).hexdigest(),
        tokenizer=parameters.get("tokenizer_sha256"),
        vocab_size=parameters.get("vocab_size"),
        shard_hashes=tuple(str(shard["sha256"]) for shard in manifest["shards"]) if "shards" in manifest else None,
    )


class RowReader:
    """Gathers rows of several corpora. An address is a row's number, counted through all corpora in the order given.

    Raises CorpusError if the corpora differ in sequence length. Corpora of different integer widths are read into the
    wider.
    """

    def __init__(self, corpora: Sequence[LocalCorpus]) -> None:
        if len(lengths := {corpus.seq_len for corpus in corpora}) != 1:
            found = ", ".join(f"{corpus.path}: {corpus.seq_len}" for corpus in corpora)
            raise CorpusError(
                f"corpora of one run share one sequence length, found {sorted(lengths)} ({found})", path=""
            )
        self.corpora = tuple(corpora)
        self.seq_len = corpora[0].seq_len
        self.dtype = max((corpus.dtype for corpus in corpora), key=lambda dtype: dtype.itemsize)
        sizes = np.concatenate([corpus.shard_sizes for corpus in corpora])
        self._starts = np.concatenate([[0], np.cumsum(sizes)])  # address of the first row of each shard
        self._shards = [(corpus, shard) for corpus in corpora for shard in range(len(corpus.shard_sizes))]
        self.bases = np.concatenate([[0], np.cumsum([corpus.num_samples for corpus in corpora])])[:-1]
        self._open()

    def read(self, addresses: Sequence[int] | _I64) -> NDArray[Any]:
        """Rows at `addresses` [n], in their order: a new array [n, seq_len]."""
        wanted = np.asarray(addresses, np.int64)
        rows = np.empty((len(wanted), self.seq_len), self.dtype)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < self._starts[-1]):
            raise IndexError(f"addresses go from 0 to {self._starts[-1] - 1}, found {wanted.min()} to {wanted.max()}")
        shard_of = np.searchsorted(self._starts, wanted, side="right") - 1
        by_shard = np.argsort(shard_of, kind="stable")
        borders = np.flatnonzero(np.diff(shard_of[by_shard])) + 1
        for places in np.split(by_shard, borders) if len(wanted) else ():
            shard = int(shard_of[places[0]])
            rows[places] = self._rows(shard)[wanted[places] - self._starts[shard]]
        return rows

    def corpus_of(self, addresses: Sequence[int] | _I64) -> _I64:
        """Which corpus, by its place in the order given, each address [n] lies in."""
        corpus: _I64 = np.searchsorted(self.bases, np.asarray(addresses, np.int64), side="right") - 1
        return corpus

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_rows"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def _open(self) -> None:
        self._rows = lru_cache(maxsize=MAX_MAPPED_SHARDS)(self._map)

    def _map(self, shard: int) -> NDArray[Any]:
        corpus, index = self._shards[shard]
        return corpus.map_shard(index)


def _load_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CorpusError(f"cannot read {path}: {error}", path=str(path)) from error
    if not isinstance(value, dict):
        raise CorpusError(f"{path} is not a JSON object", path=str(path))
    return value
