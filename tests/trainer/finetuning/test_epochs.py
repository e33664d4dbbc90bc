"""Lengths in epochs."""

from pathlib import Path
from typing import Any

import pytest

from tests.trainer.finetuning.corpora import write_examples
from trainer.errors import ConfigError
from trainer.finetuning.epochs import in_steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("set") / "train"
    write_examples(path, num_samples=30)
    return path


def run_of(folder: Path, **changes: Any) -> dict[str, Any]:
    return {"global_batch_size": 16, "corpora": {"a": {"local": str(folder)}}, **changes}


@pytest.mark.parametrize(
    ("length", "steps"), [("4ep", "8ba"), ("1ep", "2ba"), (" 0.5ep", "1ba"), ("4.3ep", "9ba"), ("8ba", "8ba"), (8, 8)]
)
def test_a_length_is_rounded_up_to_steps(length: str | int, steps: str | int, folder: Path) -> None:
    assert in_steps(run_of(folder, max_duration=length))["max_duration"] == steps


def test_other_lengths_may_be_in_epochs_too(folder: Path) -> None:
    raw = run_of(folder, max_duration="4ep", save_interval="2ep", eval={"interval": "1ep", "num_samples": 3})
    found = in_steps(raw)
    assert (found["save_interval"], found["eval"]) == ("4ba", {"interval": "2ba", "num_samples": 3})
    assert raw["eval"]["interval"] == "1ep"


def test_what_has_no_epochs_is_refused(folder: Path, tmp_path: Path) -> None:
    two = {"a": {"local": str(folder)}, "b": {"local": str(folder)}}
    for changes, message in (
        ({"corpora": two}, r"exactly one corpus.* @ \$\.max_duration"),
        ({"schedule": {"batch_sizes": []}}, r"constant batch size.* @ \$\.max_duration"),
        ({"corpora": {"a": {"local": str(tmp_path / "x")}}}, r"no corpus at .* @ \$\.corpora\.a\.local"),
        ({"corpora": {"a": {}}}, r"a folder is needed.* @ \$\.corpora\.a\.local"),
    ):
        with pytest.raises(ConfigError, match=message):
            in_steps(run_of(folder, **{"max_duration": "4ep", **changes}))
