"""What a corpus's folder holds: its index.json (MDS) and corpus.json (the manifest that conversion writes).

    corpus = open_corpus("data/c4/train")
    corpus = open_corpus("/nvme/cache/c4", remote="s3://bucket/c4/train")    # the folder is a cache of the remote one

With a manifest everything is checked against it: it has a hash of itself, of the index, and of every shard. A folder
without one (written by another program) is known by its index, and is verified as far as that has hashes.
"""

import json
import logging
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixer.errors import CacheError, CorpusError, FetchError
from mixer.storage.integrity import choose_digest
from mixer.storage.locks import INDEX_LOCK, Locks
from mixer.storage.remote import FETCHING, FULL, Remote, make_empty

INDEX, MANIFEST = "index.json", "corpus.json"
SEALED_SINCE = 3  # format of manifests that have a hash of themselves

_I64 = NDArray[np.int64]
EXAMPLES = "examples"  # what a manifest's parameters have under "rows" where a row is one example, not packed text
EXAMPLE_COUNTS = ("num_prompt_tokens", "num_tokens")  # before the tokens of such a row, in their integer type
_FIXED = re.compile(r"ndarray:(uint16|uint32|int32|int64):(\d+)")
_SEAL = re.compile(rb'"manifest_sha256": "([0-9a-f]{64})"')

_log = logging.getLogger(__name__)


class Zipped(NamedTuple):
    """The compressed form of a shard: file name, bytes, digest (see `integrity`) and algorithm ("zstd:3")."""

    name: str
    num_bytes: int
    digest: str | None
    algorithm: str


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredCorpus:
    """One corpus. Of each shard, in order: file name, bytes and samples [num_shards], digest; `zipped` if it has one.

    Rows are `seq_len` integers of `dtype`; or examples: two counts (`EXAMPLE_COUNTS`) and so many integers, the first
    `num_tokens` of them the example and the rest filling. Where rows are not of one size (documents, other columns),
    `columns` name → MDS encoding says what a record is, and there is neither. `fingerprint` names the content.
    `tokenizer` (a hash), `vocab_size`, `eos_id` (ends a document) and `has_manifest` come from the manifest.
    """

    path: Path
    remote: Remote | None = None
    shard_names: Sequence[str]
    shard_bytes: _I64
    shard_sizes: _I64
    digests: Sequence[str | None]
    zipped: Sequence[Zipped | None] | None = None
    columns: Mapping[str, str]
    fingerprint: str
    tokenizer: str | None = None
    vocab_size: int | None = None
    eos_id: int | None = None
    has_manifest: bool = False

    @property
    def num_samples(self) -> int:
        return int(self.shard_sizes.sum())

    @property
    def has_fixed_rows(self) -> bool:
        """Whether every row is of the same number of integers of one type, as `RowReader` wants it."""
        return self._match() is not None

    @property
    def has_examples(self) -> bool:
        """Whether a row is one example, filled up, and says how much of it is prompt (see above)."""
        return len(self.columns) > 1 and self.has_fixed_rows

    @property
    def seq_len(self) -> int:
        """Tokens of a row, filling included. Raises CorpusError where rows are not of one size."""
        return int(self._fixed()[2])

    @property
    def row_size(self) -> int:
        """Integers of a row: its tokens, and the counts before them of an example. Raises as `seq_len` does."""
        return self.seq_len + len(self.columns) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The integers of a row. Raises CorpusError where rows are not of one size."""
        return np.dtype(self._fixed()[1]).newbyteorder("<")

    def shard_path(self, shard: int) -> Path:
        return self.path / self.shard_names[shard]

    def fingerprint_of(self, num_shards: int) -> str | None:
        """The fingerprint that the first `num_shards` shards had, before the corpus grew, if the manifest tells."""
        if not self.has_manifest or num_shards > len(self.digests):
            return None
        digests = [str(digest).removeprefix("sha256:") for digest in self.digests[:num_shards]]
        form = f"{self.dtype.name} {self.seq_len}" + (f" {EXAMPLES}" if self.has_examples else "")
        return _fingerprint(form, self.shard_sizes.tolist(), digests)

    def _match(self) -> re.Match[str] | None:
        """The encoding of the tokens, where beside them a row has nothing, or the counts of an example."""
        *counts, (_, encoding) = self.columns.items() or [("", "")]
        match = _FIXED.fullmatch(encoding)
        if match and counts and tuple(counts) != tuple((name, match[1]) for name in EXAMPLE_COUNTS):
            return None
        return match

    def _fixed(self) -> re.Match[str]:
        match = self._match()
        if match is None:
            found = ", ".join(f"{name}: {encoding}" for name, encoding in self.columns.items())
            raise CorpusError(
                f"{self.path}: expected shards with the one column ndarray:uint16:<seq_len> (or uint32), found {found}",
                path=str(self.path),
            )
        return match


def open_corpus(path: str | Path, remote: str | Remote | None = None) -> StoredCorpus:
    """Read what the MDS folder at `path` holds, or the folder that it is a cache of: `remote`, as in s3://bucket/c4.

    Raises CorpusError with what is wrong and what to do: FetchError where the remote folder cannot be reached and was
    not before, CacheError where the local one cannot be written.
    """
    path = Path(path)
    source = Remote(remote) if isinstance(remote, str) else remote
    if source is not None:
        _refresh(path, source)
    index = _read(path / INDEX)
    if index is None:
        raise CorpusError(
            f"no corpus at {path}: there is no index.json; make it with 'switchpoint-shards convert'", path=str(path)
        )
    manifest = _read(path / MANIFEST)
    if manifest is not None:
        return _by_manifest(path, source, index, manifest)
    return _by_index(path, source, index)


def shard_name(number: int) -> str:
    """File name of the shard `number`, from 0, as MDS writers give it."""
    return f"shard.{number:05}.mds"


def seal(manifest: bytes) -> bytes:
    """A manifest that holds `"manifest_sha256": "000…"`, with its own hash there: of all its bytes but these."""
    return manifest.replace(b"0" * 64, sha256(manifest).hexdigest().encode(), 1)


def _by_manifest(path: Path, remote: Remote | None, index: bytes, raw: bytes) -> StoredCorpus:
    """The corpus that a manifest describes. The index is only compared by its hash: it can have many megabytes."""
    manifest = _parse(path / MANIFEST, raw)
    try:
        parameters = manifest["parameters"]
        check_seal(raw, int(parameters["format"]))
        shards = manifest["shards"]
        sizes, num_bytes = ([int(shard[key]) for shard in shards] for key in ("samples", "bytes"))
        digests = [str(shard["sha256"]) for shard in shards]
        dtype, seq_len = str(parameters["dtype"]), int(parameters["seq_len"])
        rows = parameters.get("rows")
        named, index_sha256 = str(manifest["fingerprint"]), str(manifest["index_sha256"])
        tokenizer, vocab_size = parameters["tokenizer_sha256"], parameters["vocab_size"]
        zipped = _zipped_by_manifest(shards) if parameters.get("compression") else None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CorpusError(
            f"{path / MANIFEST} is not a whole manifest ({error or type(error).__name__}): {_mend(remote)}",
            path=str(path),
        ) from error
    if not shards:
        raise _empty(path)
    form = f"{dtype} {seq_len}" + (f" {rows}" if rows else "")
    if _fingerprint(form, sizes, digests) != named:
        raise CorpusError(
            f"{path / MANIFEST}: its fingerprint is not that of the shards it lists: {_mend(remote)}", path=str(path)
        )
    if sha256(index).hexdigest() != index_sha256:
        raise CorpusError(
            f"{path / INDEX} is not the index of the manifest beside it (SHA-256 {sha256(index).hexdigest()[:12]}…, "
            f"not {index_sha256[:12]}…): {_mend(remote)}",
            path=str(path),
        )
    return StoredCorpus(
        path=path,
        remote=remote,
        shard_names=[shard_name(number) for number in range(len(shards))],
        shard_bytes=np.array(num_bytes, np.int64),
        shard_sizes=np.array(sizes, np.int64),
        digests=[f"sha256:{digest}" for digest in digests],
        zipped=zipped,
        columns=(dict.fromkeys(EXAMPLE_COUNTS, dtype) if rows else {}) | {"tokens": f"ndarray:{dtype}:{seq_len}"},
        fingerprint=named,
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        eos_id=parameters.get("eos_id"),
        has_manifest=True,
    )


def _zipped_by_manifest(shards: Sequence[Mapping[str, Any]]) -> list[Zipped]:
    return [
        Zipped(f"{shard_name(n)}.zstd", int(s["zip_bytes"]), f"sha256:{s['zip_sha256']}", "zstd")
        for n, s in enumerate(shards)
    ]


def _by_index(path: Path, remote: Remote | None, raw: bytes) -> StoredCorpus:
    shards = _parse(path / INDEX, raw).get("shards")
    if not isinstance(shards, list) or not shards:
        raise _empty(path)
    try:
        columns = [dict(zip(s["column_names"], s["column_encodings"], strict=True)) for s in shards]
        sizes = np.array([int(s["samples"]) for s in shards], np.int64)
        num_bytes = np.array([int(s["raw_data"]["bytes"]) for s in shards], np.int64)
        names, digests = zip(*(_file(path, s, "raw_data") for s in shards), strict=True)
        zipped = [_zipped(path, s) for s in shards]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CorpusError(
            f"{path / INDEX} does not list shards as MDS does ({error!r}): {_mend(remote)}", path=str(path)
        ) from error
    if any(column != columns[0] for column in columns) or sizes.min() < 0:
        found = sorted({"+".join(map(str, column.values())) for column in columns})
        raise CorpusError(f"{path}: expected shards that all have the same columns, found {found}", path=str(path))
    every_name = [*names, *(packed.name for packed in zipped if packed)]
    if repeated := [name for name, count in Counter(every_name).items() if count > 1]:
        raise CorpusError(f"{path / INDEX} lists {repeated[0]} more than once: {_mend(remote)}", path=str(path))
    if None in digests and any(digests):
        raise CorpusError(
            f"{path / INDEX} has hashes of other shards, but none of {names[digests.index(None)]}: {_mend(remote)}",
            path=str(path),
        )
    corpus = StoredCorpus(
        path=path,
        remote=remote,
        shard_names=names,
        shard_bytes=num_bytes,
        shard_sizes=sizes,
        digests=digests,
        zipped=zipped if any(zipped) else None,
        columns={str(name): str(encoding) for name, encoding in columns[0].items()},
        fingerprint=sha256(raw).hexdigest(),
    )
    _check_sizes(corpus, shards)
    return corpus


def _check_sizes(corpus: StoredCorpus, shards: Sequence[Mapping[str, Any]]) -> None:
    """Raises CorpusError where a shard of so many bytes cannot hold the rows that the index says: see `mapping`.

    What is not rows and offsets describes the columns: in as many bytes in all shards of one description.
    """
    if not corpus.num_samples:
        raise _empty(corpus.path)
    if not corpus.has_fixed_rows:
        return
    row_bytes, known = corpus.row_size * corpus.dtype.itemsize, dict[str, int]()
    for shard, samples, num_bytes in zip(shards, corpus.shard_sizes.tolist(), corpus.shard_bytes.tolist(), strict=True):
        rest = num_bytes - 4 * (samples + 2) - samples * row_bytes
        description = str([shard[key] for key in sorted(shard) if key not in ("samples", "raw_data", "zip_data")])
        if row_bytes == 0 or rest <= 0 or known.setdefault(description, rest) != rest:
            raise CorpusError(
                f"{corpus.path / INDEX}: {shard['raw_data']['basename']} cannot hold {samples} rows of {row_bytes} "
                f"bytes in {num_bytes}: {_mend(corpus.remote)}",
                path=str(corpus.path),
            )


def _file(path: Path, shard: Mapping[str, Any], form: str) -> tuple[str, str | None]:
    """Name and digest of the file of a shard that an index lists; `form` is "raw_data" or "zip_data"."""
    name, digest = str(shard[form]["basename"]), choose_digest(shard[form].get("hashes"))
    if Path(name).name != name or name.startswith(".") or name in ("", INDEX, MANIFEST):
        raise CorpusError(f"{path / INDEX}: '{name}' is not the name of a shard in this folder", path=str(path))
    if digest is None and (said := shard.get("hashes")):
        raise CorpusError(f"{path / INDEX} says that {name} has a hash ({said}), which it lacks", path=str(path))
    return name, digest


def _zipped(path: Path, shard: Mapping[str, Any]) -> Zipped | None:
    if not shard.get("zip_data"):
        return None
    name, digest = _file(path, shard, "zip_data")
    return Zipped(name, int(shard["zip_data"]["bytes"]), digest, str(shard["compression"]))


def _refresh(path: Path, remote: Remote) -> None:
    """Fetch index and manifest again. Shards of another version that lie there will not pass their verification."""
    fresh = path / FETCHING / INDEX
    try:
        path.mkdir(parents=True, exist_ok=True)
        with Locks(path).holding(INDEX_LOCK):
            make_empty(fresh)
            try:
                _refresh_in(fresh, path, remote)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        elsewhere = "name a folder that can be written as 'local', or leave 'remote' out if the corpus is there already"
        remedy = "make room there" if error.errno in FULL else elsewhere
        raise CacheError(f"cannot keep {remote.url} in {path}: {error.strerror}; {remedy}", path=str(path)) from error


def _refresh_in(fresh: Path, path: Path, remote: Remote) -> None:
    before = _read(path / INDEX)
    try:
        found = {name: _fetched(remote, name, fresh / name) for name in (MANIFEST, INDEX)}
    except FetchError as error:
        if error.missing or before is None:
            raise
        _log.warning("%s; going on with what %s holds", error, path)
        return
    if before is not None and before != found[INDEX]:
        _log.warning("%s holds another version of %s: shards are fetched again as needed", path, remote.url)
    changed = {name: content for name, content in found.items() if content != _read(path / name)}
    for name, content in changed.items():  # all of it is on disk before any of it counts
        (fresh / name).write_bytes(content or b"")
    for name, content in changed.items():
        if content is None:
            (path / name).unlink()
        else:
            (fresh / name).replace(path / name)


def _fetched(remote: Remote, name: str, target: Path) -> bytes | None:
    """The bytes of a remote file, None if there is none."""
    try:
        remote.fetch(name, target)
    except FetchError as error:
        if error.missing and name == MANIFEST:
            return None
        raise
    content = target.read_bytes()
    target.unlink()
    return content


def check_seal(raw: bytes, format_number: int) -> None:
    """Raises ValueError unless a manifest of this format has the hash of itself; the first formats had none."""
    found = _SEAL.search(raw)
    if found is None and format_number >= SEALED_SINCE:
        raise ValueError("it lacks its own hash")
    if found is not None and seal(raw.replace(found[1], b"0" * 64, 1)) != raw:
        raise ValueError("its bytes have changed")


def _fingerprint(form: str, sizes: Sequence[int], digests: Sequence[str]) -> str:
    lines = [form, *(f"{size} {digest}" for size, digest in zip(sizes, digests, strict=False))]
    return sha256("\n".join(lines).encode()).hexdigest()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror}", path=str(path)) from error


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise CorpusError(f"cannot read {path}: {error}", path=str(path)) from error
    if not isinstance(value, dict):
        raise CorpusError(f"{path} is not a JSON object", path=str(path))
    return value


def _empty(path: Path) -> CorpusError:
    return CorpusError(
        f"{path / INDEX} lists no shards, the split is empty: convert more input, or a larger --holdout", path=str(path)
    )


def _mend(remote: Remote | None) -> str:
    return "convert the corpus again, or copy it anew" if remote is None else f"look at {remote.url}"
