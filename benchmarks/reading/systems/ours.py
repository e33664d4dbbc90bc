"""Switchpoint: PlannedDataset and PlannedSampler in torch's DataLoader, as the trainer builds them, with its defaults.

It verifies a shard by its hash once and marks it; `forget` takes the marks away.
"""

import shutil
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from mixer import ORDER_VERSION, Ledger, Schedule, compiled
from mixer.dataset import PlannedDataset, PlannedSampler, collate, end_with_parent
from mixer.reader import RowReader
from mixer.reading import Reading
from mixer.storage import StoredCorpus, open_corpus
from mixer.storage.ahead import FetchAhead
from mixer.storage.integrity import MARKS
from shards.manifest import FORMAT, INDEX, MANIFEST, Manifest, fingerprint, read_manifest
from shards.mds import RowFormat, Shard, encode_index, shard_name, write_shard
from systems import SEED, SEQ_LEN, VOCABULARY, Loading, Source, link

VERSION = f"{version('switchpoint')}, order {ORDER_VERSION}"
NUM_STEPS = 2_000_000
ROWS = RowFormat(seq_len=SEQ_LEN, dtype="uint16", shard_bytes=1 << 27)  # above any size used here


def prepare(source: Source) -> None:
    for corpus, name in enumerate(source.names):
        rows, folder, size = source.rows_of(corpus), source.place("mds", name), source.shard_rows
        folder.mkdir(parents=True)
        shards = [
            write_shard(folder / shard_name(i), rows[i * size : (i + 1) * size], ROWS)
            for i in range(source.shards[corpus])
        ]
        _describe(folder, shards)


def multiply(source: Source, num_shards: int) -> None:
    folder = source.place("mds", source.names[0])
    [shard] = read_manifest(folder).shards
    for number in range(1, num_shards):
        link(folder / shard_name(0), folder / shard_name(number))
    _describe(folder, [shard] * num_shards)


def _describe(folder: Path, shards: list[Shard]) -> None:
    """Writes the index and the manifest, as conversion does; what a manifest says of texts is left empty."""
    index, samples = encode_index(shards, ROWS), sum(shard.samples for shard in shards)
    sizes = {"seq_len": ROWS.seq_len, "dtype": ROWS.dtype, "shard_bytes": ROWS.shard_bytes}
    manifest = Manifest(
        name=folder.name,
        split="train",
        fingerprint=fingerprint(ROWS, shards),
        samples=samples,
        documents=samples,
        tokens=samples * SEQ_LEN,
        dropped_tokens=0,
        text_bytes=0,
        records=samples,
        empty_records=0,
        parameters={"format": FORMAT, "tokenizer_sha256": "0" * 64, "vocab_size": VOCABULARY, **sizes},
        tokenizer="",
        engine="",
        version=VERSION,
        documents_sha256=None,
        index_sha256=sha256(index).hexdigest(),
        unigram_sha256="",
        shards=tuple(shards),
        sources=(),
    )
    (folder / INDEX).write_bytes(index)
    (folder / MANIFEST).write_bytes(manifest.encode())


def open_loader(source: Source, loading: Loading, state: dict[str, Any] | None = None) -> Iterator[torch.Tensor]:
    dataset = _dataset(source, loading)
    if state is not None:
        dataset.load_state_dict(state)
    for batch in _loader(dataset, loading):
        yield batch["tokens"]


def forget(source: Source) -> None:
    for marks in Path(source.folder).rglob(MARKS):
        shutil.rmtree(marks)


def checkpoint(source: Source, loading: Loading, step: int) -> dict[str, Any]:
    return _dataset(source, loading).state_dict(step * loading.batch, from_beginning=True)


def connect() -> None:
    import streaming  # noqa: F401 - whose downloaders are used, and which a trainer has imported anyway


def settle() -> None:
    compiled.use(compiled.load())


def _loader(dataset: PlannedDataset, loading: Loading) -> DataLoader:
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=PlannedSampler(dataset),
        collate_fn=collate,
        num_workers=loading.num_workers,
        worker_init_fn=end_with_parent,
    )


def _open(source: Source, name: str) -> StoredCorpus:
    if source.remote is None:
        return open_corpus(source.place("mds", name))
    return open_corpus(source.cached(name), remote=source.url("mds", name))


def _dataset(source: Source, loading: Loading) -> PlannedDataset:
    corpora = {name: _open(source, name) for name in source.names}
    rows = RowReader(list(corpora.values()))
    mixture = dict(zip(source.names, source.weights, strict=True))
    schedule = Schedule.from_dict(
        {"phases": [{"start": 0, "mixture": mixture}]},
        num_steps=NUM_STEPS,
        global_batch_size=loading.batch,
        seq_len=SEQ_LEN,
    )
    reading = Reading(
        Ledger(base=schedule),
        {name: corpus.shard_sizes for name, corpus in corpora.items()},
        fingerprints={name: corpus.fingerprint for name, corpus in corpora.items()},
        bases=dict(zip(corpora, rows.bases.tolist(), strict=True)),
        data_seed=SEED,
        shuffle_window=16,
    )
    num_in_flight = 2 * loading.num_workers + 2
    ahead = FetchAhead(rows.cache, reading, source.names, num_steps=50, num_in_flight=num_in_flight)
    return PlannedDataset(rows, reading, ahead, num_buffers=num_in_flight + 1 if loading.num_workers else 0)
