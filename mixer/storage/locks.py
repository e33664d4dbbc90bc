"""Which process of a machine may do a thing, by locks that die with their owner.

One file a folder, on whose bytes POSIX record locks are taken, one byte a thing. The system releases them when their
process ends, however it ends, so none is ever stale and nothing is left behind but the empty file. They work between
the machines of a shared file system too, where that supports them.

Such locks belong to the process: its threads are kept apart here by ordinary locks, the file stays open as long as the
process lives (closing it anywhere in the process would release everything) and is opened once for all who lock there,
and a forked child begins anew.
"""

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

FILE_NAME = ".lock"
RETRY_S = 0.02

INDEX_LOCK = 0  # for a folder's index; that for its shard i is i + 1
ROOM_LOCK = 1 << 40  # for counting what the cache holds


class _File(NamedTuple):
    descriptor: int
    mutexes: dict[int, threading.Lock]


_files: dict[tuple[int, int, int], _File] = {}  # by process, device and inode


class Locks:
    """Locks by number, in `folder`. Raises OSError where the folder cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._open()

    @contextmanager
    def holding(self, number: int) -> Iterator[None]:
        """Wait until nobody holds this number, and hold it."""
        with self._mutex(number):
            while not self._locked(number, fcntl.LOCK_EX, errno.EDEADLK):
                # Threads that wait for each other's processes look like a deadlock to the system, which sees processes.
                time.sleep(RETRY_S)
            try:
                yield
            finally:
                fcntl.lockf(self._file.descriptor, fcntl.LOCK_UN, 1, number)

    @contextmanager
    def trying(self, number: int) -> Iterator[bool]:
        """Hold this number if nobody does; yields whether it is held."""
        mutex = self._mutex(number)
        mine, held = mutex.acquire(blocking=False), False
        try:
            held = mine and self._locked(number, fcntl.LOCK_EX | fcntl.LOCK_NB, errno.EAGAIN, errno.EACCES)
            yield held
        finally:
            if held:
                fcntl.lockf(self._file.descriptor, fcntl.LOCK_UN, 1, number)
            if mine:
                mutex.release()

    def _locked(self, number: int, how: int, *refusals: int) -> bool:
        try:
            fcntl.lockf(self._file.descriptor, how, 1, number)
        except OSError as error:
            if error.errno in refusals:
                return False
            raise
        return True

    def _mutex(self, number: int) -> threading.Lock:
        if self._pid != os.getpid():
            self._open()  # in a forked child: nothing of what its parent holds is its own
        return self._file.mutexes.setdefault(number, threading.Lock())

    def _open(self) -> None:
        self._file, self._pid = _open(self._path), os.getpid()

    def __getstate__(self) -> dict[str, object]:
        return {"_path": self._path}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._open()


def _open(path: Path) -> _File:
    """The lock file at `path`, the same for all of this process."""
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        if known := _files.get((os.getpid(), status.st_dev, status.st_ino)):
            return known
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    status = os.fstat(descriptor)
    return _files.setdefault((os.getpid(), status.st_dev, status.st_ino), _File(descriptor, {}))
