"""Held-out loss: when it is taken, over what, and that it is a mean over tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.conftest import NUM_STEPS, run_config
from tests.trainer.corpora import NAMES, make_rows
from tests.trainer.launch import Run, evaluations_in
from tests.trainer.test_run import half_way
from trainer.export import read_checkpoint
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


def evaluations(out: Path) -> dict[int, dict[str, Any]]:
    """Steps done to the whole line of the evaluation then, the last of each."""
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line for line in lines if "eval" in line}


def test_what_is_forgotten_since_the_first_and_the_newest_switchpoint_is_written(undisturbed: Path) -> None:
    found = evaluations(undisturbed)
    losses = {step: line["eval"]["c4"] for step, line in found.items()}
    assert found[9]["forgetting"] == {"c4": {"9": 0.0}}
    assert found[10]["forgetting"] == {"c4": {"9": losses[10] - losses[9]}}
    assert found[20]["forgetting"] == {"c4": {"9": losses[20] - losses[9], "15": losses[20] - losses[15]}}
    assert f"forgotten of c4 {losses[NUM_STEPS] - losses[9]:+.4f}" in (undisturbed / "rank0.txt").read_text()


def test_it_survives_a_resume_on_other_ranks(undisturbed: Path, corpora: Path, tmp_path: Path) -> None:
    evaluated = {"interval": "10ba", "num_samples": 20}
    half_way(undisturbed, tmp_path, step=16)
    run = Run([str(run_config(corpora, tmp_path, eval=evaluated))], tmp_path, num_ranks=2)
    assert run.wait() == 0, run.output
    expected, found = evaluations(undisturbed), evaluations(tmp_path)
    assert list(found) == [20, NUM_STEPS]
    for step, line in found.items():
        for what in ("eval", "eval_batch_means"):
            assert line[what] == pytest.approx(expected[step][what], abs=1e-4)
        assert line["forgetting"]["c4"] == pytest.approx(expected[step]["forgetting"]["c4"], abs=1e-4)
    last = f"checkpoints/step-{NUM_STEPS:08d}.pt"
    (_, whole), (_, resumed) = read_checkpoint(undisturbed / last), read_checkpoint(tmp_path / last)
    for key in ("composition", "ledger", "step", "corpora"):
        assert resumed[key] == whole[key]


def test_a_branch_at_a_switchpoint_is_evaluated_there_first(undisturbed: Path, corpora: Path, tmp_path: Path) -> None:
    """The way of the paper: one control run, and each mixture branches off from its checkpoint at the switchpoint."""
    phases = [{"start": 0, "mixture": {"c4": 1.0}}, {"start": 8, "mixture": {"code": 1.0}}]
    config = run_config(
        corpora,
        tmp_path,
        schedule={"phases": phases},
        load_path=str(undisturbed / "checkpoints" / "step-00000008.pt"),
        max_duration="10ba",
        eval={"interval": "1000ba", "num_samples": "all", "reference": "c4"},
    )
    run = Run([str(config)], tmp_path)
    assert run.wait() == 0, run.output
    found = evaluations(tmp_path)
    assert list(found) == [8, 10]
    forgotten = found[10]["eval"]["c4"] - found[8]["eval"]["c4"]
    assert found[10]["forgetting"] == {"c4": {"8": forgotten}}
