"""Megatron-LM's BlendedDataset over GPTDatasets (megatron-core), with documents as long as a sequence.

The one stand-in is the file of lengths. Corpora are given one hundredth more documents than the others' so that its
surplus (0.5% by default) does not push a corpus into another epoch. The sampler that gives ranks their slots is part of
Megatron-LM, not of the wheel; its rule is restated: ranks take turns with one micro batch each, here of 1, as in the
GPT-3 examples of its repository. At a switch a new blend is read on from the same number of consumed samples.
"""

import logging
import math
from collections.abc import Callable
from importlib.metadata import version
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import torch
from megatron.core.datasets.blended_dataset import BlendedDataset
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from megatron.core.datasets.utils import Split

from systems import BATCH, Batches, Run, rank_slots

SEQ_LEN = 2048
SURPLUS = GPTDatasetConfig.mid_level_dataset_surplus
logging.disable(logging.WARNING)  # "cannot save indexes"


class _Lengths:
    """An indexed file of `size` documents, each one sequence long."""

    def __init__(self, size: int) -> None:
        self.sequence_lengths = np.full(size, SEQ_LEN, np.int32)


class _Tokenizer:
    vocab_size, eod, pad = 50_304, 0, 1
    unique_identifiers: dict = {}  # noqa: RUF012


class System:
    VERSION = f"core {version('megatron-core')}, micro batch 1"

    def __init__(self, run: Run, folder: Path | None = None, cache: Path | None = None) -> None:
        self.run = run
        config = GPTDatasetConfig(
            random_seed=17,
            sequence_length=SEQ_LEN,
            tokenizer=_Tokenizer(),
            path_to_cache=str(cache) if cache else None,
            reset_position_ids=False,
            reset_attention_mask=False,
            eod_mask_loss=False,
        )
        blended = len(run.sizes) > 1
        datasets = []
        for i, (size, weight) in enumerate(zip(run.sizes, run.weights, strict=True)):
            size += blended * (size // 100 + 100)
            asked = math.ceil(run.num_samples * weight * (1 + SURPLUS * blended)) + blended
            documents = np.arange(size, dtype=np.int32)
            datasets.append(GPTDataset(_Lengths(size), f"c{i}", documents, asked, Split.train, config))
        self.blend = BlendedDataset(datasets, list(run.weights), run.num_samples, config)

    @staticmethod
    def prepare(run: Run, folder: Path) -> None:
        """Nothing: a corpus is the lengths of its documents."""

    @classmethod
    def kept(cls, run: Run, folder: Path) -> Callable[[], "System"]:
        """A second job, which finds the indexes of the first in the cache; building those is not measured."""
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1
            )
        cls(run, cache=folder)
        return lambda: cls(run, cache=folder)

    def batches(self, step: int = 0) -> Batches:
        starts = self.run.starts
        for at in count(step):
            slots = slice(at * BATCH, (at + 1) * BATCH)
            corpus = np.array(self.blend.dataset_index[slots], np.int64)
            sample = np.array(self.blend.dataset_sample_index[slots])
            for i, dataset in enumerate(self.blend.datasets):
                of = corpus == i
                shuffled = dataset.shuffle_index[sample[of]]
                sample[of] = starts[i] + dataset.document_index[dataset.sample_index[shuffled, 0]]
            yield corpus, sample

    def by_rank(self, num_ranks: int, order: np.ndarray) -> np.ndarray:
        return rank_slots(order, num_ranks, 1)

    @classmethod
    def switched(cls, run: Run, folder: Path, step: int, weights: tuple[float, ...]) -> tuple[Batches, int, str]:
        head = islice(cls(run).batches(), step)
        tail = islice(cls(run.with_weights(weights)).batches(step), run.num_steps - step)
        return chain(head, tail), step * BATCH, "no; a new blend, read on at the same consumed sample"
