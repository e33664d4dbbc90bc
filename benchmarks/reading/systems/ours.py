"""Switchpoint: PlannedDataset and PlannedSampler in torch's DataLoader, as the trainer builds them."""

import json
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import torch
from torch.utils.data import DataLoader

from mixer import ORDER_VERSION, Ledger, Schedule, compiled
from mixer.dataset import PlannedDataset, PlannedSampler, collate
from mixer.reader import LocalCorpus, RowReader, open_corpus
from mixer.reading import Reading
from shards.mds import RowFormat, encode_index, shard_name, write_shard
from systems import SEED, SEQ_LEN, VOCABULARY, Loading, Source, link

VERSION = f"{version('switchpoint')}, order {ORDER_VERSION}"
NUM_STEPS = 2_000_000


def prepare(source: Source) -> None:
    row_format = RowFormat(seq_len=SEQ_LEN, dtype="uint16", shard_bytes=1 << 27)  # above any size used here
    for corpus, name in enumerate(source.names):
        rows, folder, size = source.rows_of(corpus), source.place("mds", name), source.shard_rows
        folder.mkdir(parents=True)
        shards = [
            write_shard(folder / shard_name(i), rows[i * size : (i + 1) * size], row_format)
            for i in range(source.shards[corpus])
        ]
        (folder / "index.json").write_bytes(encode_index(shards, row_format))


def multiply(source: Source, num_shards: int) -> None:
    folder = source.place("mds", source.names[0])
    index = json.loads((folder / "index.json").read_text())
    [shard] = index["shards"]
    raw, samples = shard["raw_data"], shard["samples"]
    names = [shard_name(number) for number in range(num_shards)]
    for name in names[1:]:
        link(folder / names[0], folder / name)
    shards = [{**shard, "raw_data": {**raw, "basename": name}} for name in names]
    (folder / "index.json").write_text(json.dumps({**index, "shards": shards}, sort_keys=True))
    entry = {"samples": samples, "bytes": raw["bytes"], "sha256": raw["hashes"]["sha256"]}
    lines = [f"uint16 {SEQ_LEN}", *[f"{samples} {entry['sha256']}"] * num_shards]
    manifest = {
        "fingerprint": sha256("\n".join(lines).encode()).hexdigest(),
        "parameters": {"tokenizer_sha256": "0" * 64, "vocab_size": VOCABULARY},
        "shards": [entry] * num_shards,
    }
    (folder / "corpus.json").write_text(json.dumps(manifest, indent=1))


def open_loader(source: Source, loading: Loading, state: dict[str, Any] | None = None) -> Iterator[torch.Tensor]:
    dataset = _dataset(source, loading)
    if state is not None:
        dataset.load_state_dict(state)
    for batch in _loader(dataset, loading):
        yield batch["tokens"]


def checkpoint(source: Source, loading: Loading, step: int) -> dict[str, Any]:
    return _dataset(source, loading).state_dict(step * loading.batch, from_beginning=True)


def settle() -> None:
    compiled.use(compiled.load())


def _loader(dataset: PlannedDataset, loading: Loading) -> DataLoader:
    sampler = PlannedSampler(dataset)
    return DataLoader(
        dataset, batch_size=loading.batch, sampler=sampler, collate_fn=collate, num_workers=loading.num_workers
    )


def _open(source: Source, name: str) -> LocalCorpus:
    if source.remote is not None:
        raise NotImplementedError("not offered: corpora on local disk only")
    return open_corpus(source.place("mds", name))


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
    return PlannedDataset(rows, reading)
