"""Evaluating a model that is there already gives what its run measured, of a checkpoint and of an export."""

import json
from pathlib import Path

import pytest

from tests.trainer.conftest import NUM_STEPS
from tests.trainer.launch import evaluations_in
from trainer.evaluate import main
from trainer.export import export


def test_a_checkpoint_and_its_export_have_the_losses_of_the_run(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = evaluations_in(undisturbed / "metrics.jsonl")[NUM_STEPS]
    checkpoint = undisturbed / "checkpoints" / f"step-{NUM_STEPS:08d}.pt"
    export(checkpoint, tmp_path / "exported")
    config = str(undisturbed / "cfg.yaml")
    for model in (checkpoint, tmp_path / "exported"):
        assert main([str(model), config, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert {name: one["loss"] for name, one in found.items()} == pytest.approx(expected, abs=1e-5)
        assert {one["num_tokens"] for one in found.values()} == {20 * 31}
    assert main([str(checkpoint), config, "eval.num_samples=all"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["corpus", "loss", "perplexity", "mean", "of", "batch", "means", "tokens"]
    assert [line.split()[0] for line in lines] == ["c4", "code", "math"]
    assert {line.split()[-1] for line in lines} == {str(21 * 31)}


def test_what_cannot_be_evaluated_is_told_in_one_line(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(undisturbed / "cfg.yaml")
    assert main([str(tmp_path / "no.pt"), config]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'no.pt'} cannot be read")
    assert main([str(tmp_path), config, "eval=null"]) == 2
    assert capsys.readouterr().err.endswith("@ $.eval\n")
