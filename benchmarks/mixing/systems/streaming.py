"""mosaicml-streaming: a StreamingDataset of streams with `proportion`, and the order its `generate_work` makes.

Its defaults (py1e, granularity 1; canonical nodes and shuffle block as it derives them when not given), over shards of
which only the index exists. Eight ranks a node, one worker a rank.
"""

import json
from importlib.metadata import version
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
from streaming import Stream, StreamingDataset
from streaming.base.batching import generate_work
from streaming.base.world import World

from systems import BATCH, Batches, Run


class System:
    VERSION = version("mosaicml-streaming")

    def __init__(self, run: Run, folder: Path, num_ranks: int = 1) -> None:
        self.run = run
        nodes = max(1, num_ranks // 8)
        self.world = World(nodes, num_ranks // nodes, 1, 0)
        self.dataset = StreamingDataset(
            streams=[Stream(local=str(folder / f"c{i}"), proportion=w) for i, w in enumerate(run.weights)],
            epoch_size=min(run.num_samples, sum(run.sizes)),
            batch_size=BATCH // num_ranks,
            shuffle=True,
            num_canonical_nodes=nodes,
            shuffle_block_size=max(4_000_000 // nodes, 1 << 18),
        )

    @staticmethod
    def prepare(run: Run, folder: Path) -> None:
        for corpus in range(len(run.sizes)):
            shards = [{**_SHARD, "raw_data": _file(i), "samples": n} for i, n in enumerate(run.shards(corpus))]
            path = folder / f"c{corpus}"
            path.mkdir(exist_ok=True)
            (path / "index.json").write_text(json.dumps({"shards": shards, "version": 2}))

    def batches(self, step: int = 0) -> Batches:
        first, sample = divmod(step * BATCH, self.dataset.epoch_size)
        for epoch in count(first):
            for batch in self._work(epoch, sample):
                samples = batch.ravel()
                if samples.min() >= 0:  # an epoch's last batch is padded with -1
                    yield self.run.corpus_of(samples), samples
            sample = 0

    def by_rank(self, num_ranks: int, order: np.ndarray) -> np.ndarray:
        folder = Path(self.dataset.streams[0].local).parent
        work = System(self.run, folder, num_ranks)._work(0, 0)
        return self.run.corpus_of(work[: self.run.num_steps])

    @classmethod
    def switched(cls, run: Run, folder: Path, step: int, weights: tuple[float, ...]) -> tuple[Batches, int, str]:
        head = islice(cls(run, folder).batches(), step)
        after = cls(run.with_weights(weights), folder)
        tail = islice(after.batches(step), run.num_steps - step)
        return chain(head, tail), step * BATCH, "no; a new dataset, resumed at the same sample of the epoch"

    def _work(self, epoch: int, sample: int) -> np.ndarray:
        """[steps, ranks, samples of a rank]: what its ranks read from that sample of the epoch on."""
        work = generate_work(self.dataset.batching_method, self.dataset, self.world, epoch, sample)
        nodes, ranks, _, steps, size = work.shape
        return work.reshape(nodes * ranks, steps, size).swapaxes(0, 1)


_SHARD = {
    "column_encodings": ["ndarray:uint16:2048"],
    "column_names": ["tokens"],
    "column_sizes": [4096],
    "compression": None,
    "format": "mds",
    "hashes": [],
    "size_limit": 1 << 26,
    "version": 2,
    "zip_data": None,
}


def _file(number: int) -> dict:
    return {"basename": f"shard.{number:05d}.mds", "bytes": 1 << 26, "hashes": {}}
