"""Small corpora, a configuration over them, and one undisturbed run that others are compared with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.trainer.corpora import NAMES, SEQ_LEN, write_corpus
from tests.trainer.launch import Run

NUM_STEPS = 24
Configure = Callable[..., Path]


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three corpora, each with `train` and `holdout`."""
    root = tmp_path_factory.mktemp("corpora")
    for name in NAMES:
        write_corpus(root / name / "train", name=name, num_samples=300)
        write_corpus(root / name / "holdout", name=name, num_samples=21, seed=1)
    return root


def run_config(folder: Path, out: Path, /, **changes: Any) -> Path:
    """Write a configuration over the corpora in `folder` into `out`, where its outputs go too."""
    config = {
        "run_name": "test",
        "data_seed": 17,
        "max_duration": f"{NUM_STEPS}ba",
        "global_batch_size": 16,
        "seq_len": SEQ_LEN,
        "model": {"name": "tiny", "vocab_size": 256},
        "device": "cpu",
        "lr_schedule": {"peak": 3e-3, "warmup": "4ba", "floor": 3e-5},
        "corpora": {name: {"local": str(folder / name / "train")} for name in NAMES},
        "shuffle_window": 2,
        "num_workers": 1,
        "schedule": {
            "phases": [
                {"start": "0ba", "mixture": {"c4": 1.0}},
                {"start": "9ba", "mixture": {"c4": 0.7, "code": 0.3}},
                {
                    "start": "15ba",
                    "mixture": {"c4": 0.5, "math": 0.5},
                    "ramp": {"shape": "linear", "length": "4ba"},
                },
            ]
        },
        "save_folder": str(out / "checkpoints"),
        "save_interval": "4ba",
        "autoresume": True,
        "metrics_file": str(out / "metrics.jsonl"),
        "log_interval": 1,
    }
    out.mkdir(parents=True, exist_ok=True)
    path = out / "cfg.yaml"
    path.write_text(yaml.safe_dump(config | changes))
    return path


@pytest.fixture(scope="session")
def undisturbed(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed, with evaluation."""
    out = tmp_path_factory.mktemp("undisturbed")
    config = run_config(corpora, out, eval={"interval": "10ba", "num_samples": 20})
    run = Run([str(config)], out)
    assert run.wait() == 0, run.output
    return out
