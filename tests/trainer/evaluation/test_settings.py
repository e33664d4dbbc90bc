"""The section `eval`: what may stand there, the reference, and the size of a batch."""

from pathlib import Path
from typing import Any

import pytest

from tests.trainer.test_loading import GOOD, problems_of, write
from trainer.config import Config
from trainer.evaluation.settings import batch_size_of, lines, reference_of
from trainer.loading import load


def config_of(folder: Path, *overrides: str, **changes: Any) -> Config:
    return load(write(folder, {"eval": {}, **changes}), overrides)


def test_the_reference_is_the_corpus_that_most_is_read_of_at_first(tmp_path: Path) -> None:
    assert reference_of(config_of(tmp_path)) == "c4"
    assert reference_of(config_of(tmp_path, "eval.reference=starcoder")) == "starcoder"
    mixture = {"starcoder": 0.5, "c4": 0.5}
    assert reference_of(config_of(tmp_path, schedule={"phases": [{"start": 0, "mixture": mixture}]})) == "c4"
    mixture = {"starcoder": 0.6, "c4": 0.4}
    assert reference_of(config_of(tmp_path, schedule={"phases": [{"start": 0, "mixture": mixture}]})) == "starcoder"


def test_a_reference_that_is_no_corpus_is_refused(tmp_path: Path) -> None:
    assert problems_of(write(tmp_path, {"eval": {"reference": "c5"}})) == [
        "unknown corpus 'c5'; the corpora are c4, starcoder @ $.eval.reference"
    ]


def test_the_size_of_a_batch_does_not_depend_on_the_ranks(tmp_path: Path) -> None:
    assert batch_size_of(config_of(tmp_path)) == GOOD["global_batch_size"] == 16
    assert batch_size_of(config_of(tmp_path, "global_batch_size=8")) == 8
    assert batch_size_of(config_of(tmp_path, "global_batch_size=1024")) == 16
    assert batch_size_of(config_of(tmp_path, "device_train_microbatch_size=4")) == 4
    assert batch_size_of(config_of(tmp_path, "device_train_microbatch_size=4", "eval.batch_size=32")) == 32


@pytest.mark.parametrize("value", ["some", 0, -1])
def test_samples_are_a_number_or_all(tmp_path: Path, value: Any) -> None:
    problems = problems_of(write(tmp_path, {"eval": {"num_samples": value}}))
    assert all("@ $.eval.num_samples" in problem for problem in problems)


def test_a_dry_run_says_what_will_be_evaluated(tmp_path: Path) -> None:
    config = config_of(tmp_path, "eval.num_samples=all", "eval.interval=7ba")
    (line,) = lines(config)
    assert line == "evaluation      every 7 steps, all samples a corpus in batches of 16; forgetting on c4"
    assert list(lines(load(write(tmp_path, {})))) == []
