"""A run whose rows become twice as long at a switchpoint: what is refused, what is printed, and that it resumes."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.conftest import run_config
from tests.trainer.corpora import write_corpus
from tests.trainer.launch import Run, evaluations_in, last_of_each_step, steps_in, wait_for_step
from trainer.errors import ConfigError
from trainer.feed import _split
from trainer.loading import load
from trainer.run import main
from trainer.sources import open_sources

LONG = 64
SWITCH = 8
NUM_STEPS = 20
YARN = {"kind": "yarn", "factor": 2.0}


@pytest.fixture(scope="module")
def folder(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """c4 as everywhere, code and math in rows of 64."""
    root = tmp_path_factory.mktemp("long")
    (root / "c4").symlink_to(corpora / "c4")
    for name in ("code", "math"):
        write_corpus(root / name / "train", name=name, num_samples=200, seq_len=LONG)
        write_corpus(root / name / "holdout", name=name, num_samples=21, seq_len=LONG, seed=1)
    return root


def phases(**second: Any) -> dict[str, Any]:
    long = {"start": SWITCH, "mixture": {"code": 1.0}, "seq_len": LONG, "rope": YARN}
    return {
        "phases": [
            {"start": 0, "mixture": {"c4": 1.0}},
            {k: v for k, v in {**long, **second}.items() if v is not None},
            {"start": 14, "mixture": {"code": 0.5, "math": 0.5}},
        ]
    }


def long_config(folder: Path, out: Path, **changes: Any) -> Path:
    settings = {"schedule": phases(), "max_duration": f"{NUM_STEPS}ba", "save_interval": "3ba"}
    return run_config(folder, out, **settings | changes)


def test_a_corpus_of_another_length_than_its_phase(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_sources(load(long_config(folder, tmp_path, schedule=phases(seq_len=None))))
    first, second = caught.value.problems
    assert (
        "code/train have 64 tokens, seq_len is 32 where code is read: convert the corpus again with --seq-len 32"
        in first
    )
    assert first.endswith("@ $.corpora.code.local")
    assert second.endswith("@ $.corpora.math.local")


def test_a_held_out_split_of_another_length(folder: Path, tmp_path: Path) -> None:
    corpora = {name: {"local": str(folder / name / "train")} for name in ("c4", "code", "math")}
    corpora["code"]["holdout"] = str(folder / "c4" / "holdout")
    with pytest.raises(ConfigError, match=r"held-out rows in .* have 32 tokens, those of the corpus 64"):
        open_sources(load(long_config(folder, tmp_path, corpora=corpora, eval={"interval": 5})))


def test_a_length_in_tokens_has_no_meaning(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'9e3tok' is in tokens, and phases have rows of another length"):
        load(long_config(folder, tmp_path, max_duration="9e3tok"))


@pytest.mark.parametrize(("given", "found"), [({}, None), ({"eos_token_id": 5}, 5)], ids=["nothing", "an-id"])
def test_the_end_of_documents_must_be_known(
    folder: Path, tmp_path: Path, given: dict[str, int], found: int | None
) -> None:
    config = load(long_config(folder, tmp_path, attention_across_documents=False, **given))
    if found is None:
        with pytest.raises(ConfigError, match=r"no corpus has a manifest .* @ \$\.attention_across_documents"):
            open_sources(config)
    else:
        assert open_sources(config).document_end == found
    assert open_sources(load(long_config(folder, tmp_path, **given))).document_end is None


def test_the_service_is_told_which_rows_are_longer(folder: Path, tmp_path: Path) -> None:
    definition = open_sources(load(long_config(folder, tmp_path))).definition
    assert {name: corpus.get("seq_len") for name, corpus in definition["corpora"].items()} == {
        "c4": None, "code": LONG, "math": LONG,
    }  # fmt: skip
    assert definition["schedule"]["phases"][1]["rope"] == YARN


def test_a_dry_run_shows_lengths_and_positions(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sizes = {**phases(), "batch_sizes": [{"start": SWITCH, "global_batch_size": 8}]}
    assert main([str(long_config(folder, tmp_path, schedule=sizes)), "--dry-run"]) == 0
    assert "tokens / step   16 × 32 = 512" in caplog.text
    assert "  from 8ba    8 × 64 = 512" in caplog.text
    assert "tokens / run    20 steps, 10,240" in caplog.text
    assert "code 1  rows of 64 tokens  rope: kind yarn, factor 2.0" in caplog.text


def test_microbatches_keep_their_number_of_tokens() -> None:
    batch = {"tokens": np.zeros((8, LONG))}
    assert [len(part["tokens"]) for part in _split(batch, 4, seq_len=32)] == [2] * 4
    assert [len(part["tokens"]) for part in _split(batch, 4, seq_len=LONG)] == [4] * 2
    assert [len(part["tokens"]) for part in _split(batch, 1, seq_len=32)] == [1] * 8
    assert [len(part["tokens"]) for part in _split(batch, 4, seq_len=128)] == [4] * 2


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    run = Run([str(long_config(folder, out, eval={"interval": 5, "num_samples": 20}))], out)
    assert run.wait() == 0, run.output
    assert "step 8  rows of 64 tokens, rope {'kind': 'yarn', 'factor': 2.0}" in run.output
    return out


def test_a_run_reads_the_rows_of_each_phase(whole: Path) -> None:
    steps = last_of_each_step(whole / "metrics.jsonl")
    assert [line["tokens"] for line in steps.values()] == [
        16 * (32 * min(step + 1, SWITCH) + LONG * max(step + 1 - SWITCH, 0)) for step in range(NUM_STEPS)
    ]
    assert [steps[step]["counts"] for step in (SWITCH - 1, SWITCH, 14)] == [
        {"c4": 16, "code": 0, "math": 0}, {"c4": 0, "code": 16, "math": 0}, {"c4": 0, "code": 8, "math": 8},
    ]  # fmt: skip
    assert steps[NUM_STEPS - 1]["loss"] < steps[SWITCH]["loss"]
    for losses in evaluations_in(whole / "metrics.jsonl").values():
        assert sorted(losses) == ["c4", "code", "math"]
        assert all(np.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_run_that_was_killed_after_the_switch_goes_on(
    folder: Path, whole: Path, tmp_path: Path, num_ranks: int
) -> None:
    """The same rows and losses at every step; with two ranks losses differ by the order in which floats are added."""
    config = long_config(folder, tmp_path)
    run = Run([str(config)], tmp_path, num_ranks=num_ranks)
    wait_for_step(run, tmp_path / "metrics.jsonl", 13)
    run.kill()
    again = Run([str(config)], tmp_path, num_ranks=num_ranks)
    assert again.wait() == 0, again.output
    assert re.search(r"step (9|12)  rows of 64 tokens, rope {'kind': 'yarn', 'factor': 2.0}", again.output)
    expected = last_of_each_step(whole / "metrics.jsonl")
    found = list(steps_in(tmp_path / "metrics.jsonl"))
    assert sorted({line["step"] for line in found}) == list(range(NUM_STEPS))
    for line in found:
        assert line["digest"] == expected[line["step"]]["digest"]
        assert line["loss"] == pytest.approx(expected[line["step"]]["loss"], rel=0 if num_ranks == 1 else 1e-4)


def test_positions_matter(folder: Path, whole: Path, tmp_path: Path) -> None:
    """Without the scaling the losses are others, from the switchpoint on."""
    run = Run([str(long_config(folder, tmp_path, schedule=phases(rope=None)))], tmp_path)
    assert run.wait() == 0, run.output
    expected, found = (last_of_each_step(path / "metrics.jsonl") for path in (whole, tmp_path))
    same = [expected[step]["loss"] == found[step]["loss"] for step in range(NUM_STEPS)]
    assert same == [True] * SWITCH + [False] * (NUM_STEPS - SWITCH)
    assert [line["digest"] for line in expected.values()] == [line["digest"] for line in found.values()]


def test_an_export_has_the_positions_of_its_step(whole: Path, tmp_path: Path) -> None:
    """Before the switch those of the model, after it YaRN's: what no weight in the checkpoint says."""
    from trainer.export import export

    of_step = {}
    for step in (6, NUM_STEPS):
        export(whole / "checkpoints" / f"step-{step:08d}.pt", tmp_path / str(step))
        of_step[step] = json.loads((tmp_path / str(step) / "config.json").read_text())
    kinds = {step: _kind_of_rope(config) for step, config in of_step.items()}
    assert kinds == {6: "default", NUM_STEPS: "yarn"}
    assert of_step[NUM_STEPS]["max_position_embeddings"] == LONG


def _kind_of_rope(config: dict[str, Any]) -> str:
    """As transformers 4 and 5 write it."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return scaling.get("rope_type", scaling.get("type", "default"))
