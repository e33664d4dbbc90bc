"""The two means against closed forms, on any number of ranks, with and without tokens that are no targets."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from composer.devices import DeviceCPU

from trainer.evaluation.measuring import HeldOutLoss, HeldOutRows, loss_of, measure, sums

VOCABULARY, LENGTH = 11, 6


class Certain(torch.nn.Module):
    """Gives each token the logit (token + 1) / 4 whatever came before, so that all losses are known."""

    logits = (torch.arange(VOCABULARY) + 1) / 4

    def forward(self, batch: Any) -> torch.Tensor:
        return self.logits.expand(*batch["tokens"].shape, VOCABULARY)


def make_rows(num_rows: int, *, masked: bool) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    rows = {"tokens": generator.integers(0, VOCABULARY, (num_rows, LENGTH)).astype(np.uint16)}
    if masked:
        rows["loss_mask"] = generator.random((num_rows, LENGTH)) < 0.4
        rows["loss_mask"][:2] = False  # a batch of two without a target
        rows["loss_mask"][2] = True
    return rows


def expected(rows: dict[str, np.ndarray], batch_size: int) -> tuple[float, float, int]:
    """By plain loops: mean over targets, mean of the means of batches that have any, number of targets."""
    normaliser = math.log(sum(math.exp((token + 1) / 4) for token in range(VOCABULARY)))
    batches = []
    for start in range(0, len(rows["tokens"]), batch_size):
        losses = []
        for row in range(start, min(start + batch_size, len(rows["tokens"]))):
            for place in range(1, LENGTH):
                if "loss_mask" not in rows or rows["loss_mask"][row, place]:
                    losses.append(normaliser - (int(rows["tokens"][row, place]) + 1) / 4)
        batches.append(losses)
    every = [loss for losses in batches for loss in losses]
    means = [sum(losses) / len(losses) for losses in batches if losses]
    return sum(every) / len(every), sum(means) / len(means), len(every)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 9])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 20])
def test_both_means_are_those_of_plain_loops_on_any_ranks(masked: bool, num_ranks: int, batch_size: int) -> None:
    rows = make_rows(13, masked=masked)
    total = torch.zeros(4, dtype=torch.float64)
    nums_batches = set()
    for rank in range(num_ranks):
        mine = HeldOutRows.of_rank(
            lambda chosen: {name: part[chosen] for name, part in rows.items()},
            13,
            batch_size=batch_size,
            rank=rank,
            num_ranks=num_ranks,
        )
        nums_batches.add(len(mine.batches))
        total += sums(Certain(), mine, device=DeviceCPU(), precision="fp32")
    found = loss_of(total)
    token_mean, batch_mean, num_tokens = expected(rows, batch_size)
    assert found.token_mean == pytest.approx(token_mean, abs=1e-6)
    assert found.batch_mean == pytest.approx(batch_mean, abs=1e-6)
    assert found.num_tokens == num_tokens
    assert found.perplexity == pytest.approx(math.exp(token_mean), rel=1e-5)
    assert len(nums_batches) == 1  # so that no rank waits for another in a collective


def test_rows_are_read_once_and_the_model_trains_on_as_before() -> None:
    asked = []
    rows = make_rows(4, masked=False)

    def read(chosen: np.ndarray) -> dict[str, np.ndarray]:
        asked.append(chosen.tolist())
        return {name: part[chosen] for name, part in rows.items()}

    held_out = HeldOutRows.of_rank(read, 4, batch_size=3)
    model = Certain().train()
    first = measure(model, held_out, device=DeviceCPU(), precision="fp32")
    assert measure(model, held_out, device=DeviceCPU(), precision="fp32", alone=True) == first
    assert asked == [[0, 1, 2], [3]]
    assert model.training
    assert not torch.is_inference_mode_enabled()


def test_without_a_target_there_is_no_loss() -> None:
    empty = loss_of(torch.zeros(4, dtype=torch.float64))
    assert math.isnan(empty.token_mean)
    assert math.isnan(empty.perplexity)
    assert HeldOutLoss(token_mean=800.0, batch_mean=0.0, num_tokens=1).perplexity == math.inf
