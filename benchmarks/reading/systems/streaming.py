"""mosaicml-streaming: a StreamingDataset of six Streams with `proportion`, in its StreamingDataLoader.

Its defaults, with shuffle on. It reads the same MDS files as ours.
"""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch
from streaming import Stream, StreamingDataLoader, StreamingDataset

from systems import SEED, Loading, Source

VERSION = version("mosaicml-streaming")


def open_loader(source: Source, loading: Loading, state: dict[str, Any] | None = None) -> Iterator[torch.Tensor]:
    loader = _loader(source, loading)
    if state is not None:
        loader.load_state_dict(state)
    while True:
        for batch in loader:
            yield batch["tokens"]


def checkpoint(source: Source, loading: Loading, step: int) -> dict[str, Any]:
    """What it saves at the start, with epoch and sample of that step in place of those."""
    loader = _loader(source, loading)
    epoch, sample = divmod(step * loading.batch, loader.dataset.epoch_size)
    return {**loader.state_dict(), "epoch": epoch, "sample_in_epoch": sample}


def _loader(source: Source, loading: Loading) -> StreamingDataLoader:
    streams = []
    for name, weight in zip(source.names, source.weights, strict=True):
        if source.remote is None:
            streams.append(Stream(local=str(source.place("mds", name)), proportion=weight))
        else:
            remote, local = source.url("mds", name), str(source.cached(name))
            streams.append(Stream(remote=remote, local=local, proportion=weight))
    dataset = StreamingDataset(streams=streams, batch_size=loading.batch, shuffle=True, shuffle_seed=SEED)
    return StreamingDataLoader(dataset, batch_size=loading.batch, num_workers=loading.num_workers)
