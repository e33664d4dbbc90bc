"""Held-out loss: when it is taken, over what, and that it is a mean over tokens."""

from pathlib import Path

import pytest
import torch

from tests.trainer.conftest import NUM_STEPS
from tests.trainer.corpora import NAMES, make_rows
from tests.trainer.launch import evaluations_in
from trainer.loading import load
from trainer.models.causal_lm import build_model, token_losses


def test_it_is_taken_at_intervals_at_each_switchpoint_and_at_the_end(undisturbed: Path) -> None:
    assert list(evaluations_in(undisturbed / "metrics.jsonl")) == [9, 10, 15, 20, NUM_STEPS]


def test_it_is_the_mean_over_the_tokens_of_the_held_out_rows(undisturbed: Path) -> None:
    config = load(undisturbed / "cfg.yaml")
    model = build_model(config.model, seq_len=config.seq_len, seed=0).eval()
    saved = torch.load(undisturbed / "checkpoints" / f"step-{NUM_STEPS:08d}.pt", weights_only=False)
    model.load_state_dict(saved["state"]["model"])
    for name in NAMES:
        batch = {"tokens": torch.from_numpy(make_rows(name, num_samples=21, seed=1)[:20])}
        with torch.no_grad():
            expected = token_losses(model(batch), batch).mean().item()
        found = evaluations_in(undisturbed / "metrics.jsonl")[NUM_STEPS][name]
        assert found == pytest.approx(expected, abs=1e-5)
