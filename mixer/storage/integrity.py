"""Whether a file is what it should be, and remembering for later that it was.

A digest is "algorithm:hexadecimal", as in "sha256:9f…": the algorithms are those that MDS indexes use. A file once
verified is *marked*: a small file beside it keeps its digest, inode, size and times. Whoever finds the mark, in any
process and at any later time, need not read the file again unless one of these has changed. A torn mark is no mark.
"""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

MARKS = ".verified"
CHUNK = 1 << 20

_SHA3 = ("sha3_256", "sha3_512", "sha3_384", "sha3_224")
_PREFERRED = ("sha256", "sha512", "sha384", "sha224", *_SHA3, "blake2b", "blake2s", "sha1", "md5")
_XX = ("xxh128", "xxh3_128", "xxh3_64", "xxh64", "xxh32")


class Identity(NamedTuple):
    """What changes when a file is written to or replaced."""

    inode: int
    num_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Identity":
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


def choose_digest(hashes: Mapping[str, str] | None) -> str | None:
    """One digest of an index entry's hashes, or None where it has none that can be computed here."""
    known = hashes or {}
    for algorithm in (*_PREFERRED, *_XX):
        if known.get(algorithm):
            return f"{algorithm}:{known[algorithm].lower()}"
    return None


def digest_of(path: Path, algorithm: str) -> str:
    """The digest of a file's bytes; raises OSError."""
    state = _new(algorithm)
    buffer = memoryview(bytearray(CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            state.update(buffer[:count])
    return f"{algorithm}:{state.hexdigest()}"


def is_intact(path: Path, digest: str | None) -> bool:
    """Whether the file's bytes have this digest; without one nothing can be said, and it passes. Raises OSError."""
    return digest is None or digest_of(path, digest.partition(":")[0]) == digest


def is_marked(path: Path, digest: str | None, status: os.stat_result) -> bool:
    """Whether `path`, of this status, has been verified to have this digest and not been touched since."""
    try:
        return _mark_of(path).read_text() == _content(digest, status)
    except (OSError, ValueError):
        return False


def mark(path: Path, digest: str | None, status: os.stat_result) -> None:
    """Remember that `path` had this digest when it had this status. In a folder that cannot be written: nothing."""
    with contextlib.suppress(OSError):
        _mark_of(path).parent.mkdir(exist_ok=True)
        _mark_of(path).write_text(_content(digest, status))


def unmark(path: Path) -> None:
    """Forget it, where the file is removed."""
    with contextlib.suppress(OSError):
        _mark_of(path).unlink()


def _mark_of(path: Path) -> Path:
    return path.parent / MARKS / path.name


def _content(digest: str | None, status: os.stat_result) -> str:
    return f"{digest} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n"


def _new(algorithm: str) -> Any:
    if algorithm in _XX:
        import xxhash  # with streaming; the core needs none of it

        return getattr(xxhash, algorithm)()
    return hashlib.new(algorithm)
