"""Real runs of models: from a folder."""

from pathlib import Path

import pytest

from tests.trainer.conftest import run_config
from tests.trainer.launch import Run, last_of_each_step
from tests.trainer.models.test_hub import folder_of

pytestmark = pytest.mark.timeout(900)


def run(corpora: Path, out: Path, *overrides: str, **changes: object) -> Path:
    """Run to the end, which must go well; the metrics file."""
    process = Run([str(run_config(corpora, out, **changes)), *overrides], out)
    assert process.wait(600) == 0, process.output
    return out / "metrics.jsonl"


def test_a_model_of_a_folder_is_trained_and_another_is_not_resumed(corpora: Path, tmp_path: Path) -> None:
    model = {"name": str(folder_of("llama", tmp_path / "llama")), "pretrained": True}
    changes = {"model": model, "max_duration": "8ba"}
    changes |= {"schedule": {"phases": [{"start": 0, "mixture": {"c4": 1.0}}]}}
    losses = [line["loss"] for line in last_of_each_step(run(corpora, tmp_path / "out", **changes)).values()]
    assert losses[-1] < losses[0]
    other = {"name": model["name"], "overrides": {"num_hidden_layers": 1}}
    refused = Run([str(run_config(corpora, tmp_path / "out", **changes | {"model": other}))], tmp_path)
    assert refused.wait(600) == 2
    assert "num_hidden_layers was 2, is 1" in refused.output
