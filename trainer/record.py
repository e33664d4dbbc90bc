"""What happened in each step, written down where other programs can check it: the metrics file.

One JSON object a line, by rank 0, of two kinds, with dynamic mixing three:

    {"step": 12, "loss": 5.31, "lr": 0.0003, "counts": {"c4": 13, "code": 3}, "digest": "9f…", "tokens": 53248,
     "revision": 0, "time": 1760000000.0, "data": {"wait_s": 0.0002, "hits": 3, "misses": 0, …},
     "speed": {"speed/tokens_per_s": 81920.0, …}}
    {"step": 20, "eval": {"c4": 5.12, "code": 4.98}, "eval_batch_means": {…}, "forgetting": {"c4": {"9": 0.02}}}
    {"step": 20, "corpus_loss": {"c4": 5.27, "code": 5.03}}

`step` of the first kind is the 0-based step that was trained, `loss` its mean over tokens and all ranks in nats,
`counts` the samples of each corpus as they were read, `tokens` the tokens of the run up to and including it,
`revision` the newest revision known, `data` what it cost to have the batch (`trainer.spent.Spent`), `speed` how fast
the last steps were, with the memory used (`trainer.speed`). `step` of the others is the number of steps trained before
them. `eval`: held-out losses, means over tokens in nats, and as means of batch means; `forgetting`: of the reference
corpus, the loss now minus the loss at a switchpoint. `corpus_loss` is the mean training loss of each corpus since the
line of this kind before.

`digest` proves which samples were trained on, whatever the number of ranks, workers or microbatches: BLAKE2b of
16 bytes over the concatenation, in slot order, of the BLAKE2b of 8 bytes of each row as little-endian uint32; where
rows are examples, of their tokens without what fills them up.
`digest_rows` computes it from any rows, so a reader of the shards can check a run from outside.

After a crash, steps since the last checkpoint are trained again and their lines stand twice, in the order of
writing: readers take the last line of a step. A line that a crash has cut off is closed by the next start; readers
skip what is not JSON.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from composer import Callback, Logger, State
from composer.utils import dist

from trainer.feed import Feed
from trainer.speed import Speed, memory_bytes
from trainer.spent import Spent, of_all_ranks


def digest_rows(rows: Iterable[np.ndarray]) -> str:
    """The digest of a batch given as its rows of token ids in slot order, in any integer type and of any lengths."""
    return hashlib.blake2b(_digest_each(rows), digest_size=16).hexdigest()


def _digest_each(rows: Iterable[np.ndarray]) -> bytes:
    """8 bytes for each row, in order."""
    return b"".join(hashlib.blake2b(row.astype("<u4").tobytes(), digest_size=8).digest() for row in rows)


def _rows_of(batch: Mapping[str, Any]) -> Iterable[np.ndarray]:
    """The rows of a batch, examples without what fills them up."""
    rows = batch["tokens"].numpy()
    if "lengths" not in batch:
        return rows
    return [row[:length] for row, length in zip(rows, batch["lengths"].tolist(), strict=True)]


class MetricsFile:
    """Appends JSON lines to `path` on rank 0, each with one write; None: goes nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._file = None
        if path is None or dist.get_global_rank() != 0:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+", buffering=0)
        if self._file.seek(0, os.SEEK_END):
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def write(self, line: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line).encode() + b"\n")


class Record(Callback):
    """Writes the line of each step, logs each corpus' share and what the data cost, and keeps them for the service.

    What was read, and under which revision, it asks of `feed`; every `interval` steps also which shards come next.
    """

    def __init__(self, file: MetricsFile, feed: Feed, *, interval: int, speed: Speed) -> None:
        self.speed = speed
        self._before = (0, 0)  # samples and tokens of the run before the step
        self.last: dict[str, Any] = {}
        self.next_uses: dict[str, float] = {}
        self._interval = interval
        self.totals = dict.fromkeys(feed.names, 0)
        self.spent = Spent()
        self._file = file
        self._feed = feed
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="digests")
        self._of_batch: tuple[Any, Spent] = 0, Spent()
        self._digests: Future[bytes] = Future()

    def state_dict(self) -> dict[str, Any]:
        return {"totals": self.totals}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.totals |= state["totals"]

    def before_dataloader(self, state: State, logger: Logger) -> None:
        self._before = int(state.timestamp.sample), int(state.timestamp.token)
        self.speed.begin()

    def after_dataloader(self, state: State, logger: Logger) -> None:
        counts = np.bincount(self._feed.corpus_of(state.batch), minlength=len(self._feed.names))
        self._of_batch = counts, self._feed.spent_on(state.batch)
        self._digests = self._hashing.submit(_digest_each, _rows_of(state.batch))  # while the step is trained

    def _gather(self) -> None:
        """What all ranks read in the step that has ended."""
        names = self._feed.names
        of_ranks = dist.all_gather_object((self._digests.result(), *self._of_batch))
        rows = b"".join(digests for digests, _, _ in of_ranks)
        counts = sum(counts for _, counts, _ in of_ranks).tolist()
        spent = of_all_ranks(spent for _, _, spent in of_ranks)
        self.spent = self.spent.plus(spent)
        self.last = {
            "counts": dict(zip(names, counts, strict=True)),
            "digest": hashlib.blake2b(rows, digest_size=16).hexdigest(),
            "data": spent._asdict(),
        }

    def batch_end(self, state: State, logger: Logger) -> None:
        self._gather()
        speed = self._end_of_step(state)
        counts = self.last["counts"]
        for name, count in counts.items():
            self.totals[name] += count
        self.last |= {
            "step": int(state.timestamp.batch) - 1,
            "loss": state.total_loss_dict["loss/train/total"],
            "lr": state.optimizers[0].param_groups[0]["lr"],
            "tokens": int(state.timestamp.token),
            "revision": self._feed.ledger.number,
            "time": time.time(),
            "speed": speed,
        }
        self._file.write(self.last)
        shown = {f"share/{name}": share for name, share in shares(counts).items()}
        shown |= {f"share_so_far/{name}": share for name, share in shares(self.totals).items()}
        step = self.last["step"]  # that was trained, as everywhere here; Composer's own time is one further
        logger.log_metrics({**shown, **Spent(**self.last["data"]).metrics(), **speed}, step=step)
        if step % self._interval == 0:
            self.next_uses = {
                f"data/next_{what}/{name}": float(value)
                for name, (step, shard) in self._feed.next_uses(self.last["step"]).items()
                for what, value in (("need_at_step", step), ("shard", shard))
            }
            logger.log_metrics(self.next_uses, step=step)

    def _end_of_step(self, state: State) -> dict[str, float]:
        samples, tokens = int(state.timestamp.sample) - self._before[0], int(state.timestamp.token) - self._before[1]
        self.speed.end(
            samples=samples,
            tokens=tokens,
            seq_len=tokens // samples,
            wait_s=self.last["data"]["wait_s"],
            tokens_so_far=int(state.timestamp.token),
        )
        return {**self.speed.metrics, **memory_bytes()}

    @property
    def metrics(self) -> dict[str, float]:
        """The last step's loss and rate, what the data of this process's steps has cost, and what is needed next."""
        last = {key: self.last[key] for key in ("loss", "lr") if key in self.last}
        so_far = {f"{name}_so_far": value for name, value in self.spent.metrics().items()}
        shown = {f"share_so_far/{name}": share for name, share in shares(self.totals).items()}
        spent, speed = Spent(**self.last.get("data", {})).metrics(), self.last.get("speed", {})
        return {**last, **speed, **spent, **so_far, **shown, **self.next_uses}


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Counts of samples as shares of their sum."""
    total = max(1, sum(counts.values()))
    return {name: count / total for name, count in counts.items()}
