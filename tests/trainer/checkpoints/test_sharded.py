"""Checkpoints in parts, of runs whose ranks each hold a share of the model (FSDP2, which runs on CPUs too)."""

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3 import BUCKET, s3_server
from tests.trainer.conftest import NUM_STEPS, run_config
from tests.trainer.launch import Run, last_of_each_step, wait_for_step
from trainer.checkpoints import sharded
from trainer.checkpoints.bucket import Bucket
from trainer.checkpoints.files import complete_checkpoints, damage
from trainer.checkpoints.reading import ALLOWED
from trainer.errors import ResumeError

FSDP = {"FSDP_VERSION": "2", "CUDA_VISIBLE_DEVICES": ""}  # on a CPU, which a configuration cannot ask for by name
PARTS = {"fsdp": {"sharding": "full", "state": "sharded"}, "device": "auto"}


@pytest.fixture(scope="module")
def stopped(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two ranks that was killed after its checkpoint of step 8."""
    out = tmp_path_factory.mktemp("stopped")
    run = Run([str(run_config(corpora, out, **PARTS))], out, num_ranks=2, environment=FSDP)
    wait_for_step(run, out / "metrics.jsonl", 9)
    run.kill()
    return out


@pytest.fixture
def checkpoint(stopped: Path, tmp_path: Path) -> Path:
    newest = complete_checkpoints(stopped / "checkpoints")[0]
    return Path(shutil.copytree(newest, tmp_path / newest.name))


def test_it_goes_on_on_any_number_of_ranks(corpora: Path, stopped: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(stopped, tmp_path / "out"))
    run = Run([str(run_config(corpora, out, **PARTS))], out, environment=FSDP)
    assert run.wait() == 0, run.output
    assert "going on at step" in run.output
    found, expected = (last_of_each_step(folder / "metrics.jsonl") for folder in (out, undisturbed))
    assert list(found) == list(range(NUM_STEPS))
    for step, line in found.items():
        assert line["digest"] == expected[step]["digest"]
        assert line["loss"] == pytest.approx(expected[step]["loss"], abs=1e-4), step


def test_parts_of_two_ranks_and_a_mark_that_knows_them(checkpoint: Path) -> None:
    names = {path.name for path in checkpoint.iterdir()}
    assert names == {".metadata", "__0_0.distcp", "__1_0.distcp", "complete.json", "state.pt"}
    assert damage(checkpoint) is None
    sharded.check_safe(checkpoint, ALLOWED)


def test_a_part_that_is_missing_or_short_makes_it_none(checkpoint: Path) -> None:
    part = checkpoint / "__1_0.distcp"
    part.write_bytes(part.read_bytes()[:-1])
    assert complete_checkpoints(checkpoint.parent) == []
    part.unlink()
    assert complete_checkpoints(checkpoint.parent) == []


def test_a_part_that_was_changed_is_found(checkpoint: Path) -> None:
    part = checkpoint / "__1_0.distcp"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    assert damage(checkpoint) == part.name


class Runs:
    """A pickle that runs a program."""

    def __reduce__(self) -> tuple[object, ...]:
        return shutil.rmtree, ("/no/such/folder",)


def test_metadata_that_could_run_programs_is_not_read(checkpoint: Path) -> None:
    (checkpoint / ".metadata").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(ResumeError, match=r"could run programs \(shutil.rmtree\)"):
        sharded.check_safe(checkpoint, ALLOWED)


def test_a_value_that_could_run_programs_is_not_read(checkpoint: Path) -> None:
    import torch

    metadata = pickle.loads((checkpoint / ".metadata").read_bytes())  # our own
    place = next(place for index, place in metadata.storage_data.items() if "total_wct" in index.fqn)
    evil = checkpoint / "evil"
    torch.save(Runs(), evil)
    place.relative_path, place.offset, place.length = "evil", 0, evil.stat().st_size
    (checkpoint / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(ResumeError, match=r"rmtree|Weights only"):
        sharded.check_safe(checkpoint, ALLOWED)


@pytest.fixture
def server() -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        yield environment


def test_parts_go_to_a_bucket_and_come_back(
    server: dict[str, str], corpora: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    bucket = Bucket(f"s3://{BUCKET}/parts")
    changes = {"save_folder": bucket.address, "save_spool": str(tmp_path / "spool"), "save_interval": "8ba"}
    config = run_config(corpora, tmp_path, **changes, **PARTS, save_num_checkpoints_to_keep=1)
    run = Run([str(config)], tmp_path, num_ranks=2, environment={**server, **FSDP})
    wait_for_step(run, tmp_path / "metrics.jsonl", 10)
    run.kill()
    assert bucket.names()[-1].is_sharded
    run = Run([str(config)], tmp_path, environment={**server, **FSDP})
    assert run.wait() == 0, run.output
    found, expected = (last_of_each_step(folder / "metrics.jsonl") for folder in (tmp_path, undisturbed))
    assert [line["digest"] for line in found.values()] == [line["digest"] for line in expected.values()]
    names = [str(name) for name in bucket.names()]
    assert names == ["step-00000009-switchpoint", "step-00000015-switchpoint", "step-00000024"]
    assert not list((tmp_path / "spool").iterdir())


def test_a_model_is_exported_from_parts(checkpoint: Path, undisturbed: Path, tmp_path: Path) -> None:
    """By one process, without a group; the weights are those of the same step of the run on one rank."""
    from transformers import AutoModelForCausalLM

    from trainer.export import export, read_checkpoint

    step = int(checkpoint.name.split("-")[1])
    whole, _ = read_checkpoint(undisturbed / "checkpoints" / f"step-{step:08d}.pt")
    export(checkpoint, tmp_path / "model")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "model", local_files_only=True).state_dict()
    assert found.keys() == whole.keys()
    for name, weight in found.items():
        assert weight.numpy() == pytest.approx(whole[name].numpy(), abs=1e-3), name
