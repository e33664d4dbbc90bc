"""What the model is fed: the planned samples as Composer wants them, and the schedule they follow.

Each batch of a rank is {"tokens": tensor [n, seq_len] in the shards' own integer type, "addresses": array [n] int64,
where each row stood, "counts": what was done to get it (`mixer.storage.cache.Counts`), "wait_s": seconds that were
waited for it}, in slot order. Where rows are examples, tokens are [n, longest of them], filled up at the end, and the
batch has "loss_mask" bool [n, longest], True for targets, and "lengths" [n] (`trainer.finetuning.examples`).

Which samples these are does not depend on ranks, workers or microbatches. A resumed run
replays nothing: Composer keeps and restores the position through the dataset's own state. Nothing is handed out at or
above the frontier. Loader workers only read rows; the plan lives in each rank's main process, which also fetches ahead.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from composer.core import DataSpec
from composer.utils import dist
from torch.utils.data import DataLoader

from mixer import Ledger, Revision
from mixer.context import Context
from mixer.dataset import PlannedDataset, PlannedSampler, collate
from mixer.reading import rank_batch_size
from mixer.storage.ahead import FetchAhead
from mixer.storage.upcoming import next_uses, shares_of
from trainer.config import PREFETCH_FACTOR
from trainer.finetuning.examples import num_targets, unpack
from trainer.sources import Sources
from trainer.spent import Spent
from trainer.stopping import begin_worker

Batch = dict[str, Any]


TENSORS = ("tokens", "loss_mask", "attends_within")  # what of a batch the model sees, cut into microbatches


class _TimedLoader(DataLoader):
    """Puts into each batch how long it was waited for: `wait_s`, in seconds. `finish`: what is trained on."""

    finish: Callable[[Batch], Batch]

    def __iter__(self) -> Iterator[Batch]:
        batches = super().__iter__()
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            yield {**self.finish(batch), "wait_s": time.perf_counter() - begin}


class Feed:
    """The training data of one rank; `ranks_here` are those of its machine, which share a cache (default: it alone).

    Raises mixer's MixerError where the batch does not divide over the ranks.
    """

    def __init__(self, sources: Sources, *, rank: int, num_ranks: int, ranks_here: range | None = None) -> None:
        self._config = config = sources.config
        self._rank = rank
        self.names = sources.names
        self.has_examples = sources.has_examples
        self._masks_prompt = np.array([config.corpora[name].mask_prompt for name in self.names])
        self._num_ranks = num_ranks
        rows = sources.rows()
        self._reading = sources.reading(rows)
        ahead = FetchAhead(
            rows.cache,
            self._reading,
            self.names,
            num_steps=config.steps(config.reading.fetch_ahead),
            num_in_flight=config.num_batches_ahead + 2,
            num_threads=config.reading.threads,
            ranks=ranks_here or range(rank, rank + 1),
            num_ranks=num_ranks,
        )
        self._dataset = PlannedDataset(
            rows,
            self._reading,
            ahead,
            num_buffers=config.num_batches_ahead + 3 if config.num_workers else 0,
            allow_different_data_and_lose_reproducibility=config.reading.allow_different_data_and_lose_reproducibility,
        )
        self._sampler = PlannedSampler(self._dataset, rank=rank, num_ranks=num_ranks)
        self.batch_size = rank_batch_size(config.global_batch_size, num_ranks)

    @classmethod
    def of_this_process(cls, sources: Sources) -> "Feed":
        """For the rank that this process is among those of torch.distributed, when it has begun."""
        first_here = dist.get_global_rank() - dist.get_local_rank()
        ranks_here = range(first_here, first_here + dist.get_local_world_size())
        return cls(sources, rank=dist.get_global_rank(), num_ranks=dist.get_world_size(), ranks_here=ranks_here)

    def microbatch_size(self, given: int | None) -> int:
        """Samples at a time on this rank: what the configuration gives, at most the rank's batch."""
        return min(given or self.batch_size, self.batch_size)

    def data_spec(self) -> DataSpec:
        """The loader of this rank; one Composer epoch is the whole run."""
        num_workers = self._config.num_workers
        loader = _TimedLoader(
            self._dataset,
            batch_size=None,  # the sampler asks for whole batches
            sampler=self._sampler,
            collate_fn=collate,
            num_workers=num_workers,
            worker_init_fn=begin_worker,
            prefetch_factor=PREFETCH_FACTOR if num_workers else None,
            pin_memory=torch.cuda.is_available(),
        )
        loader.finish = self._as_examples if self.has_examples else lambda batch: batch
        return DataSpec(
            loader,
            split_batch=partial(_split, seq_len=self._config.seq_len),
            get_num_samples_in_batch=lambda batch: len(batch["tokens"]),
            get_num_tokens_in_batch=_num_tokens,
        )

    def _as_examples(self, batch: Batch) -> Batch:
        """A batch of rows with their counts, as the examples they are."""
        masks_prompt = self._masks_prompt[self.corpus_of(batch)]
        tokens, loss_mask, lengths = unpack(batch["tokens"].numpy(), masks_prompt)
        tensors = {"tokens": torch.from_numpy(tokens), "loss_mask": torch.from_numpy(loss_mask)}
        return {**batch, **tensors, "lengths": lengths}

    def corpus_of(self, batch: Batch) -> np.ndarray:
        """The corpus that each row of a batch was read from, [n] int64, index into `names`."""
        return self._dataset.rows.corpus_of(batch["addresses"])

    def next_uses(self, step: int) -> dict[str, tuple[int, int]]:
        """By corpus (its name in the plan) the step after `step` at which this rank needs other shards, and a shard."""
        shelf = self._dataset.rows.cache.shelf
        (share, *_) = shares_of(self._reading.plan, range(self._rank, self._rank + 1), self._num_ranks)
        uses = next_uses(share, step, dict(zip(self.names, shelf.firsts, strict=False)))
        return {name: (use.start, shelf.find(int(use.shards[0]))[2]) for name, use in uses.items()}

    def spent_on(self, batch: Batch) -> Spent:
        """What this rank did to have a batch, what its main process has fetched meanwhile included."""
        counts = [sum(both) for both in zip(batch["counts"], self._dataset.rows.cache.counters.take(), strict=True)]
        return Spent(batch["wait_s"], *counts)

    def names_at(self, step: int) -> tuple[Sequence[str], np.ndarray]:
        """The names of the plan, and for each row of this rank's batch of `step` the one it is read under, [n] int64.

        A name in the mixture: after a corpus was renamed or split, not where the row lies.
        """
        plan = self._reading.plan
        size = rank_batch_size(plan.schedule.batch_size(step), self._num_ranks)
        return plan.names, plan.batch(step).corpus[self._rank * size : (self._rank + 1) * size]

    def drawn_before(self, step: int) -> dict[str, int]:
        """Samples of each corpus, by the names of the plan, in all steps below `step`."""
        return self._reading.plan.drawn_before(step)

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self._config.num_steps

    @property
    def ledger(self) -> Ledger:
        """The schedule with the revisions known so far."""
        return self._reading.ledger

    @property
    def frontier(self) -> int:
        """The first step that may not be handed out yet."""
        return self._reading.frontier

    @property
    def switchpoints(self) -> Sequence[int]:
        """First steps of the phases of the schedule in force."""
        return self._reading.plan.schedule.switchpoints

    def context(self, step: int) -> Context:
        """How long the rows of `step` are, and how positions are encoded there."""
        return self._reading.plan.schedule.context(step)

    def follow(self, revisions: Sequence[Mapping[str, Any]], frontier: int) -> None:
        """Take over what was decided; every rank must do so between the same two steps. The frontier never moves back.

        Raises RepetitionError, and leaves all as it was, where a corpus would be read more often than its cap allows;
        MixerError where a batch size is not a multiple of the ranks, or a step would mix rows of several lengths.
        """
        self._reading.follow([Revision.from_dict(revision) for revision in revisions], frontier)
        self._reading.check_divides(self._num_ranks)


def _split(batch: Batch, microbatch_size: int, *, seq_len: int) -> list[Batch]:
    """A batch as microbatches of at most so many samples of `seq_len` tokens, or as many tokens in longer rows.

    In order; of examples with the number of their targets.
    """
    microbatch_size = max(1, min(microbatch_size, microbatch_size * seq_len // batch["tokens"].shape[1]))
    starts = range(0, len(batch["tokens"]), microbatch_size)
    shown = [name for name in TENSORS if name in batch]
    parts = [{name: batch[name][start : start + microbatch_size] for name in shown} for start in starts]
    for part in parts if "lengths" in batch else []:
        part["num_targets"] = num_targets(part["loss_mask"].numpy())
    return parts


def _num_tokens(batch: Batch) -> int | dict[str, int]:
    """The tokens of a batch without filling, and, of a microbatch of examples, those that its loss is the mean of.

    Composer weighs each microbatch of each rank by the latter, so that a step's loss is the mean over all targets.
    """
    if "num_targets" in batch:
        return {"loss_generating": batch["num_targets"]}
    return int(batch["lengths"].sum()) if "lengths" in batch else batch["tokens"].numel()
