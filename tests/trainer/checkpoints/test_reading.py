"""A checkpoint that is damaged, foreign, dangerous or of another run is refused, with both sides shown."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.conftest import run_config
from trainer.checkpoints.files import damage
from trainer.checkpoints.reading import check, made_with
from trainer.checkpoints.resume import resume_point
from trainer.errors import ResumeError
from trainer.loading import load


@pytest.fixture
def checkpoint(undisturbed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(undisturbed / "checkpoints" / "step-00000012.pt", tmp_path))


def checked(path: Path, corpora: Path, **changes: Any) -> list[str]:
    return check(path, load(run_config(corpora, path.parent / "config", **changes)))


def test_our_own_may_be_loaded(checkpoint: Path, corpora: Path) -> None:
    assert checked(checkpoint, corpora) == []


class Runs:
    """A pickle that runs a program."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("echo this ran > ran",)


def test_one_that_could_run_programs_is_refused_and_does_not(
    checkpoint: Path, corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    saved = torch.load(checkpoint, weights_only=False)
    saved["state"]["callbacks"]["Checkpoints"] = Runs()
    torch.save(saved, checkpoint)
    with pytest.raises(ResumeError, match=r"it could run programs \(posix.system\)"):
        checked(checkpoint, corpora)
    assert not Path("ran").exists()


def test_a_file_of_another_kind_is_refused(checkpoint: Path, corpora: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, checkpoint)
    with pytest.raises(ResumeError, match="is no checkpoint of this trainer"):
        checked(checkpoint, corpora)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": {"name": "tiny", "vocab_size": 256, "n_layers": 3}}, r"another model: model.n_layers was 2, is 3"),
        ({"optimizer": {"betas": [0.9, 0.99]}}, r"optimizer.betas was \[0.9, 0.95\], is \[0.9, 0.99\]"),
        ({"optimizer": {"eps": 1e-6}}, r"an optimizer with other settings: optimizer.eps was 1e-08, is 1e-06"),
        ({"optimizer": {"weight_decay": 0.0}}, r"optimizer.weight_decay was 0.1, is 0.0"),
    ],
    ids=["layers", "betas", "eps", "weight_decay"],
)
def test_what_the_state_depends_on_must_be_what_it_was(
    changes: dict[str, Any], expected: str, checkpoint: Path, corpora: Path
) -> None:
    with pytest.raises(ResumeError, match=expected):
        checked(checkpoint, corpora, **changes)


def test_what_may_change_is_told(checkpoint: Path, corpora: Path) -> None:
    changes = {
        "lr_schedule": {"peak": 1e-3, "warmup": "4ba", "floor": 3e-5},
        "max_duration": "30ba",
        "optimizer": {"clip_norm": 0.5},
        "num_workers": 2,
        "device_train_microbatch_size": 2,
    }
    assert checked(checkpoint, corpora, **changes) == [
        "lr_schedule.peak was 0.003, is 0.001",
        "max_duration was 24ba, is 30ba",
        "clip_norm was 1.0, is 0.5",
    ]


def test_what_is_kept_names_every_setting_of_the_optimizer(corpora: Path, tmp_path: Path) -> None:
    config = load(run_config(corpora, tmp_path))
    kept = made_with(config)
    assert {*kept["optimizer"], "clip_norm"} == set(type(config.optimizer).model_fields)


def test_a_flipped_bit_is_found_and_the_one_before_is_taken(
    undisturbed: Path, corpora: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(undisturbed / "checkpoints", tmp_path / "checkpoints"))
    newest = folder / "step-00000024.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert damage(newest)
    assert resume_point(load(run_config(corpora, tmp_path))) == folder / "step-00000020.pt"
    assert "step-00000024.pt is damaged" in caplog.text
    for other in folder.glob("*.pt"):
        if other != newest:
            other.unlink()
    with pytest.raises(ResumeError, match="is damaged, and there is no earlier one"):
        resume_point(load(run_config(corpora, tmp_path)))
