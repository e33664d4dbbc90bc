"""Shards made ready: fetched, unpacked, verified, waited for; and all that can be wrong with them and the disk."""

import json
import logging
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixer import ShardError
from mixer.errors import CacheError, FetchError
from mixer.storage import cache as cache_module
from mixer.storage import open_corpus
from mixer.storage.cache import Cache
from mixer.storage.mapping import Mapping
from mixer.storage.remote import Remote
from tests.mixer.storage import servers
from tests.mixer.storage.conftest import SEQ_LEN, rows_of, write_corpus
from tests.mixer.storage.servers import S3

FORK = multiprocessing.get_context("fork")
ROWS = rows_of(30)  # three shards


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with these rows, written once with each of the options."""
    written: dict[str, Path] = {}

    def source(**options: Any) -> Path:
        name = str(len(written)) if str(options) not in written else ""
        if name:
            written[str(options)] = write_corpus(tmp_path_factory.mktemp("sources") / name, ROWS, **options)
        return written[str(options)]

    return source


@pytest.fixture
def remote(sources: Callable[..., Path], tmp_path: Path) -> Path:
    """A remote folder of this test alone."""
    return Path(shutil.copytree(sources(manifest=True), tmp_path / "remote"))


def cached(folder: Path, remote: Path | str | Remote | None = None, **options: Any) -> Cache:
    return Cache([open_corpus(folder, str(remote) if isinstance(remote, Path) else remote)], **options)


def rows_in(found: Mapping) -> np.ndarray:
    return found.data[found.first_row - found.data.ctypes.data :].view("<u2").reshape(-1, SEQ_LEN)


def assert_right(cache: Cache, *shards: int) -> None:
    for shard in shards or range(3):
        assert np.array_equal(rows_in(cache.open(shard)), ROWS[10 * shard : 10 * shard + 10])


def shards_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix in (".mds", ".zstd"))


def left_over(folder: Path) -> list[Path]:
    return list((folder / ".fetch").iterdir()) if (folder / ".fetch").exists() else []


def test_shards_are_fetched_when_they_are_opened(sources: Callable[..., Path], tmp_path: Path, s3: S3) -> None:
    cache = cached(tmp_path / "cache", s3.upload(sources(manifest=True), "plain"))
    assert not cache.is_ready(1)
    assert_right(cache, 1)
    assert cache.is_ready(1)
    assert shards_in(tmp_path / "cache") == ["shard.00001.mds"]
    assert_right(cache)
    assert s3.link.count()["shard.00001.mds"] == 1
    counts = cache.counters.take()
    assert (counts.hits, counts.misses) == (1, 3)
    assert counts.bytes_fetched == sum(
        (tmp_path / "cache" / name).stat().st_size for name in shards_in(tmp_path / "cache")
    )
    assert counts.wait_s > 0
    assert cache.counters.take() == (0, 0, 0, 0)
    assert not left_over(tmp_path / "cache")


def test_another_process_finds_what_was_verified(remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_right(cached(tmp_path / "cache", remote))
    monkeypatch.setattr(cache_module, "is_intact", None)  # it is not read again
    assert_right(cached(tmp_path / "cache"))


@pytest.mark.parametrize("compression", ["zstd:3", "br:3", "gz:3", "bz2:1", "snappy"])
def test_compressed_shards_are_unpacked(sources: Callable[..., Path], tmp_path: Path, compression: str) -> None:
    remote = sources(compression=compression)
    assert_right(cached(tmp_path / "cache", remote))
    assert shards_in(tmp_path / "cache") == [f"shard.0000{number}.mds" for number in range(3)]
    assert not left_over(tmp_path / "cache")


def test_local_ones_too_beside_their_compressed_form(sources: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sources(compression="zstd:3"), tmp_path / "local"))
    assert_right(cached(folder))
    assert shards_in(folder) == [f"shard.0000{number}.mds{end}" for number in range(3) for end in ("", ".zstd")]
    (folder / "shard.00000.mds").unlink()
    (folder / "shard.00000.mds.zstd").unlink()
    with pytest.raises(ShardError, match=r"cannot read shard .*shard\.00000\.mds: No such file"):
        cached(folder).open(0)


@pytest.mark.parametrize("compression", ["zstd:3", "br:3", "gz:3", "bz2:1", "snappy"])
@pytest.mark.parametrize("hashes", [["sha1"], []])
def test_what_cannot_be_unpacked_is_named(
    sources: Callable[..., Path], tmp_path: Path, compression: str, hashes: list[str]
) -> None:
    folder = Path(shutil.copytree(sources(compression=compression, hashes=hashes), tmp_path / "remote"))
    (packed,) = folder.glob("shard.00001.mds.*")
    packed.write_bytes(bytes(packed.stat().st_size))
    with pytest.raises(ShardError, match=rf"{packed.name} .*, twice: look at {folder}") as caught:
        cached(tmp_path / "cache", folder).open(1)
    assert caught.value.path == str(tmp_path / "cache" / "shard.00001.mds")
    assert not shards_in(tmp_path / "cache")
    assert not left_over(tmp_path / "cache")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [flip, shorten])
def test_a_damaged_copy_is_fetched_again(
    sources: Callable[..., Path], tmp_path: Path, s3: S3, caplog: pytest.LogCaptureFixture,
    harm: Callable[[Path], None],
) -> None:  # fmt: skip
    url = s3.upload(sources(manifest=True), "again")
    assert_right(cached(tmp_path / "cache", url))
    harm(tmp_path / "cache" / "shard.00001.mds")
    with caplog.at_level(logging.WARNING):
        assert_right(cached(tmp_path / "cache", url))
    assert f"fetching it again from {url}" in caplog.text
    assert s3.link.count()["shard.00001.mds"] == 2
    assert s3.link.count()["shard.00000.mds"] == 1


def test_a_damaged_copy_without_a_remote_is_named(sources: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sources(manifest=True), tmp_path / "local"))
    flip(folder / "shard.00001.mds")
    with pytest.raises(ShardError, match=r"shard\.00001\.mds does not have the hash .*fetch or convert it again"):
        cached(folder).open(1)
    assert_right(cached(folder), 0, 2)


def test_what_arrives_damaged_is_fetched_once_more(sources: Callable[..., Path], tmp_path: Path, s3: S3) -> None:
    cache = cached(tmp_path / "cache", s3.upload(sources(manifest=True), "damaged"))
    s3.link.fail(servers.damage, of="GET /corpora/damaged/shard.00001.mds")
    assert_right(cache)
    assert s3.link.count()["shard.00001.mds"] == 2
    s3.link.fail(servers.damage, servers.damage, of="GET /corpora/damaged/shard.00000.mds")
    (tmp_path / "cache" / "shard.00000.mds").unlink()
    with pytest.raises(ShardError, match=r"shard\.00000\.mds does not have the hash .*, twice: look at s3://"):
        cache.open(0)
    assert s3.link.count()["shard.00000.mds"] == 3
    assert_right(cache)


def test_a_shard_that_cannot_be_had(remote: Path, tmp_path: Path) -> None:
    cache = cached(tmp_path / "cache", remote)
    (remote / "shard.00001.mds").unlink()
    with pytest.raises(FetchError, match=r"cannot fetch .*shard\.00001\.mds") as caught:
        cache.open(1)
    assert caught.value.missing
    assert not left_over(tmp_path / "cache")
    assert_right(cache, 0, 2)


def test_shards_of_another_version_are_fetched_again(remote: Path, tmp_path: Path) -> None:
    assert_right(cached(tmp_path / "cache", remote))
    shutil.rmtree(remote)
    write_corpus(remote, ROWS[::-1].copy(), manifest=True)
    cache = cached(tmp_path / "cache", remote)
    assert not cache.is_ready(0)
    assert np.array_equal(rows_in(cache.open(0)), ROWS[:-11:-1])


def test_a_full_disk(sources: Callable[..., Path], mounted: Callable[..., Path]) -> None:
    folder = mounted("-t", "tmpfs", "-o", "size=64k", "tmpfs")
    cache = cached(folder, sources(manifest=True))
    assert_right(cache, 0)
    free = os.statvfs(folder)
    (folder / "filler").write_bytes(bytes(max(free.f_bavail - 2, 0) * free.f_bsize))
    with pytest.raises(
        CacheError, match=r"cannot keep shards in .*: No space left.*; make room there, or set"
    ) as caught:
        assert_right(cache, 1, 2)
    assert caught.value.path == str(folder)
    assert not left_over(folder)
    assert_right(cache, 0)
    (folder / "filler").unlink()
    assert_right(cache)


def test_a_folder_that_has_become_read_only(
    sources: Callable[..., Path], tmp_path: Path, mounted: Callable[..., Path]
) -> None:
    folder = tmp_path / "mounted"
    corpus = open_corpus(folder, str(sources(manifest=True)))
    assert_right(Cache([corpus]), 0)
    mounted("--bind", str(folder))
    if subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=False).returncode:
        pytest.skip("may not mount a folder to be read only")
    with pytest.raises(CacheError, match=r"cannot keep shards in .*: Read-only file system; name a folder"):
        Cache([corpus]).open(1)


READ_AS_NOBODY = """
import os, sys
from mixer.errors import MixerError
from mixer.reader import RowReader, open_corpus
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    print(RowReader([open_corpus(sys.argv[1])]).read([0, 25]).tolist())
except MixerError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_local_corpus_that_may_only_be_read_is_verified_too(sources: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sources(manifest=True), tmp_path / "local"))
    for path in (folder, *folder.parents):
        if path == Path(tempfile.gettempdir()):
            break
        path.chmod(0o755)
    assert json.loads(as_nobody(folder)) == ROWS[[0, 25]].tolist()
    flip(folder / "shard.00002.mds")
    assert as_nobody(folder).startswith("ShardError shard ")
    assert sorted(path.name for path in folder.iterdir()) == ["corpus.json", "index.json", *shards_in(folder)]


def as_nobody(folder: Path) -> str:
    command = [sys.executable, "-c", READ_AS_NOBODY, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def open_in_process(corpus: Any, start: Any, done: Any) -> None:
    cache = Cache([corpus])
    start.wait()
    done.put(all(np.array_equal(rows_in(cache.open(s)), ROWS[10 * s : 10 * s + 10]) for s in range(3)))


def test_processes_that_need_a_shard_fetch_it_once(sources: Callable[..., Path], tmp_path: Path, s3: S3) -> None:
    corpus = open_corpus(tmp_path / "cache", s3.upload(sources(manifest=True), "once"))
    start, done = FORK.Barrier(4), FORK.Queue()
    processes = [FORK.Process(target=open_in_process, args=(corpus, start, done), daemon=True) for _ in range(4)]
    for process in processes:
        process.start()
    assert [done.get(timeout=60) for _ in processes] == [True] * 4
    assert [s3.link.count()[f"shard.0000{number}.mds"] for number in range(3)] == [1, 1, 1]


def test_so_do_threads(sources: Callable[..., Path], tmp_path: Path, s3: S3) -> None:
    cache = cached(tmp_path / "cache", s3.upload(sources(manifest=True), "threads"))
    threads = [threading.Thread(target=assert_right, args=(cache,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_right(cache)
    assert [s3.link.count()[f"shard.0000{number}.mds"] for number in range(3)] == [1, 1, 1]


def test_a_slow_link_is_waited_for_and_said(
    sources: Callable[..., Path], tmp_path: Path, s3: S3,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(cache_module, "LONG_WAIT_S", 0.2)
    cache = cached(tmp_path / "cache", s3.upload(sources(manifest=True), "slow"))
    s3.link.bytes_per_s = 10_000  # a third of a second for a shard
    with caplog.at_level(logging.WARNING):
        assert_right(cache, 1)
    meanwhile, after = [record.message for record in caplog.records if record.name == cache_module.__name__]
    assert meanwhile.startswith("waiting for ")
    assert "still being fetched or verified" in meanwhile
    assert "waited 0." in after
    assert "(0.0 MB, 0.01 MB/s): reading is faster than fetching" in after


def test_preparing_says_whether_it_is_ready(remote: Path, tmp_path: Path) -> None:
    cache = cached(tmp_path / "cache", remote)
    assert cache.prepare(0, needed_at=5)
    assert cache.prepare(0, needed_at=5)
    with FORK.Pool(1) as pool, cache._locks[0].holding(2):
        assert not pool.apply(cache.prepare, (1,), {"needed_at": 5}), "somebody is at it"
    assert cache.prepare(1, needed_at=5)
    assert cache.counters.take().hits == 0, "nobody needed it"


def test_local_corpora_are_verified_ahead(sources: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sources(manifest=True), tmp_path / "local"))
    cache = cached(folder)
    assert cache.prepare(0, needed_at=5)
    flip(folder / "shard.00001.mds")
    with pytest.raises(ShardError, match="does not have the hash"):
        cache.prepare(1, needed_at=5)


def test_a_pickled_cache_goes_on(remote: Path, tmp_path: Path) -> None:
    cache = cached(tmp_path / "cache", remote, limit=10**6)
    cache.open(0)
    again = pickle.loads(pickle.dumps(cache))
    assert again.is_ready(0)
    assert_right(again)
