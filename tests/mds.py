"""Small MDS folders for tests: shards by streaming's own writer, and a manifest as conversion writes it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from mixer.storage.index import seal


def write_shards(folder: Path, rows: np.ndarray, *, rows_a_shard: int = 20, **options: Any) -> Path:
    """An MDS folder with these rows [n, seq_len]; `options` as `streaming.MDSWriter` has them, like compression."""
    from streaming import MDSWriter

    columns = {"tokens": f"ndarray:{rows.dtype.name}:{rows.shape[1]}"}
    size_limit = rows_a_shard * (rows[0].nbytes + 4) + 400
    options = {"hashes": ["sha256"], **options}
    with MDSWriter(out=str(folder), columns=columns, size_limit=size_limit, **options) as writer:
        for row in rows:
            writer.write({"tokens": row})
    return folder


def write_manifest(folder: Path, **parameters: Any) -> None:
    """The manifest of an uncompressed MDS folder; `parameters` replace those it has."""
    index = json.loads((folder / "index.json").read_bytes())
    _, dtype, seq_len = index["shards"][0]["column_encodings"][0].split(":")
    shards = [
        {"samples": shard["samples"], "bytes": shard["raw_data"]["bytes"], "sha256": _sha256(folder, shard)}
        for shard in index["shards"]
    ]
    lines = [f"{dtype} {seq_len}", *(f"{shard['samples']} {shard['sha256']}" for shard in shards)]
    manifest = {
        "manifest_sha256": "0" * 64,
        "fingerprint": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "parameters": {
            "format": 3, "tokenizer_sha256": None, "vocab_size": None, "dtype": dtype, "seq_len": int(seq_len),
            **parameters,
        },
        "index_sha256": hashlib.sha256((folder / "index.json").read_bytes()).hexdigest(),
        "shards": shards,
    }  # fmt: skip
    (folder / "corpus.json").write_bytes(seal(json.dumps(manifest, indent=1).encode()))


def _sha256(folder: Path, shard: dict[str, Any]) -> str:
    return hashlib.sha256((folder / shard["raw_data"]["basename"]).read_bytes()).hexdigest()
