"""`corpus.json`: what a directory of shards is, where it comes from, and how to tell that it is whole.

One file a split, written last. `fingerprint` names the content alone: it depends on the rows and their
order in shards, not on paths, times or machines. `parameters` are everything but the sources that decides
the bytes; two conversions with equal parameters and sources give equal directories.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixer.storage.index import check_seal, seal
from shards.documents import DOCUMENTS
from shards.errors import CorpusError
from shards.mds import BEST_FIT, PACKED, RowFormat, Shard
from shards.part import SKIPPED, PartSettings

__all__ = [
    "DOCUMENTS",
    "FORMAT",
    "INDEX",
    "MANIFEST",
    "SKIPPED",
    "UNIGRAM",
    "Manifest",
    "Source",
    "differences",
    "fingerprint",
    "parameters",
    "read_manifest",
    "read_unigram",
]

FORMAT = 4
"""Version of the bytes a conversion gives; a change of any of them raises it.

Format 1 had no document index, format 2 no hash of the manifest itself, format 3 no units, lengths, nor counts of what
was removed and skipped.
"""

READABLE = (1, 2, 3, FORMAT)

INDEX, MANIFEST, UNIGRAM = "index.json", "corpus.json", "unigram.npy"


@dataclass(frozen=True, kw_only=True)
class Source:
    """An input file as it was named, its size in bytes, and its hash as so many units (`shards.sources.units`)."""

    path: str
    bytes: int
    sha256: str
    units: int = 1


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `corpus.json`.

    Attributes:
        name: of the corpus. split: `train` or `holdout`.
        fingerprint: of the rows (`fingerprint`).
        samples: rows. documents: texts in this split.
        tokens: of all documents, end-of-text tokens included; of packed and best-fit rows, samples x seq_len +
            dropped_tokens - padding_tokens.
        padding_tokens: end-of-text tokens that fill up best-fit rows; neither among `tokens` nor in unigram.npy.
        dropped_tokens: those in no row: fewer than seq_len at the very end, or what examples have beyond seq_len.
        text_bytes: UTF-8 bytes of the documents.
        lengths: how many documents have [2**i, 2**(i+1)) tokens, end-of-text included.
        records: read from the sources, of which `empty_records` had no text, `removed` were taken out by the curation
            step of that name, and `skipped` were bad, by kind, and are listed in `skipped.jsonl` (its hash:
            `skipped_sha256`); sources at fault are counted there too. `raw_bytes`: what was read, unpacked. All of
            these are of the whole corpus.
        parameters: see `parameters`.
        tokenizer: name or folder the tokenizer was asked for by. engine: what encoded.
        version: of the program that wrote it.
        documents_sha256, index_sha256, unigram_sha256: hashes of the files beside it; the first is None in format 1.
        shards: in order, as in `index.json`.
        sources: of the whole corpus, in order.
    """

    name: str
    split: str
    fingerprint: str
    samples: int
    documents: int
    tokens: int
    dropped_tokens: int
    padding_tokens: int = 0
    text_bytes: int
    lengths: tuple[int, ...] = ()
    records: int
    empty_records: int
    removed: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    raw_bytes: int = 0
    parameters: dict[str, Any]
    tokenizer: str
    engine: str
    version: str
    documents_sha256: str | None
    index_sha256: str
    unigram_sha256: str
    skipped_sha256: str | None = None
    shards: tuple[Shard, ...]
    sources: tuple[Source, ...]

    @property
    def row_format(self) -> RowFormat:
        """Rows and shards of this directory."""
        keys = ("seq_len", "dtype", "shard_bytes")
        return RowFormat(
            **{key: self.parameters[key] for key in keys},
            rows=self.parameters.get("rows") or self.parameters.get("packing", PACKED),
            compression=self.parameters.get("compression"),
        )

    def encode(self) -> bytes:
        """The bytes of `corpus.json`, which hold their own hash (see `mixer.storage.index`)."""
        return seal((json.dumps({"manifest_sha256": "0" * 64, **asdict(self)}, indent=1) + "\n").encode())


def parameters(corpus: str, settings: PartSettings, holdout: float, unit_bytes: int) -> dict[str, Any]:
    """What decides the bytes besides the sources, in the form that plans and manifests keep.

    Of packed rows neither "rows" is there nor where prompts end: they are what they were before there were others.
    """
    has_examples = settings.row_format.has_examples
    return {
        "format": FORMAT,
        "corpus": corpus,
        **({"rows": settings.row_format.rows} if has_examples else {}),
        **({"packing": BEST_FIT} if settings.row_format.is_placed else {}),
        **({"compression": settings.row_format.compression} if settings.row_format.compression else {}),
        "template": settings.template.name,
        "alternatives": [text if has_examples else text.replace("{}", "") for text in settings.template.alternatives],
        "tokenizer_sha256": settings.tokenizer.sha256,
        "eos_id": settings.tokenizer.eos_id,
        "vocab_size": settings.tokenizer.vocab_size,
        "seq_len": settings.row_format.seq_len,
        "dtype": settings.row_format.dtype,
        "shard_bytes": settings.row_format.shard_bytes,
        "holdout": holdout,
        "holdout_threshold": settings.holdout_threshold,
        "unit_bytes": unit_bytes,
        "max_record_bytes": settings.max_record_bytes,
    }


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Where two sets of parameters differ, one phrase each."""
    keys = [*there, *(key for key in asked if key not in there)]
    return [
        f"{key} is {there.get(key)} there, {asked.get(key)} asked" for key in keys if there.get(key) != asked.get(key)
    ]


def fingerprint(row_format: RowFormat, shards: Sequence[Shard]) -> str:
    """SHA-256 over the form of the rows and the size and hash of every shard in order."""
    form = f"{row_format.dtype} {row_format.seq_len}" + (f" {row_format.rows}" if row_format.has_examples else "")
    lines = [form, *(f"{s.samples} {s.sha256}" for s in shards)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the directory `folder`.

    Raises:
        CorpusError: there is none, or it is not of this format.
    """
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
        data = json.loads(raw)
        data["shards"] = tuple(Shard(**shard) for shard in data["shards"])
        data["sources"] = tuple(Source(**source) for source in data["sources"])
        data["lengths"] = tuple(data.get("lengths", ()))
        data.setdefault("documents_sha256", None)
        known = {own.name: own for own in fields(Manifest)}
        wanted = [name for name, own in known.items() if own.default is own.default_factory is MISSING or name in data]
        manifest = Manifest(**{name: data[name] for name in wanted})
        found = manifest.parameters["format"]
        if found in READABLE:
            check_seal(raw, found)
        _ = manifest.row_format
    except FileNotFoundError:
        raise CorpusError(
            f"{folder} is no corpus: without {MANIFEST}; name a directory made by convert, like DIR/c4/train",
            path=str(path),
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path} cannot be read: {error!r}", path=str(path)) from None
    if found not in READABLE:
        readable = " and ".join(map(str, READABLE))
        raise CorpusError(f"{path} has format {found}; this version reads {readable}", path=str(path))
    return manifest


def read_unigram(folder: Path) -> NDArray[np.int64]:
    """How often each token stands in the rows of `folder`: `[vocab_size]`, end-of-text included."""
    path = folder / UNIGRAM
    try:
        counts = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CorpusError(f"{path} cannot be read: {error}", path=str(path)) from None
    if counts.dtype != np.int64 or counts.ndim != 1:
        raise CorpusError(f"{path} holds {counts.dtype} {counts.shape}, not int64 counts", path=str(path))
    return np.asarray(counts, np.int64)
