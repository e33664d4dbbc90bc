"""Real runs of models: from a folder, compiled and not, resumed by each other."""

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


def test_checkpoints_of_compiled_and_plain_runs_fit_each_other(corpora: Path, tmp_path: Path) -> None:
    """Four steps compiled, four plain, four compiled, in one folder, as one plain run; checkpointed, in bf16."""
    changes = {
        "precision": "amp_bf16",
        "activation_checkpointing": True,
        "save_interval": "4ba",
        "max_duration": "12ba",
    }
    changes |= {"schedule": {"phases": [{"start": 0, "mixture": {"c4": 1.0}}]}}
    plain = last_of_each_step(run(corpora, tmp_path / "plain", **changes))
    out = tmp_path / "mixed"
    for compiled, part in (("true", 8), ("false", 4), ("true", 0)):
        mixed = run(corpora, out, f"compile={compiled}", **changes)
        last = sorted((out / "checkpoints").glob("step-*.pt"), reverse=True)
        for checkpoint in last[: part // 4]:
            checkpoint.unlink()  # as if it had ended there
    found = last_of_each_step(mixed)
    assert list(found) == list(plain) == list(range(12))
    for step, line in plain.items():
        assert found[step]["loss"] == pytest.approx(line["loss"], abs=0.02)
        assert found[step]["digest"] == line["digest"]


def test_a_model_of_a_folder_is_trained_and_another_is_not_resumed(corpora: Path, tmp_path: Path) -> None:
    model = {"name": str(folder_of("llama", tmp_path / "llama")), "pretrained": True}
    changes = {"model": model, "max_duration": "8ba"}
    changes |= {"schedule": {"phases": [{"start": 0, "mixture": {"c4": 1.0}}]}}
    losses = [line["loss"] for line in last_of_each_step(run(corpora, tmp_path / "out", **changes)).values()]
    assert losses[-1] < losses[0]
    other = {"name": model["name"], "overrides": {"num_hidden_layers": 1}}
    refused = Run([str(run_config(corpora, tmp_path / "out", **changes | {"model": other}))], tmp_path)
    assert refused.wait(600) == 2
    assert "holds another model: num_hidden_layers was 2, is 1" in refused.output
