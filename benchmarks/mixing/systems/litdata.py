"""LitData's CombinedStreamingDataset, read through its StreamingDataLoader, over chunks of which only the index exists.

One method is replaced: what would read and decode a sample returns its number. Ranks are set by the environment, as
its own detection reads them.
"""

import json
import os
from collections.abc import Iterable
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from unittest.mock import patch

os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"

import numpy as np
from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset, TokensLoader

from systems import BATCH, Batches, Run

SEQ_LEN = 2048


class _Numbers(StreamingDataset):
    """A dataset whose samples are their own numbers."""

    start = 0

    def __getitem__(self, index):
        return self.start + index.index


class System:
    VERSION = version("litdata")

    def __init__(self, run: Run, folder: Path) -> None:
        self.run = run
        self.folder = folder
        self.loader = self._loader(BATCH)

    @staticmethod
    def prepare(run: Run, folder: Path) -> None:
        for corpus in range(len(run.sizes)):
            chunks = [
                {"chunk_bytes": 2 * SEQ_LEN * n, "chunk_size": n, "dim": SEQ_LEN * n, "filename": f"chunk-0-{i}.bin"}
                for i, n in enumerate(run.shards(corpus))
            ]
            path = folder / f"c{corpus}"
            path.mkdir(exist_ok=True)
            (path / "index.json").write_text(json.dumps({"chunks": chunks, "config": _CONFIG, "updated_at": "0"}))

    def batches(self, step: int = 0) -> Batches:
        if step:
            self.loader.load_state_dict(self._state_at(step))
        while True:  # an epoch ends with the first corpus
            for batch in self.loader:
                if len(batch) == BATCH:
                    samples = batch.numpy()
                    yield self.run.corpus_of(samples), samples

    def by_rank(self, num_ranks: int, order: np.ndarray) -> np.ndarray:
        ranks = []
        for rank in range(num_ranks):
            with patch.dict(os.environ, WORLD_SIZE=str(num_ranks), GLOBAL_RANK=str(rank), NNODES="1"):
                batches = list(islice(self._loader(BATCH // num_ranks), self.run.num_steps))
            ranks.append(self.run.corpus_of(np.stack([batch.numpy() for batch in batches])))
        return np.stack(ranks, axis=1)

    @classmethod
    def switched(cls, run: Run, folder: Path, step: int, weights: tuple[float, ...]) -> tuple[Batches, int, str]:
        before, after = cls(run, folder), cls(run.with_weights(weights), folder)
        head = list(islice(before.batches(), step))
        after.loader.load_state_dict(before.loader.state_dict())
        tail: Iterable = islice(after.batches(), run.num_steps - step)
        return chain(head, tail), step * BATCH, "no; a restart of the job with other weights"

    def _loader(self, batch_size: int) -> StreamingDataLoader:
        datasets = []
        for corpus, start in enumerate(self.run.starts[:-1]):
            dataset = _Numbers(str(self.folder / f"c{corpus}"), item_loader=TokensLoader(SEQ_LEN), shuffle=True)
            dataset.start = int(start)
            datasets.append(dataset)
        combined = CombinedStreamingDataset(datasets, weights=self.run.weights, iterate_over_all=False)
        return StreamingDataLoader(combined, batch_size=batch_size)

    def _state_at(self, step: int) -> dict:
        """What the loader's own state would be there: the state after one batch, with its counts replaced."""
        loader = self._loader(BATCH)
        next(iter(loader))
        state = loader.state_dict()
        counts = [round(weight * step * BATCH) for weight in self.run.weights]
        for corpus, n in enumerate(counts):
            state["dataset"][str(corpus)].update(num_samples_yielded=n, sample_in_epoch=n)
        return {**state, "num_samples_yielded": {0: counts}}


_CONFIG = {
    "chunk_bytes": None,
    "chunk_size": SEQ_LEN,
    "compression": None,
    "data_format": ["no_header_tensor:18"],
    "data_spec": json.dumps([1, {"type": None, "context": None, "children_spec": []}]),
    "encryption": None,
    "item_loader": "TokensLoader",
}
