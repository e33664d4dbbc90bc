"""Finetuning runs: the losses of a plain transformers loop, whatever the topology, also after a kill; C4 after it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainer.conftest import run_config
from tests.trainer.corpora import write_corpus
from tests.trainer.finetuning.corpora import SEQ_LEN, VOCAB_SIZE, make_rows, write_examples
from tests.trainer.launch import Run, evaluations_in, last_of_each_step, wait_for_step
from trainer.config import Config
from trainer.finetuning.examples import unpack
from trainer.loading import load
from trainer.models.causal_lm import build_model, token_losses
from trainer.models.settings import ModelConfig
from trainer.record import digest_rows
from trainer.sources import open_sources

NUM_SAMPLES, BATCH, NUM_STEPS = 30, 12, 10  # 4 epochs of 30 are 120 samples, 10 steps


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sft")
    write_examples(root / "gsm8k" / "train", num_samples=NUM_SAMPLES)
    write_examples(root / "gsm8k" / "holdout", num_samples=11, seed=1)
    write_corpus(root / "c4" / "holdout", name="c4", num_samples=9, seed=1)
    return root


def configure(data: Path, out: Path, /, *, mask_prompt: bool = True, **changes: Any) -> Path:
    corpus = {"local": str(data / "gsm8k" / "train"), "mask_prompt": mask_prompt}
    given = {
        "max_duration": "4ep",
        "global_batch_size": BATCH,
        "corpora": {"gsm8k": corpus},
        "schedule": {"phases": [{"start": "0ba", "mixture": {"gsm8k": 1.0}}]},
        "lr_schedule": {"peak": 2e-3, "warmup": "0.1dur", "floor": 0.0},
        "save_interval": "3ba",
    }
    return run_config(data, out, **given | changes)


def finish(path: Path, **changes: Any) -> dict[int, dict[str, Any]]:
    """Start the run at `path` and wait for it; the lines of its steps."""
    run = Run([str(path)], path.parent, **changes)
    assert run.wait() == 0, run.output
    return last_of_each_step(path.parent / "metrics.jsonl")


def losses(lines: dict[int, dict[str, Any]]) -> list[float]:
    return [lines[step]["loss"] for step in range(NUM_STEPS)]


def weights(out: Path) -> dict[str, torch.Tensor]:
    newest = max((out / "checkpoints").glob("step-*.pt"))
    return torch.load(newest, weights_only=False)["state"]["model"]


@pytest.fixture(scope="module")
def masked(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed, with evaluation before and after."""
    out = tmp_path_factory.mktemp("masked")
    c4 = {"c4": {"local": str(data / "c4" / "holdout")}}
    given = {"corpora": c4, "before_training": True, "reference": "c4", "batch_size": 4, "interval": "1dur"}
    finish(configure(data, out, eval=given))
    return out


def rows_in_order(config: Config) -> list[np.ndarray]:
    """The rows of each step, as the plan has them, read by the shards' own numbers."""
    plan = open_sources(config).plan()
    rows = make_rows(NUM_SAMPLES)
    return [rows[plan.batch(step).sample_id] for step in range(config.num_steps)]


def plain_losses(config: Config, rates: list[float], *, mask_prompt: bool) -> list[float]:
    """What anyone would write: transformers' own loss on padded ids with labels of -100, AdamW, clipping."""
    model = build_model(config.model, seq_len=SEQ_LEN, seed=config.seed).model.train()
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8)
    found = []
    for rows, rate in zip(rows_in_order(config), rates, strict=True):
        ids = torch.from_numpy(rows[:, 2:].astype(np.int64))
        labels = ids.clone()
        for label, (num_prompt, num_tokens) in zip(labels, rows[:, :2].tolist(), strict=True):
            label[num_tokens:] = -100
            if mask_prompt:
                label[:num_prompt] = -100
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("mask_prompt", [True, False], ids=["masked", "whole"])
def test_losses_are_those_of_a_plain_transformers_loop(
    mask_prompt: bool, masked: Path, data: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    out = masked if mask_prompt else tmp_path
    lines = (
        last_of_each_step(masked / "metrics.jsonl")
        if mask_prompt
        else finish(configure(data, tmp_path, mask_prompt=False))
    )
    config = load(out / "cfg.yaml")
    assert config.num_steps == len(lines) == NUM_STEPS
    expected = plain_losses(config, [lines[step]["lr"] for step in range(NUM_STEPS)], mask_prompt=mask_prompt)
    assert losses(lines) == pytest.approx(expected, abs=1e-5)
    assert lines[NUM_STEPS - 1]["lr"] == 0.0
    assert lines[0]["lr"] == 2e-3


def test_the_file_of_metrics_tells_which_examples(masked: Path) -> None:
    lines = last_of_each_step(masked / "metrics.jsonl")
    tokens = 0
    for step, rows in enumerate(rows_in_order(load(masked / "cfg.yaml"))):
        examples = [row[2 : 2 + row[1]] for row in rows]
        tokens += sum(map(len, examples))
        assert lines[step]["digest"] == digest_rows(examples)
        assert lines[step]["tokens"] == tokens


@pytest.mark.parametrize(
    ("num_ranks", "microbatch"), [(1, 1), (1, 5), (2, 4)], ids=["single rows", "uneven", "two ranks"]
)
def test_the_loss_is_the_mean_over_targets_whatever_the_topology(
    num_ranks: int, microbatch: int, masked: Path, data: Path, tmp_path: Path
) -> None:
    path = configure(data, tmp_path, device_train_microbatch_size=microbatch)
    lines = finish(path, num_ranks=num_ranks)
    expected = last_of_each_step(masked / "metrics.jsonl")
    assert losses(lines) == pytest.approx(losses(expected), abs=1e-5)
    assert [lines[step]["digest"] for step in lines] == [expected[step]["digest"] for step in expected]
    ours, theirs = weights(tmp_path), weights(masked)
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, atol=2e-4, rtol=0, msg=name)


def test_a_killed_run_goes_on_with_the_same_batches(masked: Path, data: Path, tmp_path: Path) -> None:
    path = configure(data, tmp_path)
    run = Run([str(path)], tmp_path)
    wait_for_step(run, tmp_path / "metrics.jsonl", 4)
    run.kill()
    lines, expected = finish(path), last_of_each_step(masked / "metrics.jsonl")
    assert [lines[step]["digest"] for step in range(NUM_STEPS)] == [
        expected[step]["digest"] for step in range(NUM_STEPS)
    ]
    assert losses(lines) == pytest.approx(losses(expected), abs=1e-5)


def test_forgetting_is_measured_from_before_the_first_step(masked: Path) -> None:
    found = evaluations_in(masked / "metrics.jsonl")
    assert list(found) == [0, NUM_STEPS]
    assert found[NUM_STEPS]["gsm8k"] < found[0]["gsm8k"]
    assert found[0]["c4"] == pytest.approx(np.log(VOCAB_SIZE), rel=0.1), "of a model that has seen nothing"
    text = (masked / "metrics.jsonl").read_text()
    assert '"forgetting": {"c4": {"0": ' in text


def test_weights_of_a_checkpoint_to_start_from(masked: Path, data: Path, tmp_path: Path) -> None:
    newest = max((masked / "checkpoints").glob("step-*.pt"))
    given = {"interval": "1dur", "before_training": True, "batch_size": 4}
    path = configure(data, tmp_path, load_weights_from=str(newest), max_duration="2ba", save_interval="1ba", eval=given)
    lines = finish(path)
    assert sorted(lines) == [0, 1], "it is a run of its own, from step 0"
    before = evaluations_in(tmp_path / "metrics.jsonl")[0]["gsm8k"]
    assert before == pytest.approx(evaluations_in(masked / "metrics.jsonl")[NUM_STEPS]["gsm8k"], abs=1e-6)
    shutil.rmtree(tmp_path / "checkpoints")
    run = Run([str(path), "model.d_model=128"], tmp_path)
    assert run.wait() == 2
    assert "holds another model" in run.output


def test_what_fills_rows_up_changes_nothing() -> None:
    config = ModelConfig.model_validate({"name": "tiny", "vocab_size": VOCAB_SIZE})
    model = build_model(config, seq_len=SEQ_LEN, seed=0)
    rows = make_rows(6)[:5]
    batch = unpack(rows, masks_prompt=True)
    short = {"tokens": torch.from_numpy(batch.tokens), "loss_mask": torch.from_numpy(batch.loss_mask)}
    filled = np.full((5, SEQ_LEN), 99, np.uint16)
    filled[:, : batch.tokens.shape[1]] = np.where(
        np.arange(batch.tokens.shape[1]) < batch.lengths[:, None], batch.tokens, 99
    )
    mask = np.zeros((5, SEQ_LEN), bool)
    mask[:, : batch.loss_mask.shape[1]] = batch.loss_mask
    long = {"tokens": torch.from_numpy(filled), "loss_mask": torch.from_numpy(mask)}
    assert batch.tokens.shape[1] < SEQ_LEN
    with torch.no_grad():
        torch.testing.assert_close(token_losses(model(short), short), token_losses(model(long), long))
