"""lm-evaluation-harness, by its own command and without a network, on a model as the export writes it."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.trainer.small_tokenizer import write_tokenizer

TASKS = ROOT / "trainer" / "evaluation" / "tasks"
NAMES = ("sciq", "gsm8k")
HARNESS = ("lm_eval", "accelerate")  # the harness's Hugging Face models need the second
is_there = all(importlib.util.find_spec(name) for name in HARNESS)


def write_data(folder: Path) -> Path:
    """Six records for each task, with the fields of the sets themselves."""
    wrong = {"distractor1": "1", "distractor2": "2", "distractor3": "dog", "support": ""}
    records = {
        "sciq": [{"question": f"what is {i}?", **wrong, "correct_answer": "fox"} for i in range(6)],
        "gsm8k": [{"question": f"what is {i} + 1?", "answer": f"{i}+1={i + 1} #### {i + 1}"} for i in range(6)],
    }
    folder.mkdir()
    for name, lines in records.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


class _Functions(yaml.SafeLoader):
    """Knows the harness's `!function`."""


_Functions.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


@pytest.mark.parametrize("name", NAMES)
def test_a_task_reads_the_records_of_a_local_folder(name: str, tmp_path: Path) -> None:
    """Without the harness: what the task names is there, and gives its records under `test`."""
    task = yaml.load((TASKS / f"{name}.yaml").read_text(), _Functions)
    module, _, function = task["custom_dataset"].partition(".")
    spec = importlib.util.spec_from_file_location("tasks_local", TASKS / f"{module}.py")
    assert spec is not None
    assert spec.loader is not None
    local = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(local)
    found = getattr(local, function)(**task["metadata"], data=str(write_data(tmp_path / "data")), model="x")
    assert len(found[task["test_split"]]) == 6
    assert task["task"] == f"switchpoint_{name}"


@pytest.mark.soak
@pytest.mark.skipif(not is_there, reason=f"needs {' and '.join(HARNESS)}")
def test_the_harness_measures_an_exported_model(undisturbed: Path, tmp_path: Path) -> None:
    """Soak, since it takes half a minute of a core: the harness imports torch, transformers and datasets."""
    from trainer.export import export

    (*_, newest) = sorted((undisturbed / "checkpoints").glob("step-*.pt"))
    export(newest, tmp_path / "model", tokenizer=write_tokenizer(tmp_path / "tokenizer"))
    command = [
        str(Path(sys.executable).with_name("lm_eval")), "run", "--model", "hf", "--device", "cpu", "--batch_size", "4",
        "--model_args", f"pretrained={tmp_path / 'model'},dtype=float32", "--include_path", str(TASKS),
        "--tasks", ",".join(f"switchpoint_{name}" for name in NAMES),
        "--metadata", json.dumps({"data": str(write_data(tmp_path / "data"))}),
        "--output_path", str(tmp_path / "results"),
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert answer.returncode == 0, answer.stderr
    (path,) = (tmp_path / "results").rglob("results_*.json")
    results = json.loads(path.read_text())["results"]
    assert 0 <= results["switchpoint_sciq"]["acc,none"] <= 1
    assert math.isfinite(results["switchpoint_gsm8k"]["perplexity,none"])
