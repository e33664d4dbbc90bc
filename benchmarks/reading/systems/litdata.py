"""LitData: six StreamingDatasets with TokensLoader in a CombinedStreamingDataset, in its StreamingDataLoader.

Its defaults, with shuffle on; its files are written by its own `optimize`, in chunks of as many rows as our shards.
Its client of S3 takes no endpoint without TLS: the option that allows it is set here, as there is none of its own.
"""

import json
import os
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from typing import Any

os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"

import torch
from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset, TokensLoader, optimize
from litdata.streaming import downloader

from systems import SEED, SEQ_LEN, Loading, Source, link

VERSION = version("litdata")


def prepare(source: Source) -> None:
    for corpus, name in enumerate(source.names):
        optimize(
            fn=partial(_rows, source, corpus),
            inputs=list(range(source.shards[corpus])),
            output_dir=str(source.place("litdata", name)),
            chunk_size=source.shard_rows * SEQ_LEN,
            item_loader=TokensLoader(),
            num_workers=1,
            verbose=False,
        )


def multiply(source: Source, num_shards: int) -> None:
    folder = source.place("litdata", source.names[0])
    index = json.loads((folder / "index.json").read_text())
    [chunk] = index["chunks"]
    names = [chunk["filename"], *(f"chunk-0-{number}.bin" for number in range(1, num_shards))]
    for name in names[1:]:
        link(folder / names[0], folder / name)
    chunks = [{**chunk, "filename": name} for name in names]
    (folder / "index.json").write_text(json.dumps({**index, "chunks": chunks}))


def open_loader(source: Source, loading: Loading, state: dict[str, Any] | None = None) -> Iterator[torch.Tensor]:
    loader = _loader(source, loading)
    if state is not None:
        loader.load_state_dict(state)
    while True:  # an epoch ends with the first corpus that does
        for batch in loader:
            if len(batch) == loading.batch:
                yield batch


def checkpoint(source: Source, loading: Loading, step: int) -> dict[str, Any]:
    """What it saves at the start, with the epoch and the samples of that step in place of those."""
    state = _loader(source, loading).state_dict()
    sizes = [n * source.shard_rows for n in source.shards]
    epoch_size = int(min(size / weight for size, weight in zip(sizes, source.weights, strict=True)))
    epoch, sample = divmod(step * loading.batch, epoch_size)
    counts = [int(weight * sample) for weight in source.weights]
    for corpus, count in enumerate(counts):
        own = {"num_samples_yielded": count, "sample_in_epoch": count, "current_epoch": epoch + 1}
        state["dataset"][str(corpus)].update(own)
    return {**state, "current_epoch": epoch + 1, "num_samples_yielded": {0: counts}}


def _rows(source: Source, corpus: int, shard: int) -> Iterator[torch.Tensor]:
    size = source.shard_rows
    for row in source.rows_of(corpus)[shard * size : (shard + 1) * size]:
        yield torch.from_numpy(row.copy())


def _loader(source: Source, loading: Loading) -> StreamingDataLoader:
    datasets = []
    for name in source.names:
        folder, options = str(source.place("litdata", name)), {}
        if source.remote is not None:
            folder = source.url("litdata", name)
            downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True
            options = {"cache_dir": str(source.cached(name)), "storage_options": {"endpoint_url": source.endpoint}}
        loader = TokensLoader(block_size=SEQ_LEN)
        datasets.append(StreamingDataset(folder, item_loader=loader, shuffle=True, seed=SEED, **options))
    combined = CombinedStreamingDataset(datasets, seed=SEED, weights=source.weights, iterate_over_all=False)
    return StreamingDataLoader(combined, batch_size=loading.batch, num_workers=loading.num_workers)
