"""Rows of examples as batches, on rows small enough to read."""

import numpy as np

from trainer.finetuning.examples import num_targets, unpack

ROWS = np.array([[2, 4, 5, 6, 7, 0, 0, 0], [0, 2, 8, 0, 0, 0, 0, 0], [3, 3, 1, 2, 3, 0, 0, 0]], np.uint16)


def test_a_batch_is_as_long_as_its_longest_example() -> None:
    tokens, loss_mask, lengths = unpack(ROWS, masks_prompt=False)
    assert tokens.tolist() == [[5, 6, 7, 0], [8, 0, 0, 0], [1, 2, 3, 0]]
    assert loss_mask.astype(int).tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert lengths.tolist() == [4, 2, 3]
    assert num_targets(loss_mask) == 3 + 1 + 2


def test_prompts_are_taken_out_of_the_loss_row_by_row() -> None:
    assert unpack(ROWS, masks_prompt=True).loss_mask.astype(int).tolist() == [[0, 0, 1, 1], [1, 1, 0, 0], [0] * 4]
    mixed = unpack(ROWS, masks_prompt=np.array([True, False, False])).loss_mask
    assert mixed.astype(int).tolist() == [[0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]


def test_one_token_is_still_a_row_of_two() -> None:
    tokens, loss_mask, _ = unpack(np.array([[0, 1, 9, 0, 0]], np.uint16), masks_prompt=False)
    assert tokens.tolist() == [[9, 0]]
    assert num_targets(loss_mask) == 0


def test_counts_beyond_a_small_type_do_not_wrap() -> None:
    row = np.zeros((1, 2 + 60_000), np.uint16)
    row[0, :2] = 40_000, 60_000
    assert num_targets(unpack(row, masks_prompt=True).loss_mask) == 20_000
