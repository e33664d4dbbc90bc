"""Room for what is fetched: all remote corpora of a run share one limit of bytes on this machine's disk.

What lies in the folders is the account: no process keeps one of its own. Whoever fetches takes one lock, adds up what
is there and what others are fetching, removes what the run needs last (`Needs`, which the process that knows the plan
writes down for the others), and reserves its place by a folder in `.fetch`, before it begins. A reservation whose
owner has died is known by the owner's lock being free. Only shards of remote corpora are ever removed.
"""

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixer.errors import CacheError
from mixer.storage.integrity import unmark
from mixer.storage.locks import INDEX_LOCK, ROOM_LOCK, Locks
from mixer.storage.remote import FETCHING, make_empty
from mixer.storage.shelf import Shelf

NEEDS = ".needs.npy"
NEVER = np.iinfo(np.int64).max
WAIT_S = 0.05

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Needs:
    """When the run reads from each shard next.

    `first_step` [num_shards]: the step from which on the shard is read (now, or before: it is in use), `NEVER` where it
    is not known to be. Below `keep_until` nothing is removed: these steps may be under way.
    """

    first_step: NDArray[np.int64]
    keep_until: int

    def write(self, path: Path) -> None:
        """By one process at a time: who is killed meanwhile leaves a file that the next one takes."""
        temporary = path.with_name(f"{path.name}.new")
        try:
            with temporary.open("wb") as file:
                np.save(file, np.append(self.first_step, self.keep_until))
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    @classmethod
    def read(cls, path: Path, num_shards: int) -> "Needs | None":
        """What was written last for so many shards, or None."""
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return cls(found[:-1], int(found[-1])) if found.shape == (num_shards + 1,) else None


class Budget:
    """`limit` bytes for the shards of a shelf that are copies of remote ones; None: no limit. `locks` by corpus."""

    def __init__(self, shelf: Shelf, locks: dict[int, Locks], limit: int | None) -> None:
        self._shelf, self._locks, self.limit = shelf, locks, limit
        self._remote = [place for place, corpus in enumerate(shelf.corpora) if corpus.remote is not None]
        first = min(self._remote, key=lambda place: str(shelf.corpora[place].path), default=None)
        self._counting = None if first is None else locks.get(first)
        self._needs_path = None if first is None else shelf.corpora[first].path / NEEDS
        self._shard_of = [{name: number for number, name in enumerate(corpus.shard_names)} for corpus in shelf.corpora]

    def publish(self, needs: Needs) -> None:
        """Write down, for every process of this machine, when each shard is needed. A full disk: they keep the last."""
        if self._needs_path is not None and self._counting is not None:
            with contextlib.suppress(OSError), self._counting.holding(ROOM_LOCK):
                needs.write(self._needs_path)

    @contextmanager
    def room(self, shard: int, *, needed_at: int | None = None) -> Iterator[Path | None]:
        """A folder to fetch a shard into, removed afterwards; the caller holds the shard's lock.

        `needed_at` is the step that will need it: only what is needed later makes room, and where that is not enough
        the answer is None. Without it the shard is needed now: raises CacheError if the limit cannot hold it.
        """
        folder = self._shelf.path(shard).parent / FETCHING / self._shelf.path(shard).name
        while (reserved := self._reserve(shard, folder, needed_at)) is None and needed_at is None:
            time.sleep(WAIT_S)
        if not reserved and needed_at is None:
            raise self._too_small(shard)
        try:
            yield folder if reserved else None
        finally:
            if reserved:
                shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what fetchers that have died left behind."""
        for place in self._locks:
            self._fetching(place)

    def used(self) -> int:
        """Bytes of the copies that are there, and of those that are being fetched."""
        return self._used(self._all_fetching())

    def _used(self, fetching: list[int]) -> int:
        """With what was being fetched just before: what has come since is counted twice, rather than not at all."""
        return sum(map(self._shelf.num_bytes, (*fetching, *self._present())))

    def _reserve(self, shard: int, folder: Path, needed_at: int | None) -> bool | None:
        """Whether there is room, and it is taken. None: not now, but what others fetch can go once it is there."""
        if self.limit is None or self._counting is None or self._shelf.find(shard)[1].remote is None:
            make_empty(folder)
            return True
        with self._counting.holding(ROOM_LOCK):
            shutil.rmtree(folder, ignore_errors=True)  # of one who died: it is not to be counted
            fetching = self._all_fetching()
            missing = self._used(fetching) + self._shelf.num_bytes(shard) - self.limit
            if missing > 0 and not self._remove(missing, needed_at):
                return None if fetching else False
            make_empty(folder)
            return True

    def _remove(self, num_bytes: int, needed_at: int | None) -> bool:
        """Remove at least so many bytes of what is needed last; nothing, where there is not enough that can go."""
        needs = self._read_needs()
        victims, found = [], 0
        for shard in self._by_need(needs, needed_at):
            if found >= num_bytes:
                break
            victims.append(shard)
            found += self._shelf.num_bytes(shard)
        if found < num_bytes:
            return False
        for shard in victims:
            path = self._shelf.path(shard)
            _log.debug("%s makes room", path)
            unmark(path)
            path.unlink(missing_ok=True)
        return True

    def _read_needs(self) -> Needs | None:
        return Needs.read(self._needs_path, self._shelf.num_shards) if self._needs_path else None

    def _by_need(self, needs: Needs | None, needed_at: int | None) -> list[int]:
        """The copies that may go, those needed last first; without a plan, those fetched first."""
        present = self._present()
        if needs is None:
            with contextlib.suppress(FileNotFoundError):
                return sorted(present, key=lambda shard: self._shelf.path(shard).stat().st_mtime_ns)
            return present
        least = max(needs.keep_until, -1 if needed_at is None else needed_at)
        first_step = needs.first_step
        return sorted((s for s in present if first_step[s] > least), key=lambda s: (-int(first_step[s]), s))

    def _present(self) -> list[int]:
        """Numbers of the copies that are there."""
        return [
            self._shelf.firsts[place] + number
            for place in self._remote
            for name in _names_in(self._shelf.corpora[place].path)
            if (number := self._shard_of[place].get(name)) is not None
        ]

    def _all_fetching(self) -> list[int]:
        return [shard for place in self._remote if place in self._locks for shard in self._fetching(place)]

    def _fetching(self, place: int) -> list[int]:
        """Numbers of the shards of a corpus that somebody fetches; what the dead have left is removed."""
        folder, alive = self._shelf.corpora[place].path / FETCHING, []
        for name in _names_in(folder):
            number = self._shard_of[place].get(name)
            with self._locks[place].trying(INDEX_LOCK if number is None else number + 1) as is_free:
                if is_free:
                    shutil.rmtree(folder / name, ignore_errors=True)
                elif number is not None:
                    alive.append(self._shelf.firsts[place] + number)
        return alive

    def _too_small(self, shard: int) -> CacheError:
        path, needs = self._shelf.path(shard), self._read_needs()
        in_use = [s for s in self._present() if needs is None or needs.first_step[s] <= needs.keep_until]
        least = sum(self._shelf.num_bytes(s) for s in in_use) + self._shelf.num_bytes(shard)
        return CacheError(
            f"the cache limit of {self.limit:,} bytes is too small: with {path.name} of {path.parent}, the "
            f"{len(in_use) + 1} shards in use at once have {least:,} bytes; raise the limit, or lower shuffle_window, "
            "the loader's workers or its prefetch_factor",
            path=str(path.parent),
        )


def _names_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []
