"""Making shards ready: there, fetched if need be, and verified before anybody reads a row of them.

A shard that lies in its folder is verified by its hash once; one that does not pass is fetched again, once, where there
is a remote folder, and else is an error that names it. One process of a machine at a time makes a shard ready, the
others wait for it. A shard appears under its name whole and verified, or not at all, whatever kills the process.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mixer.errors import CacheError, ShardError
from mixer.storage.budget import Budget
from mixer.storage.index import StoredCorpus, Zipped
from mixer.storage.integrity import is_intact, is_marked, mark, unmark
from mixer.storage.locks import Locks
from mixer.storage.mapping import AGAIN, Mapping, map_shard
from mixer.storage.remote import FULL, Remote
from mixer.storage.shelf import Shelf

LONG_WAIT_S = 5.0

_log = logging.getLogger(__name__)


class Counts(NamedTuple):
    """What was done: shards found ready, and not, when they were needed; seconds waited for these; bytes fetched."""

    hits: int
    misses: int
    wait_s: float
    bytes_fetched: int


@dataclass
class Counters:
    """Counts of what a process does, see `Counts`."""

    hits: int = 0
    misses: int = 0
    wait_s: float = 0.0
    bytes_fetched: int = 0

    def take(self) -> "Counts":
        """What has come since this was called last."""
        taken = Counts(self.hits, self.misses, self.wait_s, self.bytes_fetched)
        self.hits = self.misses = self.bytes_fetched = 0
        self.wait_s = 0.0
        return taken


class Cache:
    """The shards of `corpora`, ready when they are asked for, by their numbers (see `Shelf`).

    `limit` is the most bytes that the copies of remote corpora may have together (None: any). In folders of corpora
    without a remote one, nothing but marks and a lock is written, and not even these where that is not allowed. Raises
    CacheError where the folder for a remote corpus cannot be written.
    """

    def __init__(self, corpora: Sequence[StoredCorpus], *, limit: int | None = None) -> None:
        self.shelf = Shelf(corpora)
        self.counters = Counters()
        self._verified: dict[int, os.stat_result] = {}
        self._locks: dict[int, Locks] = {}
        for place, corpus in enumerate(corpora):
            try:
                self._locks[place] = Locks(corpus.path)
            except OSError as error:
                if corpus.remote is not None:
                    raise _not_kept(corpus.path, error) from error
        self.budget = Budget(self.shelf, self._locks, limit)
        self.budget.sweep()

    def open(self, shard: int) -> Mapping:
        """The rows of a shard, mapped. Waits for it if it must be fetched, or verified, first.

        Raises ShardError where it is not what the index says, FetchError where it cannot be had, CacheError where it
        cannot be kept.
        """
        _, corpus, number = self.shelf.find(shard)
        for attempt in range(3):
            self._wait_for(shard)
            try:
                return map_shard(
                    corpus.shard_path(number),
                    num_samples=int(corpus.shard_sizes[number]),
                    row_bytes=corpus.row_size * corpus.dtype.itemsize,
                    num_bytes=int(corpus.shard_bytes[number]),
                    encoding=list(corpus.columns.values())[-1],
                )
            except ShardError:
                if attempt == 2 or self.is_ready(shard):
                    raise  # else somebody has removed it in between
        raise AssertionError("unreachable")

    def path(self, shard: int) -> Path:
        """Where a shard lies, ready to be read. Waits and raises as `open` does."""
        self._wait_for(shard)
        return self.shelf.path(shard)

    def is_ready(self, shard: int) -> bool:
        """Whether the shard is there and has been verified."""
        _, corpus, number = self.shelf.find(shard)
        path, digest = corpus.shard_path(number), corpus.digests[number]
        try:
            status = path.stat()
        except OSError:
            return False
        if status.st_size != corpus.shard_bytes[number]:
            return False
        if digest is None or _same(self._verified.get(shard), status):
            return True
        if is_marked(path, digest, status):
            self._verified[shard] = status
            return True
        return False

    def prepare(self, shard: int, *, needed_at: int) -> bool:
        """Make a shard ready that step `needed_at` will need, unless somebody is at it, or there is no room yet.

        Whether it is ready now. What is wrong with it, whoever needs it will be told.
        """
        place, _, number = self.shelf.find(shard)
        if self.is_ready(shard) or place not in self._locks:
            return self.is_ready(shard) or self._problem(shard) is None
        with self._locks[place].trying(number + 1) as mine:
            return self.is_ready(shard) or (mine and self._make_ready(shard, needed_at=needed_at))

    def _wait_for(self, shard: int) -> None:
        if self.is_ready(shard):
            self.counters.hits += 1
            return
        begin = time.monotonic()
        place, _, number = self.shelf.find(shard)
        lock = self._locks[place].holding(number + 1) if place in self._locks else contextlib.nullcontext()
        with (
            _saying_after(LONG_WAIT_S, "waiting for %s: it is still being fetched or verified", self.shelf.path(shard)),
            lock,
        ):
            if not self.is_ready(shard):
                self._make_ready(shard)
        waited = time.monotonic() - begin
        self.counters.misses += 1
        self.counters.wait_s += waited
        if waited > LONG_WAIT_S:
            size = self.shelf.num_bytes(shard)
            _log.warning(
                "waited %.1f s for %s (%.1f MB, %.2f MB/s): reading is faster than fetching",
                waited, self.shelf.path(shard), size / 1e6, size / 1e6 / waited,
            )  # fmt: skip

    def _make_ready(self, shard: int, *, needed_at: int | None = None) -> bool:
        """Verify or fetch a shard whose lock is held. False only where `needed_at` is given and there is no room."""
        _, corpus, number = self.shelf.find(shard)
        path, source = corpus.shard_path(number), _source(corpus, number)
        problem = self._problem(shard)
        if problem is None:
            return True
        if source is None:
            raise ShardError(f"{problem}; {AGAIN}", path=str(path))
        if path.exists():
            _log.warning("%s; fetching it again from %s", problem, source.url)
            with _keeping(path.parent):
                unmark(path)
                path.unlink(missing_ok=True)  # others may make room
        with _keeping(path.parent), self.budget.room(shard, needed_at=needed_at) as folder:
            if folder is None:
                return False
            self._fetch(shard, source, folder)
        return True

    def _problem(self, shard: int) -> str | None:
        """What is wrong with the file of a shard; None: it is verified now."""
        _, corpus, number = self.shelf.find(shard)
        path, digest, wanted = corpus.shard_path(number), corpus.digests[number], int(corpus.shard_bytes[number])
        try:
            status = path.stat()
            if status.st_size != wanted:
                return f"shard {path} has {status.st_size} bytes, its index says {wanted}: truncated or replaced"
            if not is_intact(path, digest):
                return f"shard {path} does not have the hash that its index says ({digest}): its bytes have changed"
        except OSError as error:
            return f"cannot read shard {path}: {error.strerror}"
        self._note(shard, path, digest, status)
        return None

    def _fetch(self, shard: int, source: Remote, folder: Path) -> None:
        """Fetch a shard into `folder`, verify it, and give it its name. What arrives damaged is fetched once more."""
        _, corpus, number = self.shelf.find(shard)
        path, target = corpus.shard_path(number), folder / corpus.shard_names[number]
        zipped = corpus.zipped[number] if corpus.zipped else None
        for _ in range(2):
            problem = self._fetch_into(target, source, zipped, corpus, number)
            if problem is None:
                break
            _log.warning("%s", problem)
        else:
            raise ShardError(f"{problem}, twice: look at {source.url}", path=str(path))
        with target.open("rb") as file:
            os.fsync(file.fileno())
            target.replace(path)
            self._note(shard, path, corpus.digests[number], os.fstat(file.fileno()))  # others may make room

    def _fetch_into(
        self, target: Path, source: Remote, zipped: Zipped | None, corpus: StoredCorpus, number: int
    ) -> str | None:
        """What is wrong with what has come; None: it is verified, and lies at `target`."""
        wanted, digest = int(corpus.shard_bytes[number]), corpus.digests[number]
        if zipped is None:
            source.fetch(target.name, target)
            self.counters.bytes_fetched += wanted
        else:
            packed = target.with_name(zipped.name)
            source.fetch(zipped.name, packed)
            self.counters.bytes_fetched += zipped.num_bytes
            problem = _unpack(packed, target, zipped, source)
            if problem is not None:
                return problem
        if (found := target.stat().st_size) != wanted:
            return f"{source.url}/{target.name} has {found} bytes, its index says {wanted}"
        if not is_intact(target, digest):
            return f"{source.url}/{target.name} does not have the hash that its index says ({digest})"
        return None

    def _note(self, shard: int, path: Path, digest: str | None, status: os.stat_result) -> None:
        self._verified[shard] = status
        mark(path, digest, status)


def _source(corpus: StoredCorpus, number: int) -> Remote | None:
    """Where a shard can be had: the remote folder, or its own folder if a compressed form lies there."""
    if corpus.remote is None and corpus.zipped and (zipped := corpus.zipped[number]):
        return Remote(str(corpus.path)) if (corpus.path / zipped.name).exists() else None
    return corpus.remote


def _unpack(packed: Path, target: Path, zipped: Zipped, source: Remote) -> str | None:
    """What is wrong with the compressed file `packed`; None: it is unpacked to `target`, and gone."""
    if packed.stat().st_size != zipped.num_bytes or not is_intact(packed, zipped.digest):
        return f"{source.url}/{zipped.name} is not what its index says ({zipped.num_bytes} bytes, {zipped.digest})"
    from streaming.base.compression import decompress

    content = packed.read_bytes()
    try:
        unpacked = decompress(zipped.algorithm, content)
    except Exception as error:  # each library has its own
        return f"{source.url}/{zipped.name} cannot be unpacked ({zipped.algorithm}): {error or type(error).__name__}"
    target.write_bytes(unpacked)
    packed.unlink()
    return None


@contextmanager
def _saying_after(seconds: float, message: str, *values: object) -> Iterator[None]:
    """Log a warning where what is done inside takes longer, while it does."""
    timer = threading.Timer(seconds, _log.warning, (message, *values))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _keeping(folder: Path) -> Iterator[None]:
    """Turn a failure of the disk into a CacheError that says what to do."""
    try:
        yield
    except OSError as error:
        raise _not_kept(folder, error) from error


def _not_kept(folder: Path, error: OSError) -> CacheError:
    remedy = (
        "make room there, or set a smaller cache limit" if error.errno in FULL else "name a folder that can be written"
    )
    return CacheError(f"cannot keep shards in {folder}: {error.strerror or error}; {remedy}", path=str(folder))


def _same(before: os.stat_result | None, now: os.stat_result) -> bool:
    return before is not None and all(
        getattr(before, name) == getattr(now, name) for name in ("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    )
