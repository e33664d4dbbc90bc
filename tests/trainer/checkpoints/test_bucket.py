"""Checkpoints in object storage, over HTTP against a real S3-protocol server: whole, newest, verified, removed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.s3 import BUCKET, s3_server, upload
from tests.trainer.conftest import NUM_STEPS, run_config
from tests.trainer.launch import Run, last_of_each_step, steps_in, wait_for_step
from trainer.checkpoints.bucket import Bucket, StorageError
from trainer.checkpoints.files import MARK
from trainer.checkpoints.names import Name
from trainer.checkpoints.uploads import Uploads
from trainer.errors import CheckpointError


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """The environment in which boto3 finds the server."""
    with s3_server() as environment:
        yield environment


@pytest.fixture
def bucket(server: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Bucket:
    """An empty place of its own."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return Bucket(f"s3://{BUCKET}/{request.node.name}")


def written(path: Path, text: str = "state") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_what_is_put_there_comes_back(bucket: Bucket, tmp_path: Path) -> None:
    bucket.upload(written(tmp_path / "a", "x" * 9_000_000), "step-00000004.pt")  # in two parts
    assert bucket.fetch(Name(4, False, False), tmp_path).read_text() == "x" * 9_000_000


def test_names_are_sorted_by_step_and_a_folder_is_there_when_its_mark_is(bucket: Bucket, tmp_path: Path) -> None:
    file = written(tmp_path / "a")
    for name in ("step-123456789.pt", "step-00000008/.metadata", f"step-00000004/{MARK}", "step-x.pt", "ledger.jsonl"):
        bucket.upload(file, name)
    assert [str(name) for name in bucket.names()] == ["step-00000004", "step-123456789.pt"]


def test_what_was_damaged_there_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    bucket.upload(written(tmp_path / "a"), "step-00000004.pt")
    head = bucket._client.head_object(Bucket=BUCKET, Key=bucket._prefix + "step-00000004.pt")
    bucket._client.put_object(
        Bucket=BUCKET, Key=bucket._prefix + "step-00000004.pt", Body=b"other", Metadata=head["Metadata"]
    )
    with pytest.raises(StorageError, match="is damaged: SHA-256"):
        bucket.fetch(Name(4, False, False), tmp_path)
    assert not (tmp_path / "step-00000004.pt").exists()


def test_a_part_that_would_lie_elsewhere_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    told = '{"parts": {"../elsewhere": {"size": 5, "sha256": ""}}, "made_with": {}}'
    bucket.upload(written(tmp_path / "a", told), f"step-00000004/{MARK}")
    bucket.upload(written(tmp_path / "b"), "elsewhere")
    with pytest.raises(StorageError, match=r"names a part '\.\./elsewhere'"):
        bucket.fetch(Name(4, False, True), tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_bucket_that_is_not_there_is_told_at_once(bucket: Bucket) -> None:
    with pytest.raises(StorageError, match="NoSuchBucket") as raised:
        Bucket("s3://no-such-bucket/x").names()
    assert raised.value.is_final


class Outage:
    """A bucket that does not answer until `is_over`."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.is_over = False

    def upload(self, path: Path, name: str) -> None:
        if not self.is_over:
            raise StorageError("cannot write")
        self.bucket.upload(path, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bucket, name)


def test_an_outage_costs_no_checkpoint_at_a_switchpoint(
    bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be sent goes with the next; of the ordinary ones the newest alone, so the spool stays small."""
    outage = Outage(bucket)
    uploads = Uploads(outage, num_to_keep=1)  # type: ignore[arg-type]
    spool = tmp_path / "spool"
    for name in ("step-00000004.pt", "step-00000005-switchpoint.pt", "step-00000008.pt"):
        shutil.make_archive(str(spool / name), "zip", Path(__file__).parent, "__init__.py")
        (spool / f"{name}.zip").rename(spool / name)
        uploads.settle()
        uploads.send(spool / name)
    uploads.settle()
    assert "cannot write" in caplog.text
    assert sorted(path.name for path in spool.iterdir()) == ["step-00000005-switchpoint.pt", "step-00000008.pt"]
    with pytest.raises(CheckpointError, match=r"step-00000008.pt is whole: put it there by hand, or go on from it"):
        uploads.finish()
    outage.is_over = True
    uploads.finish()
    assert [str(name) for name in bucket.names()] == ["step-00000005-switchpoint.pt", "step-00000008.pt"]
    assert not list(spool.iterdir())


def remote_config(corpora: Path, out: Path, bucket: Bucket, **changes: Any) -> Path:
    changes = {"save_folder": bucket.address, "save_spool": str(out / "spool"), **changes}
    return run_config(corpora, out, save_num_checkpoints_to_keep=1, **changes)


def test_a_killed_run_goes_on_from_there_on_two_ranks(
    bucket: Bucket, server: dict[str, str], corpora: Path, undisturbed: Path, tmp_path: Path
) -> None:
    config = remote_config(corpora, tmp_path, bucket, save_interval="2ba")
    metrics = tmp_path / "metrics.jsonl"
    run = Run([str(config)], tmp_path, environment=server)
    wait_for_step(run, metrics, 12)
    run.kill()
    assert [name for name in bucket.names() if name.at_switchpoint]
    newest = bucket.names()[-1].step
    shutil.rmtree(tmp_path / "spool")  # the next machine
    run = Run([str(config)], tmp_path, num_ranks=2, environment=server)
    assert run.wait() == 0, run.output
    assert f"going on at step {newest}" in run.output
    found, expected = (last_of_each_step(out / "metrics.jsonl") for out in (tmp_path, undisturbed))
    assert list(found) == list(range(NUM_STEPS))
    assert [line["digest"] for line in found.values()] == [line["digest"] for line in expected.values()]
    names = [str(name) for name in bucket.names()]
    assert names == ["step-00000009-switchpoint.pt", "step-00000015-switchpoint.pt", "step-00000024.pt"]
    assert not list((tmp_path / "spool").iterdir())


def test_storage_that_stays_away_is_an_error_at_the_end_only(corpora: Path, tmp_path: Path) -> None:
    """From a start that finds it to an end that does not: the last checkpoint is kept, and is good to go on from."""
    with s3_server() as environment:
        environment = {"AWS_MAX_ATTEMPTS": "1", **environment}
        changes = {"save_folder": f"s3://{BUCKET}/away", "save_at_switchpoints": False, "save_interval": "8ba"}
        config = run_config(corpora, tmp_path, save_spool=str(tmp_path / "spool"), **changes)
        run = Run([str(config)], tmp_path, environment=environment)
        wait_for_step(run, tmp_path / "metrics.jsonl", 1)
        run.pause()
    run.go_on()
    assert run.wait() == 1, run.output
    last = run.output.splitlines()[-1]
    assert "cannot write" in last
    assert "step-00000024.pt is whole" in last
    assert "Traceback" not in run.output
    assert len(list(steps_in(tmp_path / "metrics.jsonl"))) == NUM_STEPS
    there = [path.name for path in (tmp_path / "spool").iterdir()]
    assert there == ["step-00000024.pt"]


def test_what_lies_there_can_be_branched_off_from(
    bucket: Bucket, server: dict[str, str], corpora: Path, undisturbed: Path, tmp_path: Path
) -> None:
    name = "step-00000012.pt"
    address = upload(server, undisturbed / "checkpoints", "branch")
    config = run_config(
        corpora, tmp_path, load_path=f"{address}/{name}", save_spool=str(tmp_path / "spool"), max_duration="20ba"
    )
    run = Run([str(config)], tmp_path, environment=server)
    assert run.wait() == 0, run.output
    assert list(last_of_each_step(tmp_path / "metrics.jsonl")) == list(range(12, 20))
    assert "max_duration was 24ba, is 20ba" in run.output
    assert not list((tmp_path / "spool").rglob("*.pt"))


def test_an_address_must_be_one(corpora: Path, tmp_path: Path) -> None:
    from trainer.errors import ConfigError
    from trainer.loading import load

    with pytest.raises(ConfigError, match=r"address like s3://bucket/prefix, found 'gs://x/y' @ \$\.save_folder"):
        load(run_config(corpora, tmp_path, save_folder="gs://x/y"))
    with pytest.raises(ConfigError, match=r"object storage, and neither .* @ \$\.save_spool"):
        load(run_config(corpora, tmp_path, save_spool=os.fspath(tmp_path)))
