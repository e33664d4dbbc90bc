"""Writing appears whole or not at all, and the world's faults have one name."""

import os
import resource
import signal
from pathlib import Path

import pytest

from shards.durable import publish_folder, write_file
from shards.errors import StorageError


def test_write_file_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_file(path, b"one", memoryview(b"two"))
    write_file(path, b"three")
    assert path.read_bytes() == b"three"
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208


def test_a_full_disk_is_a_storage_error_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_file(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(StorageError, match=r"cannot write .*/a: File too large; make room") as caught:
            write_file(path, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert caught.value.exit_code == 1
    assert path.read_bytes() == b"old"


def test_publish_folder(tmp_path: Path) -> None:
    (tmp_path / "new" / "below").mkdir(parents=True)
    (tmp_path / "new" / "below" / "f").write_bytes(b"x")
    publish_folder(tmp_path / "new", tmp_path / "final")
    assert (tmp_path / "final" / "below" / "f").read_bytes() == b"x"
    (tmp_path / "again").mkdir()
    with pytest.raises(StorageError, match="not empty"):
        publish_folder(tmp_path / "again", tmp_path / "final")
