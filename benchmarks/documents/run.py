"""The document index at scale: bytes a document, time and memory to open it, time of a lookup.

    python benchmarks/documents/run.py [--documents 10000000] [--sources 100]

Made-up documents of a log-normal number of tokens (mean 480, as C4), a hundredth of the records left out, as by
`--holdout 0.01`. The index is written as conversion writes it, without shards: it needs none to be asked.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mixer.documents import DocumentIndex, open_documents
from shards.documents import DocumentsWriter, Piece, join

SEQ_LEN = 2048
SHARD_TOKENS = 16_000 * SEQ_LEN
BATCH = 500  # documents that conversion tokenizes at once, about
LOOKUPS = 2000


def write(folder: Path, num_documents: int, num_sources: int) -> float:
    """Write the index and a manifest that fits it; returns the seconds the index took."""
    rng = np.random.default_rng(0)
    pieces, tokens, seconds = [], 0, 0.0
    share = num_documents // num_sources
    for number in range(num_sources):
        lengths = np.maximum(2, rng.lognormal(np.log(480) - 0.5, 1, share).astype(np.int64))
        records = np.cumsum(1 + (rng.random(share) < 0.01))
        start = time.perf_counter()
        writer = DocumentsWriter()
        for first in range(0, share, BATCH):
            writer.add(records[first : first + BATCH], lengths[first : first + BATCH])
        path = folder / f"{number}.piece"
        path.write_bytes(b"".join(writer.finish()))
        seconds += time.perf_counter() - start
        length = int(lengths.sum())
        pieces.append(Piece(path, length - length % SHARD_TOKENS, len(pieces)))
        tokens += length
    start = time.perf_counter()
    (folder / "documents.bin").write_bytes(b"".join(join(pieces)))
    seconds += time.perf_counter() - start
    manifest = {
        "sources": [{"path": f"c4/{number:05}.json.gz"} for number in range(num_sources)],
        "documents": share * num_sources,
        "tokens": tokens,
        "samples": tokens // SEQ_LEN,
        "parameters": {"seq_len": SEQ_LEN},
        "documents_sha256": "",
    }
    (folder / "corpus.json").write_text(json.dumps(manifest))
    return seconds


def measure(what: str, ask: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> None:
    times = []
    for arguments in calls:
        start = time.perf_counter()
        ask(*arguments)
        times.append(time.perf_counter() - start)
    print(f"{what:<42} {np.median(times) * 1e6:8.0f} µs median {np.quantile(times, 0.9) * 1e6:8.0f} µs 90%")


def ask(index: DocumentIndex) -> None:
    rng = np.random.default_rng(1)
    samples = rng.integers(0, index.num_samples, LOOKUPS).tolist()
    documents = [index.document(number) for number in rng.integers(0, index.num_documents, LOOKUPS).tolist()]
    measure("in_sample, anywhere", index.in_sample, ((sample_id,) for sample_id in samples))
    measure("in_sample, one after another", index.in_sample, ((samples[0] + i,) for i in range(LOOKUPS)))
    measure("find, anywhere", index.find, ((one.source, one.record) for one in documents))
    measure("samples_of a document", index.samples_of, ((one,) for one in documents))
    spans = ((one.source, one.record, one.record + 10_000) for one in documents)
    measure("samples_of_span of 10,000 records, anywhere", index.samples_of_span, spans)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the document index.", epilog=__doc__)
    parser.add_argument("--documents", type=int, default=10_000_000)
    parser.add_argument("--sources", type=int, default=100)
    arguments = parser.parse_args()
    machine = f"{os.cpu_count()} CPUs ({platform.machine()}), load {os.getloadavg()[0]:.1f} before"
    print(f"{machine}, Python {platform.python_version()}, NumPy {np.__version__}")
    with tempfile.TemporaryDirectory() as name:
        seconds = write(Path(name), arguments.documents, arguments.sources)
        tracemalloc.start()
        index = open_documents(name)
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        size = f"{index.num_bytes / 1e6:.1f} MB, {index.num_bytes / index.num_documents:.2f} bytes a document"
        print(
            f"{index.num_documents:,} documents in {arguments.sources:,} sources, {index.num_samples:,} samples: {size}"
        )
        print(f"written at {seconds / index.num_documents * 1e9:.0f} ns a document")
        start = time.perf_counter()
        open_documents(name)
        seconds = time.perf_counter() - start
        print(f"opened in {seconds * 1e3:.1f} ms; {kept / 1e3:.0f} kB kept, {peak / 1e3:.0f} kB peak")
        ask(index)


if __name__ == "__main__":
    main()
