"""Which checkpoint a run starts from, and what happens to files that are not whole."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composer.utils import reproducibility

from tests.trainer.conftest import run_config
from tests.trainer.launch import Run
from trainer.checkpoints.files import complete_checkpoints
from trainer.checkpoints.resume import Randomness, resume_point
from trainer.config import Config
from trainer.errors import ResumeError
from trainer.loading import load


@pytest.fixture
def folder(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of a finished run's checkpoints, at steps 4, 8, ..., 24."""
    return Path(shutil.copytree(undisturbed / "checkpoints", tmp_path / "checkpoints"))


def config_of(corpora: Path, out: Path, **changes: Any) -> Config:
    return load(run_config(corpora, out, **changes))


def test_the_newest_whole_checkpoint_is_taken(folder: Path, corpora: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = config_of(corpora, folder.parent)
    assert resume_point(config) == folder / "step-00000024.pt"
    newest = folder / "step-00000024.pt"
    newest.write_bytes(newest.read_bytes()[:-500])
    (folder / "step-00000032.tmp").write_bytes(b"begun")
    (folder / "step-00000099.pt").mkdir()
    (folder / "step-x.pt").write_bytes(b"")
    assert resume_point(config) == folder / "step-00000020.pt"
    assert "step-00000024.pt is not a whole checkpoint" in caplog.text


def test_an_empty_folder_is_a_start_from_nothing(corpora: Path, tmp_path: Path) -> None:
    assert resume_point(config_of(corpora, tmp_path)) is None


def test_without_autoresume_checkpoints_of_another_run_are_not_mixed_up(folder: Path, corpora: Path) -> None:
    with pytest.raises(ResumeError, match=r"already holds step-00000024.pt: go on from it with autoresume=true"):
        resume_point(config_of(corpora, folder.parent, autoresume=False))
    earlier = str(folder / "step-00000008.pt")
    with pytest.raises(ResumeError, match="already holds"):
        resume_point(config_of(corpora, folder.parent, autoresume=False, load_path=earlier))


def test_load_path_must_be_a_checkpoint(corpora: Path, tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="load_path must name a checkpoint"):
        resume_point(config_of(corpora, tmp_path, load_path=str(tmp_path / "nothing.pt")))


def test_only_the_newest_are_kept_and_leftovers_go(corpora: Path, tmp_path: Path) -> None:
    config = run_config(corpora, tmp_path, save_num_checkpoints_to_keep=2, max_duration="19ba")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000002.tmp").write_bytes(b"begun before a crash")
    run = Run([str(config)], tmp_path)
    assert run.wait() == 0, run.output
    names = [path.name for path in complete_checkpoints(tmp_path / "checkpoints")]
    at_switchpoints = ["step-00000009-switchpoint.pt", "step-00000015-switchpoint.pt"]
    assert names == [*at_switchpoints, "step-00000016.pt", "step-00000019.pt"]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 4


def test_a_checkpoint_that_cannot_be_written_ends_the_run_with_one_line(corpora: Path, tmp_path: Path) -> None:
    config = run_config(corpora, tmp_path)
    blocked = tmp_path / "checkpoints" / "step-00000008.pt"
    (blocked / "in the way").mkdir(parents=True)
    run = Run([str(config)], tmp_path)
    assert run.wait() == 1
    assert f"the checkpoint {blocked} could not be written: Is a directory" in run.output.splitlines()[-1]
    assert "Traceback" not in run.output
    assert [path.name for path in complete_checkpoints(tmp_path / "checkpoints")] == ["step-00000004.pt"]


def test_the_random_state_is_put_back_before_the_first_step_and_once() -> None:
    of_ranks = reproducibility.get_rng_state()
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    callback = Randomness(of_ranks)
    callback.batch_start(None, None)  # type: ignore[arg-type]
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])  # noqa: NPY002
    callback.batch_start(None, None)  # type: ignore[arg-type]
    assert not torch.equal(torch.rand(3), expected[0])
