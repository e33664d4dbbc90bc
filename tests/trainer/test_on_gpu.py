"""What only a GPU can show: training in bf16, compiled, sharded and killed there. Skipped where torch sees none.

    pytest tests/trainer/test_on_gpu.py -rP     # also tells the largest difference that each test found

Losses are compared step by step with those of a run that nothing disturbed; which samples were trained on must be the
same in all of them.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.conftest import run_config
from tests.trainer.corpora import NAMES, write_corpus
from tests.trainer.launch import Run, last_of_each_step, wait_for_step

pytestmark = [pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"), pytest.mark.timeout(900)]

SEQ_LEN, NUM_STEPS = 256, 48
MODEL = {"name": "tiny", "n_layers": 4, "d_model": 256, "n_heads": 4, "vocab_size": 256}
AT_BF16, SAME = 0.01, 1e-4  # nats; on an H200 0.0023 at most, and none at all
BF16 = {"device": "gpu", "precision": "amp_bf16"}
FP32 = {"device": "gpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corpora of rows that are long enough for the kernels that real runs take."""
    root = tmp_path_factory.mktemp("rows")
    for name in NAMES:
        write_corpus(root / name / "train", name=name, num_samples=900, seq_len=SEQ_LEN)
    return root


def config_of(rows: Path, out: Path, **changes: Any) -> Path:
    settings = {"seq_len": SEQ_LEN, "model": MODEL, "max_duration": f"{NUM_STEPS}ba", "save_interval": "12ba"}
    settings |= {"lr_schedule": {"peak": 1e-3, "warmup": "4ba", "floor": 1e-5}, "num_workers": 2}
    return run_config(rows, out, **settings | changes)


def trained(rows: Path, out: Path, *, version: str = "1", **changes: Any) -> dict[int, dict[str, Any]]:
    """Run to the end; the lines of its steps. `version`: of FSDP, as Composer is told it."""
    run = Run([str(config_of(rows, out, **changes))], out, environment={"FSDP_VERSION": version})
    assert run.wait(600) == 0, run.output
    return last_of_each_step(out / "metrics.jsonl")


@pytest.fixture(scope="module")
def plain(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in bf16 that nothing disturbed."""
    trained(rows, out := tmp_path_factory.mktemp("plain"), **BF16)
    return out


@pytest.fixture(scope="module")
def compiled(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by torch.compile."""
    trained(rows, out := tmp_path_factory.mktemp("compiled"), **BF16, compile=True)
    return out


@pytest.fixture(scope="module")
def in_float32(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    trained(rows, out := tmp_path_factory.mktemp("float32"), **FP32)
    return out


def largest_difference(found: dict[int, dict[str, Any]], expected: Path) -> float:
    """Of the losses, in nats, of all steps that were found; their samples must be the same."""
    reference = last_of_each_step(expected / "metrics.jsonl")
    for step, line in found.items():
        assert line["digest"] == reference[step]["digest"], step
    difference = max(abs(line["loss"] - reference[step]["loss"]) for step, line in found.items())
    print(f"{len(found)} steps, largest difference {difference:.2g}, last loss {found[NUM_STEPS - 1]['loss']:.4f}")
    return difference


def test_bf16_learns_as_float32_does(plain: Path, in_float32: Path) -> None:
    found = last_of_each_step(plain / "metrics.jsonl")
    assert found[NUM_STEPS - 1]["loss"] < found[0]["loss"] - 1
    assert largest_difference(found, in_float32) < AT_BF16


def test_compiled_learns_as_plain_does(plain: Path, compiled: Path) -> None:
    found = last_of_each_step(compiled / "metrics.jsonl")
    assert largest_difference(found, plain) < AT_BF16


@pytest.mark.parametrize("then", [False, True], ids=["compiled, then plain", "plain, then compiled"])
def test_compiled_and_plain_load_each_other(
    then: bool, rows: Path, plain: Path, compiled: Path, tmp_path: Path
) -> None:
    before, after = (plain, compiled) if then else (compiled, plain)
    checkpoint = before / "checkpoints" / "step-00000012.pt"
    found = trained(rows, tmp_path, **BF16, compile=then, load_path=str(checkpoint), autoresume=False)
    assert list(found) == list(range(12, NUM_STEPS))
    assert largest_difference(found, after) < AT_BF16


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("state", ["full", "sharded"])
def test_one_gpu_with_fsdp_is_one_without(
    state: str, version: str, rows: Path, in_float32: Path, tmp_path: Path
) -> None:
    """Also from its checkpoint of step 24 on."""
    fsdp = {"sharding": "full", "mixed_precision": "full", "state": state}
    found = trained(rows, tmp_path / "whole", **FP32, fsdp=fsdp, version=version)
    assert largest_difference(found, in_float32) < SAME
    (checkpoint,) = (tmp_path / "whole" / "checkpoints").glob("step-00000024*")
    resumed = {"load_path": str(checkpoint), "autoresume": False}
    found = trained(rows, tmp_path / "resumed", **FP32, fsdp=fsdp, version=version, **resumed)
    assert list(found) == list(range(24, NUM_STEPS))
    assert largest_difference(found, in_float32) < SAME


@pytest.mark.parametrize("version", ["1", "2"])
def test_fsdp_in_bf16(version: str, rows: Path, plain: Path, tmp_path: Path) -> None:
    found = trained(rows, tmp_path, **BF16, fsdp={"sharding": "full"}, version=version)
    assert largest_difference(found, plain) < AT_BF16


def test_recomputed_activations_change_nothing(rows: Path, plain: Path, tmp_path: Path) -> None:
    found = trained(rows, tmp_path, **BF16, activation_checkpointing=True)
    assert largest_difference(found, plain) < SAME


def test_a_killed_run_goes_on_as_if_nothing_had_happened(rows: Path, plain: Path, tmp_path: Path) -> None:
    config = config_of(rows, tmp_path, **BF16)
    for step in (5, 20, 38):
        run = Run([str(config)], tmp_path)
        wait_for_step(run, tmp_path / "metrics.jsonl", step)
        run.kill()
    found = trained(rows, tmp_path, **BF16)
    assert list(found) == list(range(NUM_STEPS))
    assert largest_difference(found, plain) < SAME
