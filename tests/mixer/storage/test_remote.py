"""One file from a local folder, from S3 over HTTP, and from a hub; and every way in which the other side fails."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mixer.errors import FetchError
from mixer.storage.remote import Remote
from tests.mixer.storage import servers
from tests.mixer.storage.servers import BUCKET, S3, Hub, Link, serving

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "fetched"
    folder.mkdir()
    return folder / "shard.mds"


@pytest.fixture
def bucket(s3: S3) -> S3:
    s3.put("c4/shard.mds", CONTENT)
    return s3


def test_a_file_of_a_local_folder(tmp_path: Path, target: Path) -> None:
    (tmp_path / "shard.mds").write_bytes(CONTENT)
    Remote(f"{tmp_path}/").fetch("shard.mds", target)
    assert target.read_bytes() == CONTENT


def test_what_a_local_folder_lacks_is_missing_at_once(tmp_path: Path, target: Path, never_sleeps: None) -> None:
    with pytest.raises(FetchError, match=f"cannot fetch {tmp_path}/shard.mds: ") as caught:
        Remote(str(tmp_path)).fetch("shard.mds", target)
    assert caught.value.missing
    assert caught.value.path == f"{tmp_path}/shard.mds"


@pytest.fixture
def never_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError("tried again")

    monkeypatch.setattr("mixer.storage.remote.time.sleep", sleep)


def test_what_lay_there_before_is_not_the_result(tmp_path: Path, target: Path) -> None:
    (tmp_path / "shard.mds").write_bytes(CONTENT)
    target.write_bytes(b"old")
    target.with_name("shard.mds.tmp").mkdir()
    Remote(str(tmp_path)).fetch("shard.mds", target)
    assert [(path.name, path.read_bytes()) for path in target.parent.iterdir()] == [("shard.mds", CONTENT)]


def test_s3(bucket: S3, target: Path) -> None:
    Remote(f"s3://{BUCKET}/c4").fetch("shard.mds", target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("fault", [servers.busy, servers.reset])
@pytest.mark.parametrize("verb", ["HEAD", "GET"])
def test_what_fails_for_a_while_is_tried_again(
    bucket: S3, target: Path, caplog: pytest.LogCaptureFixture, fault: object, verb: str
) -> None:
    bucket.link.fail(*[fault] * 3, of=verb)
    Remote(f"s3://{BUCKET}/c4").fetch("shard.mds", target)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["shard.mds"]
    assert caplog.text.count("trying again") == 3


def test_half_a_file_is_not_taken_for_all_of_it(bucket: S3, target: Path, caplog: pytest.LogCaptureFixture) -> None:
    bucket.link.fail(*[servers.cut] * 7, of="GET")  # five of which boto3 tries itself
    Remote(f"s3://{BUCKET}/c4").fetch("shard.mds", target)
    assert target.read_bytes() == CONTENT
    assert bucket.link.count()["shard.mds"] == 8
    assert caplog.text.count("trying again") == 1


def test_each_wait_is_longer_than_the_one_before(
    bucket: S3, target: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("mixer.storage.remote.FIRST_WAIT_S", 0.25)
    monkeypatch.setattr("mixer.storage.remote.time.sleep", waits.append)
    bucket.link.fail(*[servers.busy] * 50)
    with pytest.raises(
        FetchError, match=rf"cannot fetch s3://{BUCKET}/c4/shard\.mds after 6 attempts: .*503"
    ) as caught:
        Remote(f"s3://{BUCKET}/c4").fetch("shard.mds", target)
    assert not caught.value.missing
    assert not list(target.parent.iterdir())
    assert len(waits) == 5
    assert all(0.125 * 2**i <= wait <= 0.25 * 2**i for i, wait in enumerate(waits))


def test_404_is_missing_at_once(bucket: S3, target: Path, never_sleeps: None) -> None:
    for folder in (f"s3://{BUCKET}/code", "s3://no-such-bucket/c4"):
        with pytest.raises(FetchError, match="cannot fetch") as caught:
            Remote(folder).fetch("shard.mds", target)
        assert caught.value.missing


def test_403_is_refused_at_once(bucket: S3, target: Path, never_sleeps: None) -> None:
    bucket.link.fail(servers.refused)
    with pytest.raises(FetchError, match=r"cannot fetch .*permission") as caught:
        Remote(f"s3://{BUCKET}/c4").fetch("shard.mds", target)
    assert not caught.value.missing


def test_without_credentials_at_once(
    bucket: S3, target: Path, never_sleeps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setattr("mixer.storage.remote.os.getpid", lambda: -1)  # a downloader that has not seen any
    with pytest.raises(FetchError, match="credentials"):
        Remote(f"s3://{BUCKET}/c4").fetch("shard.mds", target)


@pytest.mark.parametrize("url", ["ftp://host/c4", "s4://bucket/c4"])
def test_an_unknown_scheme_is_said_at_once(target: Path, never_sleeps: None, url: str) -> None:
    with pytest.raises(FetchError, match=f"cannot fetch {url}/shard.mds: Unsupported remote path: {url}"):
        Remote(url).fetch("shard.mds", target)


def test_a_target_that_cannot_be_written_is_not_the_others_fault(tmp_path: Path, never_sleeps: None) -> None:
    (tmp_path / "shard.mds").write_bytes(CONTENT)
    with pytest.raises(OSError, match="nowhere"):
        Remote(str(tmp_path)).fetch("shard.mds", tmp_path / "nowhere" / "shard.mds")


def test_threads_fetch_at_the_same_time(bucket: S3, tmp_path: Path) -> None:
    bucket.link.gate.clear()
    for number in range(4):
        (tmp_path / str(number)).mkdir()
    threads = [
        threading.Thread(target=Remote(f"s3://{BUCKET}/c4").fetch, args=("shard.mds", tmp_path / str(n) / "shard.mds"))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    while bucket.link.count()["shard.mds"] < 4:
        assert any(thread.is_alive() for thread in threads)
    bucket.link.gate.set()
    for thread in threads:
        thread.join()
    assert all((tmp_path / str(number) / "shard.mds").read_bytes() == CONTENT for number in range(4))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders for which downloaders were made."""
    from streaming.base.storage.download import CloudDownloader

    folders: list[str] = []
    get = CloudDownloader.get

    def noting(url: str) -> CloudDownloader:
        folders.append(url)
        return get(url)

    monkeypatch.setattr(CloudDownloader, "get", noting)
    monkeypatch.setattr("mixer.storage.remote._free", {})
    return folders


def fetch_in_a_thread(remote: Remote, target: Path) -> None:
    thread = threading.Thread(target=remote.fetch, args=("shard.mds", target))
    thread.start()
    thread.join()


def test_a_downloader_serves_one_thread_after_the_other(bucket: S3, target: Path, made: list[str]) -> None:
    bucket.put("code/shard.mds", CONTENT)
    for _ in range(3):
        fetch_in_a_thread(Remote(f"s3://{BUCKET}/c4"), target)
    fetch_in_a_thread(Remote(f"s3://{BUCKET}/code"), target)
    assert made == [f"s3://{BUCKET}/c4", f"s3://{BUCKET}/code"]


def test_after_a_failure_the_connection_is_made_anew(bucket: S3, target: Path, made: list[str]) -> None:
    bucket.link.fail(servers.busy)
    Remote(f"s3://{BUCKET}/c4").fetch("shard.mds", target)
    assert made == [f"s3://{BUCKET}/c4"] * 2


FETCH_FROM_HUB = """
import sys, time
from pathlib import Path
from mixer.errors import FetchError
from mixer.storage.remote import Remote
time.sleep = lambda seconds: None  # the client itself waits half a minute before it gives up
for name in sys.argv[2:]:
    try:
        Remote("hf://datasets/org/name/c4/train", attempts=3).fetch(name, Path(sys.argv[1]) / name)
        print("fetched", [path.name for path in Path(sys.argv[1]).iterdir() if path.is_file()])
    except FetchError as error:
        print("missing" if error.missing else "failed", error)
"""


def test_a_hub(tmp_path: Path, target: Path) -> None:
    """In a process of its own, since the hub's client reads the hub's address when it is imported."""
    names = ["busy.mds", "reset.mds", "corpus.json", "away.mds", "private.mds"]
    with serving(Hub({f"c4/train/{name}": CONTENT for name in names if name != "corpus.json"})) as behind:
        link = Link(behind)
        link.fail(*[servers.busy] * 2, of="HEAD /datasets/org/name/resolve/main/c4/train/busy.mds")
        link.fail(servers.reset, servers.cut, of="GET /datasets/org/name/resolve/main/c4/train/reset.mds")
        link.fail(*[servers.reset] * 99, of="away.mds")
        link.fail(*[servers.refused] * 99, of="private.mds")
        with serving(link) as url:
            environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home")}
            done = subprocess.run(
                [sys.executable, "-c", FETCH_FROM_HUB, str(target.parent), *names],
                env=environment, capture_output=True, text=True, check=True,
            )  # fmt: skip
    busy, reset, missing, away, private = done.stdout.splitlines()
    remote = "cannot fetch hf://datasets/org/name/c4/train"
    assert busy == "fetched ['busy.mds']"
    assert reset == "fetched ['reset.mds']"
    assert missing.startswith(f"missing {remote}/corpus.json: ")
    assert away.startswith(f"failed {remote}/away.mds after 3 attempts: "), "a hub out of reach may have the file"
    assert private.startswith(f"failed {remote}/private.mds: ")
    assert "403" in private
    assert link.count("HEAD")["private.mds"] == 1


def test_why_it_is_tried_again_is_logged(bucket: S3, target: Path, caplog: pytest.LogCaptureFixture) -> None:
    bucket.link.fail(servers.busy, of="HEAD")
    with caplog.at_level(logging.WARNING, "mixer.storage.remote"):
        Remote(f"s3://{BUCKET}/c4").fetch("shard.mds", target)
    (record,) = caplog.records
    assert "503" in record.message
    assert f"s3://{BUCKET}/c4/shard.mds" in record.message
