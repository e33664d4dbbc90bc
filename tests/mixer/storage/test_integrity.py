"""Digests as MDS writes them, and marks: what makes them void, and what does not."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streaming.base.hashing import get_hash, get_hashes

from mixer.storage.integrity import MARKS, choose_digest, digest_of, is_intact, is_marked, mark, unmark

CONTENT = os.urandom(3_000_000)  # several pieces


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that was written a while ago."""
    path = tmp_path / "shard.mds"
    path.write_bytes(CONTENT)
    os.utime(path, (1e9, 1e9))
    return path


@pytest.mark.parametrize("algorithm", sorted(get_hashes()))
def test_every_algorithm_of_mds(path: Path, algorithm: str) -> None:
    digest = choose_digest({algorithm: get_hash(algorithm, CONTENT)})
    assert digest == f"{algorithm}:{get_hash(algorithm, CONTENT)}"
    assert digest_of(path, algorithm) == digest
    assert is_intact(path, digest)
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    assert not is_intact(path, digest)


def test_of_several_the_one_that_says_most() -> None:
    hashes = {"xxh64": "1", "md5": "2", "sha1": "AB", "sha256": ""}
    assert choose_digest(hashes) == "sha1:ab"
    assert choose_digest({**hashes, "sha3_224": "EF"}) == "sha3_224:ef"
    assert choose_digest({**hashes, "sha256": "CD"}) == "sha256:cd"
    assert choose_digest({"xxh32": "1", "xxh3_128": "2"}) == "xxh3_128:2"


def test_without_a_digest_nothing_can_be_said(path: Path) -> None:
    assert choose_digest({"crc32": "1"}) is None
    assert choose_digest({}) is None
    assert choose_digest(None) is None
    assert is_intact(path, None)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        is_intact(tmp_path / "shard.mds", "sha256:00")


DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def test_a_mark_stays_with_its_file(path: Path) -> None:
    assert not is_marked(path, DIGEST, path.stat())
    mark(path, DIGEST, path.stat())
    path.read_bytes()
    assert is_marked(path, DIGEST, path.stat())
    assert not is_marked(path, DIGEST.replace("a", "b"), path.stat()), "another version of the corpus"
    assert not is_marked(path, None, path.stat())
    unmark(path)
    unmark(path)
    assert not is_marked(path, DIGEST, path.stat())


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x")


def overwrite_as_if_long_ago(path: Path) -> None:
    """The time of the last change is set back to what it was; the system's own remains."""
    before = path.stat()
    while time.time_ns() - before.st_ctime_ns < 20_000_000:  # the clock of files has steps
        pass
    overwrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(CONTENT)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def truncate(path: Path) -> None:
    os.truncate(path, len(CONTENT) - 1)


CHANGES = [overwrite, overwrite_as_if_long_ago, replace, truncate, Path.touch]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_done_to_the_file_voids_the_mark(path: Path, change: Callable[[Path], None]) -> None:
    mark(path, DIGEST, path.stat())
    change(path)
    assert not is_marked(path, DIGEST, path.stat())


@pytest.mark.parametrize("torn", [0, 1, 20, -1])
def test_a_torn_mark_is_no_mark(path: Path, torn: int) -> None:
    mark(path, DIGEST, path.stat())
    (note,) = (path.parent / MARKS).iterdir()
    note.write_bytes(note.read_bytes()[:torn])
    assert not is_marked(path, DIGEST, path.stat())
    note.write_bytes(b"\xff\xfe")
    assert not is_marked(path, DIGEST, path.stat())


def test_a_folder_that_cannot_be_written_has_no_marks(path: Path, mounted: Callable[..., Path]) -> None:
    folder = mounted("--bind", "-o", "ro", str(path.parent))
    if os.access(folder, os.W_OK):
        pytest.skip("may not mount a folder to be read only")
    mark(folder / path.name, DIGEST, path.stat())
    assert not is_marked(folder / path.name, DIGEST, path.stat())
    assert is_intact(folder / path.name, DIGEST)
